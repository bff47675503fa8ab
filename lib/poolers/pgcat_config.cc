#include "lib/poolers/pgcat_config.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string_view>
#include <tuple>

namespace pgtier::poolers {
namespace {

constexpr int kHighestPort = 65535;
constexpr char kMarkPrefix[] = "pgtier_";

Error Refused(const std::string& what, const std::string& why) {
  return MakeError(Code::kInvalidArgument, "pgcat: " + what + " " + why);
}

// Length of the UTF-8 sequence that starts at `at`, 0 where there is none (RFC 3629: no overlong forms, no surrogates).
size_t SequenceLength(std::string_view text, size_t at) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  auto follows = [&](size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  unsigned lead = byte(at);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF && follows(at + 1)) return 2;
  if (lead >= 0xE0 && lead <= 0xEF && follows(at + 1) && follows(at + 2)) {
    bool overlong = lead == 0xE0 && byte(at + 1) < 0xA0;
    bool surrogate = lead == 0xED && byte(at + 1) > 0x9F;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4 && follows(at + 1) && follows(at + 2) && follows(at + 3)) {
    bool overlong = lead == 0xF0 && byte(at + 1) < 0x90;
    bool beyond = lead == 0xF4 && byte(at + 1) > 0x8F;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

// A TOML basic string (TOML 1.0, "String"): quotes, backslashes and control characters are escaped.
Result<std::string> Quote(const std::string& what, const std::string& text) {
  std::string quoted = "\"";
  for (size_t i = 0; i < text.size();) {
    size_t length = SequenceLength(text, i);
    // The text is not shown: it may be a password.
    if (length == 0) return Refused(what, "is no UTF-8");
    auto c = static_cast<unsigned char>(text[i]);
    if (c == 0) return Refused(what, "has a zero byte");
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += text[i];
    } else if (c < 0x20 || c == 0x7F) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04X", static_cast<unsigned>(c));
      quoted += escape.data();
    } else {
      quoted.append(text, i, length);
    }
    i += length;
  }
  return quoted + "\"";
}

// Writes lines of one file; the first fault is kept, so that what follows reads as a list.
class TomlWriter {
 public:
  void Section(const std::vector<std::string>& path) {
    std::string line = "[";
    for (const std::string& part : path) line += (line.size() > 1 ? "." : "") + Quoted("a name", part);
    text_ += (text_.empty() ? "" : "\n") + line + "]\n";
  }
  void Text(const char* key, const std::string& value) { Line(key, Quoted(key, value)); }
  // Left out where empty: PgCat takes an empty text for a value.
  void OptionalText(const char* key, const std::string& value) {
    if (!value.empty()) Text(key, value);
  }
  void Number(const char* key, int64_t value, int64_t low = 0, int64_t high = INT32_MAX) {
    if (value < low || value > high) {
      Fail(Refused(
          key, "is " + std::to_string(value) + ", not from " + std::to_string(low) + " to " + std::to_string(high)));
    }
    Line(key, std::to_string(value));
  }
  void Time(const char* key, std::chrono::milliseconds value) { Number(key, value.count()); }
  void Flag(const char* key, bool value) { Line(key, value ? "true" : "false"); }
  void Choice(const char* key, const std::string& value, std::initializer_list<const char*> choices) {
    bool known = std::any_of(choices.begin(), choices.end(), [&](const char* each) { return value == each; });
    if (!known) Fail(Refused(key, "is none of PgCat's choices"));
    Text(key, value);
  }
  void Servers(const std::vector<Server>& servers) {
    text_ += "servers = [\n";
    for (const Server& server : servers) {
      text_ += "  [" + Quoted("a host", server.host) + ", " + std::to_string(server.port) + ", \"" +
               (server.role == ServerRole::kPrimary ? "primary" : "replica") + "\"],\n";
    }
    text_ += "]\n";
  }
  void Fail(Error error) {
    if (!fault_.has_value()) fault_ = std::move(error);
  }
  Result<std::string> Take() && {
    if (fault_.has_value()) return *std::move(fault_);
    return std::move(text_);
  }

 private:
  std::string Quoted(const std::string& what, const std::string& value) {
    Result<std::string> quoted = Quote(what, value);
    if (quoted.has_value()) return *std::move(quoted);
    Fail(std::move(quoted).error());
    return "\"\"";
  }
  void Line(const char* key, const std::string& value) { text_ += std::string(key) + " = " + value + "\n"; }

  std::string text_;
  std::optional<Error> fault_;
};

// A name or an address: BAN takes the host as one word of its command.
bool IsHost(const std::string& host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
           c == '_' || c == ':';
  });
}

Status CheckPool(const PgCatPool& pool) {
  if (pool.name.empty()) return Refused("a pool", "has no name");
  if (pool.name == "pgcat" || pool.name == "pgbouncer") return Refused("pool " + pool.name, "has the console's name");
  if (pool.name.starts_with(kMarkPrefix))
    return Refused("pool " + pool.name, "has a name that pgtier keeps for itself");
  if (pool.servers.empty()) return Refused("pool " + pool.name, "has no server");
  std::set<std::tuple<std::string, int, ServerRole>> named;
  int primaries = 0;
  for (const Server& server : pool.servers) {
    if (!IsHost(server.host)) return Refused("pool " + pool.name, "has a host that is no name or address");
    if (server.port < 1 || server.port > kHighestPort) return Refused("pool " + pool.name, "has a port out of range");
    if (!named.insert({server.host, server.port, server.role}).second)
      return Refused("pool " + pool.name, "has a server twice");
    if (server.role == ServerRole::kPrimary) ++primaries;
  }
  if (primaries > 1) return Refused("pool " + pool.name, "has two primaries");
  if (pool.users.empty()) return Refused("pool " + pool.name, "has no user");
  std::set<std::string> users;
  for (const PgCatUser& user : pool.users) {
    if (user.username.empty()) return Refused("pool " + pool.name, "has a user without a name");
    if (!users.insert(user.username).second) return Refused("pool " + pool.name, "has a user twice");
    if (user.min_pool_size > user.pool_size) {
      return Refused("pool " + pool.name, "has a min_pool_size above its pool_size");
    }
    if (user.password.empty() && pool.auth_query.empty()) {
      return Refused("pool " + pool.name, "has a user without a password, and no auth_query");
    }
  }
  return {};
}

void WriteGeneral(TomlWriter& toml, const PgCatSettings& s) {
  toml.Section({"general"});
  toml.Text("host", s.listen_host);
  toml.Number("port", s.listen_port, 1, kHighestPort);
  toml.Flag("enable_prometheus_exporter", false);
  toml.Number("worker_threads", s.worker_threads, 1, 256);
  toml.Time("connect_timeout", s.connect_timeout);
  toml.Time("idle_timeout", s.idle_timeout);
  toml.Time("server_lifetime", s.server_lifetime);
  toml.Time("idle_client_in_transaction_timeout", s.idle_in_transaction_timeout);
  toml.Time("healthcheck_timeout", s.healthcheck_timeout);
  toml.Time("healthcheck_delay", s.healthcheck_delay);
  toml.Number("ban_time", s.ban_time.count());
  toml.Time("shutdown_timeout", s.shutdown_timeout);
  // Server connections are taken in turn: none of them idles away while there is work.
  toml.Flag("server_round_robin", true);
  // A server that is down must not keep PgCat from starting, nor from taking a new configuration.
  toml.Flag("validate_config", false);
  toml.Flag("dns_cache_enabled", false);
  toml.Number("tcp_keepalives_idle", s.tcp_keepalives_idle, 1);
  toml.Number("tcp_keepalives_count", s.tcp_keepalives_count, 1);
  toml.Number("tcp_keepalives_interval", s.tcp_keepalives_interval, 1);
  toml.Flag("log_client_connections", s.log_client_connections);
  toml.Flag("log_client_disconnections", s.log_client_disconnections);
  toml.OptionalText("tls_certificate", s.tls_certificate);
  toml.OptionalText("tls_private_key", s.tls_private_key);
  toml.Flag("server_tls", s.server_tls);
  toml.Flag("verify_server_certificate", s.verify_server_certificate);
  toml.Text("admin_username", s.admin_username);
  toml.Text("admin_password", s.admin_password);
  toml.Text("admin_auth_type", "md5");
}

void WriteUser(TomlWriter& toml, const PgCatPool& pool, size_t index) {
  const PgCatUser& user = pool.users[index];
  toml.Section({"pools", pool.name, "users", std::to_string(index)});
  toml.Text("username", user.username);
  toml.OptionalText("password", user.password);
  toml.Text("auth_type", "md5");
  toml.OptionalText("server_username", user.server_username);
  toml.OptionalText("server_password", user.server_password);
  toml.Number("pool_size", user.pool_size, 1);
  toml.Number("min_pool_size", user.min_pool_size);
  toml.Choice("pool_mode", pool.pool_mode, {"session", "transaction"});
  toml.Time("connect_timeout", pool.connect_timeout);
  toml.Time("idle_timeout", pool.idle_timeout);
  toml.Time("server_lifetime", pool.server_lifetime);
  toml.Number("statement_timeout", 0);
}

void WritePool(TomlWriter& toml, const PgCatPool& pool) {
  toml.Section({"pools", pool.name});
  toml.Choice("pool_mode", pool.pool_mode, {"session", "transaction"});
  toml.Choice("load_balancing_mode", pool.load_balancing_mode, {"loc", "random"});
  toml.Choice("default_role", pool.default_role, {"primary", "replica", "any"});
  toml.Flag("query_parser_enabled", pool.splits);
  toml.Flag("query_parser_read_write_splitting", pool.splits);
  toml.Flag("primary_reads_enabled", pool.primary_reads);
  toml.Time("connect_timeout", pool.connect_timeout);
  toml.Time("idle_timeout", pool.idle_timeout);
  toml.Time("server_lifetime", pool.server_lifetime);
  toml.Number("prepared_statements_cache_size", pool.prepared_statements);
  toml.Flag("cleanup_server_connections", pool.clean_up_servers);
  toml.Text("sharding_function", "pg_bigint_hash");
  toml.OptionalText("auth_query", pool.auth_query);
  toml.OptionalText("auth_query_user", pool.auth_query_user);
  toml.OptionalText("auth_query_password", pool.auth_query_password);
  for (size_t i = 0; i < pool.users.size(); ++i) WriteUser(toml, pool, i);
  toml.Section({"pools", pool.name, "shards", "0"});
  toml.Text("database", pool.database.empty() ? pool.name : pool.database);
  toml.Servers(pool.servers);
}

// All of the file but its mark.
Result<std::string> RenderBody(const PgCatSettings& settings) {
  if (settings.admin_username.empty() || settings.admin_password.empty()) {
    return Refused("admin_username", "or admin_password is empty");
  }
  TomlWriter toml;
  WriteGeneral(toml, settings);
  std::set<std::string> names;
  for (const PgCatPool& pool : settings.pools) {
    PGTIER_RETURN_IF_ERROR(CheckPool(pool));
    if (!names.insert(pool.name).second) return Refused("pool " + pool.name, "is there twice");
    WritePool(toml, pool);
  }
  return std::move(toml).Take();
}

// FNV-1a: the same on every machine and in every release.
std::string MarkOf(const std::string& body) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (unsigned char c : body) hash = (hash ^ c) * 0x100000001b3ULL;
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
  return std::string(kMarkPrefix) + text.data();
}

}  // namespace

std::string PgCatAddressName(const PgCatPool& pool, size_t server) {
  if (pool.servers[server].role == ServerRole::kPrimary) return pool.name + "_shard_0_primary";
  auto before = std::count_if(pool.servers.begin(), pool.servers.begin() + static_cast<std::ptrdiff_t>(server),
                              [](const Server& each) { return each.role == ServerRole::kReplica; });
  return pool.name + "_shard_0_replica_" + std::to_string(before);
}

Result<std::string> PgCatMark(const PgCatSettings& settings) {
  PGTIER_ASSIGN_OR_RETURN(std::string body, RenderBody(settings));
  return MarkOf(body);
}

Result<std::string> RenderToml(const PgCatSettings& settings) {
  PGTIER_ASSIGN_OR_RETURN(std::string body, RenderBody(settings));
  // Nobody is a user of it, so PgCat opens no connection for it and answers nobody who asks for it.
  TomlWriter toml;
  std::string mark = MarkOf(body);
  toml.Section({"pools", mark});
  toml.Section({"pools", mark, "users"});
  toml.Section({"pools", mark, "shards", "0"});
  toml.Text("database", mark);
  toml.Servers({{"localhost", 1, 1, ServerRole::kPrimary}});
  PGTIER_ASSIGN_OR_RETURN(std::string tail, std::move(toml).Take());
  return body + "\n" + tail;
}

}  // namespace pgtier::poolers
