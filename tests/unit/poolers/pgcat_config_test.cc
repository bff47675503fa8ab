#include "lib/poolers/pgcat_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace pgtier::poolers {
namespace {

using testing::HasSubstr;
using testing::Not;

PgCatSettings SplitPool() {
  PgCatPool pool;
  pool.name = pool.database = "kyoyu";
  pool.servers = {{"kyoyu-primary.data.svc", 5432, 1, ServerRole::kPrimary},
                  {"kyoyu-2.data.svc", 5432, 1, ServerRole::kReplica}};
  PgCatUser user;
  user.username = "kyoyu";
  user.password = "secret";
  pool.users = {user};
  pool.splits = true;
  PgCatSettings settings;
  settings.admin_username = "pgtier_admin";
  settings.admin_password = "admin's";
  settings.pools = {pool};
  return settings;
}

TEST(RenderToml, WritesEveryKeyThatItMeans) {
  Result<std::string> toml = RenderToml(SplitPool());
  ASSERT_TRUE(toml.has_value()) << toml.error().message;
  std::string mark = *PgCatMark(SplitPool());
  EXPECT_EQ(*toml, R"(["general"]
host = "0.0.0.0"
port = 5432
enable_prometheus_exporter = false
worker_threads = 4
connect_timeout = 5000
idle_timeout = 300000
server_lifetime = 3600000
idle_client_in_transaction_timeout = 0
healthcheck_timeout = 1000
healthcheck_delay = 30000
ban_time = 10
shutdown_timeout = 5000
server_round_robin = true
validate_config = false
dns_cache_enabled = false
tcp_keepalives_idle = 5
tcp_keepalives_count = 5
tcp_keepalives_interval = 5
log_client_connections = false
log_client_disconnections = false
server_tls = false
verify_server_certificate = false
admin_username = "pgtier_admin"
admin_password = "admin's"
admin_auth_type = "md5"

["pools"."kyoyu"]
pool_mode = "transaction"
load_balancing_mode = "loc"
default_role = "primary"
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = false
connect_timeout = 5000
idle_timeout = 300000
server_lifetime = 3600000
prepared_statements_cache_size = 200
cleanup_server_connections = true
sharding_function = "pg_bigint_hash"

["pools"."kyoyu"."users"."0"]
username = "kyoyu"
password = "secret"
auth_type = "md5"
pool_size = 60
min_pool_size = 10
pool_mode = "transaction"
connect_timeout = 5000
idle_timeout = 300000
server_lifetime = 3600000
statement_timeout = 0

["pools"."kyoyu"."shards"."0"]
database = "kyoyu"
servers = [
  ["kyoyu-primary.data.svc", 5432, "primary"],
  ["kyoyu-2.data.svc", 5432, "replica"],
]

["pools".")" + mark + R"("]

["pools".")" + mark + R"("."users"]

["pools".")" + mark + R"("."shards"."0"]
database = ")" + mark + R"("
servers = [
  ["localhost", 1, "primary"],
]
)");
}

TEST(RenderToml, TheMarkIsOfTheWholeFile) {
  std::string mark = *PgCatMark(SplitPool());
  EXPECT_EQ(*PgCatMark(SplitPool()), mark);
  const std::function<void(PgCatSettings&)> changes[] = {[](auto& s) { s.worker_threads = 5; },
                                                         [](auto& s) { s.server_tls = true; },
                                                         [](auto& s) { s.pools[0].prepared_statements = 1; },
                                                         [](auto& s) { s.pools[0].users[0].password = "another"; },
                                                         [](auto& s) { s.admin_password = "another"; },
                                                         [](auto& s) { s.pools[0].servers[1].port = 5433; }};
  for (const auto& change : changes) {
    PgCatSettings settings = SplitPool();
    change(settings);
    EXPECT_NE(*PgCatMark(settings), mark);
  }
}

TEST(RenderToml, RefusesWhatPgCatOrThisFileCannotHold) {
  const std::pair<const char*, std::function<void(PgCatSettings&)>> cases[] = {
      {"zero byte in a name", [](auto& s) { s.pools[0].name = std::string("a\0b", 3); }},
      {"zero byte in a password", [](auto& s) { s.pools[0].users[0].password = std::string("a\0", 2); }},
      {"half a character", [](auto& s) { s.pools[0].users[0].password = "\xC3"; }},
      {"overlong quote", [](auto& s) { s.pools[0].users[0].password = "\xC0\xA2"; }},
      {"surrogate", [](auto& s) { s.pools[0].name = "\xED\xA0\x80"; }},
      {"beyond Unicode", [](auto& s) { s.pools[0].name = "\xF4\x90\x80\x80"; }},
      {"latin1", [](auto& s) { s.admin_password = "caf\xE9"; }},
      {"console's name", [](auto& s) { s.pools[0].name = "pgcat"; }},
      {"console's other name", [](auto& s) { s.pools[0].name = "pgbouncer"; }},
      {"a mark's name", [](auto& s) { s.pools[0].name = "pgtier_1"; }},
      {"no name", [](auto& s) { s.pools[0].name = ""; }},
      {"twice", [](auto& s) { s.pools.push_back(s.pools[0]); }},
      {"no server", [](auto& s) { s.pools[0].servers.clear(); }},
      {"a server twice", [](auto& s) { s.pools[0].servers.push_back(s.pools[0].servers[1]); }},
      {"two primaries", [](auto& s) { s.pools[0].servers[1].role = ServerRole::kPrimary; }},
      {"blank in a host", [](auto& s) { s.pools[0].servers[0].host = "a b"; }},
      {"quote in a host", [](auto& s) { s.pools[0].servers[0].host = "a\""; }},
      {"port", [](auto& s) { s.pools[0].servers[0].port = 0; }},
      {"no user", [](auto& s) { s.pools[0].users.clear(); }},
      {"nameless user", [](auto& s) { s.pools[0].users[0].username = ""; }},
      {"a user twice", [](auto& s) { s.pools[0].users.push_back(s.pools[0].users[0]); }},
      {"no way to log in", [](auto& s) { s.pools[0].users[0].password = ""; }},
      {"sizes", [](auto& s) { s.pools[0].users[0].min_pool_size = 61; }},
      {"no size", [](auto& s) { s.pools[0].users[0].pool_size = s.pools[0].users[0].min_pool_size = 0; }},
      {"pool mode", [](auto& s) { s.pools[0].pool_mode = "statement"; }},
      {"balancing", [](auto& s) { s.pools[0].load_balancing_mode = "round-robin"; }},
      {"role", [](auto& s) { s.pools[0].default_role = "auto"; }},
      {"no admin", [](auto& s) { s.admin_password = ""; }},
      {"negative time", [](auto& s) { s.idle_timeout = std::chrono::milliseconds(-1); }},
      {"listening port", [](auto& s) { s.listen_port = 70000; }},
  };
  for (const auto& [what, spoil] : cases) {
    PgCatSettings settings = SplitPool();
    spoil(settings);
    Result<std::string> toml = RenderToml(settings);
    ASSERT_FALSE(toml.has_value()) << what;
    EXPECT_EQ(toml.error().code, Code::kInvalidArgument) << what;
    EXPECT_THAT(toml.error().message, Not(HasSubstr("\n"))) << what;
  }
}

// A basic string of TOML 1.0, read by its grammar; `at` is left behind it. Nothing where it is none.
std::optional<std::string> ReadString(const std::string& text, size_t& at) {
  if (at >= text.size() || text[at] != '"') return std::nullopt;
  std::string value;
  for (++at; at < text.size(); ++at) {
    auto c = static_cast<unsigned char>(text[at]);
    if (c == '"') {
      ++at;
      return value;
    }
    if (c < 0x20 || c == 0x7F) return std::nullopt;
    if (c != '\\') {
      value += text[at];
      continue;
    }
    char escape = text[++at];
    if (escape == '"' || escape == '\\') {
      value += escape;
    } else if (escape == 'u') {
      value += static_cast<char>(std::stoi(text.substr(at + 1, 4), nullptr, 16));
      at += 4;
    } else {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

std::optional<std::string> ValueOf(const std::string& toml, const std::string& line_start) {
  size_t at = toml.find("\n" + line_start);
  if (at == std::string::npos) return std::nullopt;
  at += 1 + line_start.size();
  std::optional<std::string> value = ReadString(toml, at);
  // Nothing but the line's end may follow.
  return value.has_value() && (toml[at] == '\n' || toml[at] == ']' || toml[at] == '.') ? value : std::nullopt;
}

TEST(RenderToml, HostileTextComesBackAsItWas) {
  const std::string pieces[] = {"\"",
                                "\\",
                                "\n",
                                "\r",
                                "\t",
                                "'",
                                "'''",
                                "\"\"\"",
                                "]",
                                "[",
                                "=",
                                "#",
                                "$1",
                                "{",
                                "}",
                                ".",
                                ",",
                                " ",
                                "\x01",
                                "\x1f",
                                "\x7f",
                                "é",
                                "日",
                                "😀",
                                "\\u0022",
                                "\\\"",
                                "a",
                                "Z",
                                "0",
                                "[general]",
                                "admin_password = \"x\"",
                                "%include",
                                ";"};
  std::mt19937 random(7);  // The same at every run.
  auto text = [&] {
    std::string all;
    for (size_t i = 0; i <= random() % 12; ++i) all += pieces[random() % std::size(pieces)];
    return all;
  };
  size_t lines = 0;
  for (int i = 0; i < 3000; ++i) {
    PgCatSettings settings = SplitPool();
    PgCatPool& pool = settings.pools[0];
    pool.name = text();
    pool.database = text();
    pool.users[0].username = text();
    pool.users[0].password = text();
    settings.admin_password = text();
    Result<std::string> toml = RenderToml(settings);
    ASSERT_TRUE(toml.has_value()) << toml.error().message;
    EXPECT_EQ(ValueOf(*toml, "[\"pools\"."), pool.name);
    EXPECT_EQ(ValueOf(*toml, "database = "), pool.database);
    EXPECT_EQ(ValueOf(*toml, "username = "), pool.users[0].username);
    EXPECT_EQ(ValueOf(*toml, "password = "), pool.users[0].password);
    EXPECT_EQ(ValueOf(*toml, "admin_password = "), settings.admin_password);
    auto count = static_cast<size_t>(std::count(toml->begin(), toml->end(), '\n'));
    if (lines == 0) lines = count;
    EXPECT_EQ(count, lines) << "a text made a line of its own: " << *toml;
  }
}

std::vector<ConfigEntry> RunningConfig(const PgCatSettings& settings) {
  return {{"host", "0.0.0.0", "-", false},
          {"port", "5432", "-", false},
          {"connect_timeout", "5000", "-", false},
          {"idle_timeout", "300000", "-", true},
          {"healthcheck_timeout", "1000", "-", true},
          {"healthcheck_delay", "30000", "-", true},
          {"shutdown_timeout", "5000", "-", true},
          {"ban_time", "10", "-", true},
          {"prometheus_exporter_port", "9930", "-", true},
          {"idle_client_in_transaction_timeout", "0", "-", true},
          {"pools.kyoyu.pool_mode", "transaction", "-", true},
          {"pools.kyoyu.load_balancing_mode", "least_outstanding_connections", "-", true},
          {"pools.kyoyu.default_role", "primary", "-", true},
          {"pools.kyoyu.query_parser_enabled", "true", "-", true},
          {"pools.kyoyu.query_parser_read_write_splitting", "true", "-", true},
          {"pools.kyoyu.primary_reads_enabled", "false", "-", true},
          {"pools." + *PgCatMark(settings) + ".pool_mode", "transaction", "-", true}};
}

DatabaseStats Row(const std::string& name, const std::string& host) {
  DatabaseStats row;
  row.name = name;
  row.host = host;
  row.port = 5432;
  row.database = row.force_user = "kyoyu";
  row.pool_size = 60;
  row.min_pool_size = 10;
  row.pool_mode = "transaction";
  return row;
}

std::vector<DatabaseStats> RunningServers() {
  return {Row("kyoyu_shard_0_replica_0", "kyoyu-2.data.svc"), Row("kyoyu_shard_0_primary", "kyoyu-primary.data.svc")};
}

std::vector<std::string> What(const PgCatSettings& settings, const std::vector<ConfigEntry>& config,
                              const std::vector<DatabaseStats>& servers) {
  std::vector<std::string> what;
  Result<std::vector<Difference>> differences = CompareWithRunning(settings, config, servers);
  for (const Difference& each : *differences) what.push_back(each.what);
  return what;
}

TEST(ComparePgCat, AgreesWithWhatWasRendered) {
  EXPECT_THAT(What(SplitPool(), RunningConfig(SplitPool()), RunningServers()), testing::IsEmpty());
}

TEST(ComparePgCat, NamesWhatDiffers) {
  std::vector<ConfigEntry> config = RunningConfig(SplitPool());
  config[10].value = "session";
  config.erase(config.begin() + 7);
  EXPECT_THAT(What(SplitPool(), config, RunningServers()), testing::ElementsAre("ban_time", "pools.kyoyu.pool_mode"));
  std::vector<DatabaseStats> servers = RunningServers();
  servers[0].host = "elsewhere";
  servers.push_back(Row("old_shard_0_primary", "x"));
  EXPECT_THAT(What(SplitPool(), RunningConfig(SplitPool()), servers),
              testing::ElementsAre("server kyoyu_shard_0_replica_0", "server old_shard_0_primary"));
  EXPECT_THAT(What(SplitPool(), RunningConfig(SplitPool()), {RunningServers()[1]}),
              testing::ElementsAre("server kyoyu_shard_0_replica_0"));
}

TEST(ComparePgCat, WhatPgCatDoesNotShowIsSeenByTheMark) {
  PgCatSettings settings = SplitPool();
  settings.pools[0].users[0].password = "rotated";
  EXPECT_THAT(What(settings, RunningConfig(SplitPool()), RunningServers()),
              testing::ElementsAre("the file as a whole"));
}

TEST(ComparePgCat, AHostThatMustBeStartedAnewSaysSo) {
  PgCatSettings settings = SplitPool();
  settings.listen_port = 6432;
  Result<std::vector<Difference>> differences = CompareWithRunning(settings, RunningConfig(settings), RunningServers());
  ASSERT_EQ(differences->size(), 1U);
  EXPECT_TRUE(differences->front().needs_restart);
}

}  // namespace
}  // namespace pgtier::poolers
