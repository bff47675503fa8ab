#include "lib/poolers/pgbouncer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace pgtier::poolers {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PgBouncerSettings OneDatabase() {
  PgBouncerSettings settings;
  PgBouncerDatabase database;
  database.name = "kyoyu";
  database.hosts = {"kyoyu-primary"};
  settings.databases = {database};
  return settings;
}

TEST(RenderIni, HoldsTheDefaultsOfTheFirstTier) {
  auto settings = OneDatabase();
  settings.auth_file = "/etc/pgbouncer/userlist.txt";
  settings.admin_users = {"pgtier", "dba"};
  auto ini = RenderIni(settings);
  ASSERT_TRUE(ini.has_value()) << ini.error().message;
  EXPECT_EQ(*ini, R"([databases]
kyoyu = host=kyoyu-primary port=5432

[pgbouncer]
listen_addr = *
listen_port = 5432
unix_socket_dir =
pool_mode = transaction
max_client_conn = 2000
default_pool_size = 50
min_pool_size = 10
reserve_pool_size = 10
server_idle_timeout = 300
server_login_retry = 0.1
server_check_delay = 30
max_prepared_statements = 200
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/userlist.txt
admin_users = pgtier,dba
ignore_startup_parameters = extra_float_digits
application_name_add_host = 0
tcp_keepalive = 1
log_connections = 0
log_disconnections = 0
)");
}

TEST(RenderIni, WeightsHostsByRepetition) {
  auto settings = OneDatabase();
  settings.databases[0].hosts = {"a", "b", "b"};
  settings.databases[0].pool_size = 20;
  settings.databases[0].reserve_pool_size = 0;
  EXPECT_THAT(*RenderIni(settings), HasSubstr("kyoyu = host=a,b,b port=5432 load_balance_hosts=round-robin "
                                              "pool_size=20 reserve_pool_size=0\n"));
}

TEST(RenderIni, QuotesWhatAConnectStringCanQuote) {
  auto settings = OneDatabase();
  settings.databases[0].dbname = "it's; # a %db\\";
  settings.databases[0].auth_query = "SELECT u, p FROM f('x', $1)";
  EXPECT_THAT(*RenderIni(settings),
              HasSubstr(" dbname='it''s; # a %db\\' auth_query='SELECT u, p FROM f(''x'', $1)'\n"));
}

TEST(RenderIni, RefusesWhatWouldInject) {
  const std::pair<const char*, std::function<void(PgBouncerSettings&)>> cases[] = {
      {"newline in dbname", [](auto& s) { s.databases[0].dbname = "x\n[pgbouncer]\nauth_type=any"; }},
      {"newline in auth_query", [](auto& s) { s.auth_query = "SELECT 1\nadmin_users = evil"; }},
      {"return in auth_query", [](auto& s) { s.auth_query = "SELECT 1\radmin_users = evil"; }},
      {"zero byte", [](auto& s) { s.databases[0].dbname = std::string("a\0b", 3); }},
      {"include", [](auto& s) { s.databases[0].name = "%include /etc/shadow"; }},
      {"section as name", [](auto& s) { s.databases[0].name = "[x]"; }},
      {"comment as name", [](auto& s) { s.databases[0].name = ";x"; }},
      {"quote in name", [](auto& s) { s.databases[0].name = "a\"b"; }},
      {"empty name", [](auto& s) { s.databases[0].name = ""; }},
      {"name too long", [](auto& s) { s.databases[0].name = std::string(64, 'a'); }},
      {"console's name", [](auto& s) { s.databases[0].name = "pgbouncer"; }},
      {"blank in host", [](auto& s) { s.databases[0].hosts = {"a port=1"}; }},
      {"comma in host", [](auto& s) { s.databases[0].hosts = {"a,b"}; }},
      {"no host", [](auto& s) { s.databases[0].hosts = {}; }},
      {"quote in host", [](auto& s) { s.databases[0].hosts = {"a'"}; }},
      {"comma in admin", [](auto& s) { s.admin_users = {"a,b"}; }},
      {"blank in admin", [](auto& s) { s.admin_users = {"a b"}; }},
      {"newline in admin", [](auto& s) { s.admin_users = {"a\nb"}; }},
      {"empty admin", [](auto& s) { s.admin_users = {""}; }},
      {"blank at end", [](auto& s) { s.auth_user = "x "; }},
      {"pool mode", [](auto& s) { s.pool_mode = "sessions"; }},
      {"database's pool mode", [](auto& s) { s.databases[0].pool_mode = "x"; }},
      {"auth type", [](auto& s) { s.auth_type = "none"; }},
      {"ssl mode", [](auto& s) { s.server_tls_sslmode = "yes"; }},
      {"port", [](auto& s) { s.listen_port = 70000; }},
      {"database's port", [](auto& s) { s.databases[0].port = 0; }},
      {"pool size", [](auto& s) { s.default_pool_size = 0; }},
      {"negative time", [](auto& s) { s.server_idle_timeout = std::chrono::seconds(-1); }},
      {"twice", [](auto& s) { s.databases.push_back(s.databases[0]); }},
  };
  for (const auto& [what, spoil] : cases) {
    auto settings = OneDatabase();
    spoil(settings);
    auto ini = RenderIni(settings);
    ASSERT_FALSE(ini.has_value()) << what << "\n" << *ini;
    EXPECT_EQ(ini.error().code, Code::kInvalidArgument) << what;
    EXPECT_THAT(ini.error().message, Not(HasSubstr("\n"))) << what;
  }
}

TEST(RenderIni, LeavesSemicolonsAndPercentSignsInsideALine) {
  auto settings = OneDatabase();
  settings.auth_query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE '%' || $1; -- # x";
  EXPECT_THAT(*RenderIni(settings), HasSubstr("auth_query = " + settings.auth_query + "\n"));
}

TEST(RenderUserlist, QuotesAndOrders) {
  auto list = RenderUserlist({{"b", "p"}, {"a\"x", "SCRAM-SHA-256$4096:s\"alt$k:k"}});
  ASSERT_TRUE(list.has_value());
  EXPECT_EQ(*list, "\"a\"\"x\" \"SCRAM-SHA-256$4096:s\"\"alt$k:k\"\n\"b\" \"p\"\n");
}

TEST(RenderUserlist, RefusesWithoutShowingThePassword) {
  for (const auto& [user, password] : std::map<std::string, std::string>{{"a", "secret\n\"evil\" \"x\""},
                                                                         {"b", std::string("secret\0", 7)},
                                                                         {"c", "secret" + std::string(2048, 'x')},
                                                                         {"d", "secret" + std::string(1022, '"')},
                                                                         {std::string(128, 'e'), "secret"},
                                                                         {"", "secret"},
                                                                         {"f\r", "secret"}}) {
    auto list = RenderUserlist({{user, password}});
    ASSERT_FALSE(list.has_value()) << user;
    EXPECT_EQ(list.error().code, Code::kInvalidArgument);
    EXPECT_THAT(list.error().message, Not(HasSubstr("secret")));
  }
}

}  // namespace
}  // namespace pgtier::poolers
