#include <gtest/gtest.h>

#include "lib/poolers/pgbouncer_config.h"

namespace pgtier::poolers {
namespace {

PgBouncerSettings Wanted() {
  PgBouncerSettings settings;
  PgBouncerDatabase database;
  database.name = "kyoyu";
  database.hosts = {"a", "b"};
  database.pool_size = 20;
  settings.databases = {database};
  return settings;
}

// What a PgBouncer with these settings would show, as far as the tests need it.
std::vector<ConfigEntry> RunningConfig() {
  return {{"listen_addr", "*", "", false},
          {"listen_port", "5432", "6432", false},
          {"unix_socket_dir", "", "/tmp", false},
          {"pool_mode", "transaction", "session", true},
          {"max_client_conn", "2000", "100", true},
          {"default_pool_size", "50", "20", true},
          {"min_pool_size", "10", "0", true},
          {"reserve_pool_size", "10", "0", true},
          {"server_idle_timeout", "300", "600", true},
          {"server_login_retry", "0.1", "15", true},
          {"server_check_delay", "30", "30", true},
          {"max_prepared_statements", "200", "200", true},
          {"auth_type", "scram-sha-256", "md5", true},
          {"ignore_startup_parameters", "extra_float_digits", "", true},
          {"application_name_add_host", "0", "0", true},
          {"tcp_keepalive", "1", "1", true},
          {"log_connections", "0", "1", true},
          {"log_disconnections", "0", "1", true},
          {"server_tls_sslmode", "prefer", "prefer", true},
          {"something_new", "1", "0", true}};
}

std::vector<DatabaseStats> RunningDatabases() {
  DatabaseStats kyoyu;
  kyoyu.name = kyoyu.database = "kyoyu";
  kyoyu.host = "a,b";
  kyoyu.port = 5432;
  kyoyu.pool_size = 20;
  DatabaseStats console;
  console.name = "pgbouncer";
  return {kyoyu, console};
}

TEST(CompareWithRunning, AgreesWithWhatWasRendered) {
  auto differences = CompareWithRunning(Wanted(), RunningConfig(), RunningDatabases());
  ASSERT_TRUE(differences.has_value());
  EXPECT_TRUE(differences->empty()) << differences->front().what;
}

TEST(CompareWithRunning, NamesValuesThatDiffer) {
  auto config = RunningConfig();
  config[1].value = "6432";
  config[5].value = "25";
  config[18].value = "require";  // was set by an older file; now the default is wanted
  auto differences = CompareWithRunning(Wanted(), config, RunningDatabases());
  ASSERT_EQ(differences->size(), 3U);
  EXPECT_EQ((*differences)[0].what, "listen_port");
  EXPECT_TRUE((*differences)[0].needs_restart);
  EXPECT_EQ((*differences)[1].what, "default_pool_size");
  EXPECT_EQ((*differences)[1].wanted, "50");
  EXPECT_EQ((*differences)[1].running, "25");
  EXPECT_FALSE((*differences)[1].needs_restart);
  EXPECT_EQ((*differences)[2].what, "server_tls_sslmode");
  EXPECT_EQ((*differences)[2].wanted, "prefer");
}

TEST(CompareWithRunning, ReadsDurationsAsNumbers) {
  auto config = RunningConfig();
  config[8].value = "300.0";
  EXPECT_TRUE(CompareWithRunning(Wanted(), config, RunningDatabases())->empty());
}

TEST(CompareWithRunning, NamesASettingThatTheVersionLacks) {
  auto config = RunningConfig();
  config.erase(config.begin() + 11);
  auto differences = CompareWithRunning(Wanted(), config, RunningDatabases());
  ASSERT_EQ(differences->size(), 1U);
  EXPECT_EQ(differences->front().what, "max_prepared_statements");
}

TEST(CompareWithRunning, ComparesDatabases) {
  auto databases = RunningDatabases();
  databases[0].host = "a";
  databases[0].pool_size = 21;
  DatabaseStats stray;
  stray.name = "stray";
  stray.host = "z";
  databases.push_back(stray);
  auto differences = CompareWithRunning(Wanted(), RunningConfig(), databases);
  ASSERT_EQ(differences->size(), 3U);
  EXPECT_EQ((*differences)[0].what, "database kyoyu: host");
  EXPECT_EQ((*differences)[0].wanted, "a,b");
  EXPECT_EQ((*differences)[1].what, "database kyoyu: pool_size");
  EXPECT_EQ((*differences)[2].what, "database stray");
  auto missing = CompareWithRunning(Wanted(), RunningConfig(), {});
  ASSERT_EQ(missing->size(), 1U);
  EXPECT_EQ(missing->front().what, "database kyoyu");
}

TEST(CompareWithRunning, ComparesDatabasesMadeFromTheWildcard) {
  auto settings = Wanted();
  settings.databases[0].name = "*";
  EXPECT_TRUE(CompareWithRunning(settings, RunningConfig(), RunningDatabases())->empty());
  EXPECT_TRUE(CompareWithRunning(settings, RunningConfig(), {})->empty());
  auto databases = RunningDatabases();
  databases[0].host = "old";
  EXPECT_EQ(CompareWithRunning(settings, RunningConfig(), databases)->size(), 1U);
}

TEST(CompareWithRunning, RefusesSettingsThatCanNotBeRendered) {
  auto settings = Wanted();
  settings.pool_mode = "x";
  EXPECT_FALSE(CompareWithRunning(settings, RunningConfig(), RunningDatabases()).has_value());
}

}  // namespace
}  // namespace pgtier::poolers
