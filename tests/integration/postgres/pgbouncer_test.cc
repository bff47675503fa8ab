#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/postgres/pooler_test_base.h"

namespace pgtier::poolers {
namespace {

using ::testing::HasSubstr;
using testing::Soon;

class PgBouncerTest : public testing::WithPooler {};

std::string Describe(const std::vector<Difference>& differences) {
  std::string text;
  for (const auto& one : differences) text += one.what + ": " + one.wanted + " / " + one.running + "\n";
  return text;
}

TEST_F(PgBouncerTest, RunsWhatWasRenderedAndReloadsAChange) {
  auto settings = SettingsFor(server().port());
  settings.query_wait_timeout = std::chrono::seconds(90);
  settings.tcp_keepidle = 20;
  settings.stats_users = {"metrics"};
  StartPooler(settings);
  auto admin = Admin();
  EXPECT_THAT(*admin.ShowVersion(Soon()), HasSubstr("PgBouncer 1.24"));
  EXPECT_EQ(Describe(Differences(admin)), "");
  auto client = Client();
  ASSERT_TRUE(client.has_value()) << client.error().message;
  EXPECT_TRUE(client->Query("SELECT 1", Soon()).has_value());

  settings.default_pool_size = 7;
  settings.databases[0].min_pool_size = 1;
  settings.query_wait_timeout.reset();  // back to PgBouncer's default
  ASSERT_TRUE(pooler().WriteSettings(settings).has_value());
  EXPECT_EQ(Describe(Differences(admin)),
            "default_pool_size: 7 / 5\nquery_wait_timeout: 120 / 90\ndatabase kyoyu: min_pool_size: 1 / 0\n");
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  EXPECT_EQ(Describe(Differences(admin)), "");
  auto databases = admin.ShowDatabases(Soon());
  ASSERT_TRUE(databases.has_value());
  EXPECT_EQ((*databases)[0].name, "kyoyu");
  EXPECT_EQ((*databases)[0].pool_size, 7);
  auto stats = admin.ShowStats(Soon());
  ASSERT_TRUE(stats.has_value()) << stats.error().message;
  EXPECT_EQ(stats->front().database, "kyoyu");
}

TEST_F(PgBouncerTest, ReadsEveryParameterThatCanBeRendered) {
  auto settings = SettingsFor(server().port());
  settings.databases[0].auth_user = kUser;
  settings.databases[0].auth_query = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1 AND 'a' <> '\\';";
  settings.databases[0].auth_dbname = "kyoyu";
  settings.databases[0].pool_mode = "session";
  settings.databases[0].pool_size = 3;
  settings.databases[0].min_pool_size = 1;
  settings.databases[0].reserve_pool_size = 2;
  settings.databases[0].max_db_connections = 9;
  settings.databases[0].hosts = {"127.0.0.1", "127.0.0.1", "localhost"};
  settings.unix_socket_dir = "/tmp";
  settings.reserve_pool_timeout = std::chrono::seconds(3);
  settings.max_db_connections = 50;
  settings.server_lifetime = std::chrono::seconds(1800);
  settings.server_connect_timeout = std::chrono::seconds(5);
  settings.query_wait_timeout = std::chrono::seconds(30);
  settings.auth_user = kUser;
  settings.auth_query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE '%' || $1 -- ; # 'x'";
  settings.auth_dbname = "kyoyu";
  settings.ignore_startup_parameters = {"extra_float_digits", "options"};
  settings.application_name_add_host = true;
  settings.tcp_keepintvl = 5;
  settings.tcp_keepcnt = 3;
  settings.tcp_user_timeout_ms = 9000;
  settings.client_tls_sslmode = "disable";
  settings.server_tls_sslmode = "prefer";
  settings.log_connections = true;
  StartPooler(settings);
  auto admin = Admin();
  EXPECT_EQ(Describe(Differences(admin)), "");
  EXPECT_THAT(pooler().Log(), ::testing::Not(HasSubstr("ERROR")));
}

TEST_F(PgBouncerTest, HostileTextStaysAValue) {
  auto settings = SettingsFor(server().port());
  settings.databases[0].dbname = "it's; # a %db\\ port=1";
  settings.auth_query = "%include /etc/passwd ; [databases]";
  StartPooler(settings);
  auto admin = Admin();
  EXPECT_EQ(Describe(Differences(admin)), "");
  auto databases = admin.ShowDatabases(Soon());
  EXPECT_EQ((*databases)[0].database, "it's; # a %db\\ port=1");
  auto connection = Connect();
  ASSERT_TRUE(postgres::EnsureDatabase(connection, settings.databases[0].dbname, "", Soon()).has_value());
  auto client = Client();
  ASSERT_TRUE(client.has_value()) << client.error().message;
  auto name = client->Query("SELECT current_database()", Soon());
  ASSERT_TRUE(name.has_value()) << name.error().message;
  EXPECT_EQ(*(*name)[0].Get<std::string>(0), "it's; # a %db\\ port=1");
}

TEST_F(PgBouncerTest, WildcardDatabasesFollowAReload) {
  auto settings = SettingsFor(1);  // nobody there
  settings.databases[0].name = "*";
  StartPooler(settings);
  auto admin = Admin();
  EXPECT_FALSE(postgres::Connection::Open(pooler().Options("kyoyu", kUser, kUserPassword),
                                          Deadline::After(std::chrono::milliseconds(300)))
                   .has_value());
  settings.databases[0].port = server().port();
  ASSERT_TRUE(pooler().WriteSettings(settings).has_value());
  EXPECT_FALSE(Differences(admin).empty());
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  EXPECT_EQ(Describe(Differences(admin)), "");
  auto client = Client();
  ASSERT_TRUE(client.has_value()) << client.error().message;
  EXPECT_TRUE(client->Query("SELECT 1", Soon()).has_value());
}

TEST_F(PgBouncerTest, ClientsLogInByTheServersVerifier) {
  auto connection = Connect();
  auto stored = connection.Query("SELECT rolpassword FROM pg_authid WHERE rolname = $1", {kUser}, Soon());
  auto verifier = *(*stored)[0].Get<std::string>(0);
  auto started = testing::LocalPgBouncer::Start(SettingsFor(server().port()), {{kUser, verifier}});
  ASSERT_TRUE(started.has_value()) << started.error().message;
  auto client = postgres::Connection::Open((*started)->Options("kyoyu", kUser, kUserPassword), Soon());
  ASSERT_TRUE(client.has_value()) << client.error().message;
  EXPECT_TRUE(client->Query("SELECT 1", Soon()).has_value());
  auto refused = postgres::Connection::Open((*started)->Options("kyoyu", kUser, "wrong"), Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnauthenticated) << refused.error().message;
}

TEST_F(PgBouncerTest, ConsoleRefusalsHaveCodes) {
  auto settings = SettingsFor(server().port());
  settings.stats_users = {kUser};
  StartPooler(settings);
  auto reader = PgBouncerAdmin::Open(pooler().Options("", kUser, kUserPassword), Soon());
  ASSERT_TRUE(reader.has_value()) << reader.error().message;
  EXPECT_TRUE(reader->ReadUtilisation(Soon()).has_value());
  EXPECT_EQ(reader->Reload(Soon()).error().code, Code::kPermissionDenied);
  auto admin = Admin();
  auto absent = admin.Reconnect("ab\"sent", Soon());
  EXPECT_EQ(absent.error().code, Code::kNotFound) << absent.error().message;
  EXPECT_EQ(admin.Reconnect(std::string(64, 'x'), Soon()).error().code, Code::kInvalidArgument);
  EXPECT_TRUE(admin.Resume("", Soon()).has_value());
  EXPECT_TRUE(admin.Usable());
}

TEST_F(PgBouncerTest, PauseGivesUpAtItsDeadlineAndResumes) {
  StartPooler(SettingsFor(server().port()));
  auto admin = Admin();
  auto holder = Client();
  auto other = Client();
  ASSERT_TRUE(holder->Execute("BEGIN; SELECT 1", Soon()).has_value());
  auto start = std::chrono::steady_clock::now();
  auto paused = admin.Pause("kyoyu", Deadline::After(std::chrono::milliseconds(300)));
  ASSERT_FALSE(paused.has_value());
  EXPECT_EQ(paused.error().code, Code::kDeadlineExceeded) << paused.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
  EXPECT_TRUE(other->Query("SELECT 1", Deadline::After(std::chrono::seconds(3))).has_value());
  ASSERT_TRUE(holder->Execute("COMMIT", Soon()).has_value());

  ASSERT_TRUE(admin.Pause("kyoyu", Soon()).has_value());
  EXPECT_TRUE(admin.ShowDatabases(Soon())->front().paused);
  EXPECT_EQ(other->Query("SELECT 1", Deadline::After(std::chrono::milliseconds(200))).error().code,
            Code::kDeadlineExceeded);
  EXPECT_TRUE(admin.Resume("kyoyu", Soon()).has_value());
  EXPECT_TRUE(admin.Resume("kyoyu", Soon()).has_value());
  EXPECT_TRUE(Client()->Query("SELECT 1", Soon()).has_value());
}

// What a promotion does: the server goes, and nobody's query or connect fails for it.
TEST_F(PgBouncerTest, ClientsThatAreHeldWaitWhileTheServerIsAway) {
  auto own = testing::LocalPostgres::Start();
  ASSERT_TRUE(own.has_value()) << own.error().message;
  auto superuser = (*own)->Connect();
  ASSERT_TRUE(superuser.has_value());
  auto role = superuser->Execute("CREATE ROLE kyoyu_app LOGIN PASSWORD 'application''s password'", Soon());
  ASSERT_TRUE(role.has_value()) << role.error().message;
  ASSERT_TRUE(postgres::EnsureDatabase(*superuser, "kyoyu", kUser, Soon()).has_value());
  StartPooler(SettingsFor((*own)->port()));
  auto admin = Admin();
  auto idle = Client();
  auto holder = Client();
  ASSERT_TRUE(idle->Query("SELECT 1", Soon()).has_value());
  ASSERT_TRUE(holder->Execute("BEGIN; SELECT 1", Soon()).has_value());
  auto held = admin.Hold("kyoyu", Deadline::After(std::chrono::milliseconds(300)));
  ASSERT_TRUE(held.has_value()) << held.error().message;
  EXPECT_FALSE(*held) << "a transaction is under way";
  EXPECT_TRUE(holder->Execute("SELECT 1; COMMIT", Soon()).has_value()) << "which goes on";
  auto second = Admin();
  ASSERT_TRUE(second.ShowDatabases(Soon())->front().paused) << "who told it is gone";
  auto again = second.Hold("kyoyu", Soon());
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_TRUE(*again);

  ASSERT_TRUE((*own)->Stop().has_value());
  Result<postgres::Rows> answer = MakeError(Code::kInternal, "not asked");
  Result<postgres::Connection> newcomer = MakeError(Code::kInternal, "not connected");
  std::thread waits([&] { answer = idle->Query("SELECT 2", Soon()); });
  std::thread comes([&] {
    newcomer = Client();
    if (newcomer.has_value()) std::ignore = newcomer->Query("SELECT 3", Soon());
  });
  EXPECT_TRUE(Eventually([&] { return second.ShowPools(Soon())->front().cl_waiting > 0; }));
  ASSERT_TRUE((*own)->Restart().has_value());
  ASSERT_TRUE(second.Resume("kyoyu", Soon()).has_value());
  waits.join();
  comes.join();
  EXPECT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_TRUE(newcomer.has_value()) << newcomer.error().message;
}

// Rollout Selected: a second name of the database, for some of its users, that leads elsewhere.
TEST_F(PgBouncerTest, ASecondNameOfADatabaseTakesOnlyTheUsersThatItsQueryKnows) {
  auto connection = Connect();
  postgres::RoleSpec other;
  other.name = "o'hara";
  ASSERT_TRUE(postgres::EnsureRole(connection, other, kUserPassword, Soon()).has_value());
  auto lookup = connection.Execute("CREATE ROLE looks_up LOGIN SUPERUSER PASSWORD 'looks up'", Soon());
  ASSERT_TRUE(lookup.has_value()) << lookup.error().message;
  auto settings = SettingsFor(server().port());
  settings.auth_user = "looks_up";
  settings.auth_query =
      "SELECT rolname, rolpassword FROM (SELECT rolname, rolpassword, rolname AS usename FROM pg_authid"
      " WHERE rolname = $1) AS found";
  settings.auth_dbname = "kyoyu";
  poolers::PgBouncerDatabase second = settings.databases[0];
  second.name = "kyoyu_replicas";
  second.dbname = "kyoyu";
  second.auth_user = settings.auth_user;
  second.auth_dbname = "kyoyu";
  second.auth_query = settings.auth_query + " WHERE usename IN ('o''hara')";
  settings.databases.push_back(second);
  auto started = testing::LocalPgBouncer::Start(settings, {{"looks_up", "looks up"}});
  ASSERT_TRUE(started.has_value()) << started.error().message;
  auto login = [&](const char* database, const char* user) {
    return postgres::Connection::Open((*started)->Options(database, user, kUserPassword), Soon());
  };
  EXPECT_TRUE(login("kyoyu", kUser).has_value());
  auto refused = login("kyoyu_replicas", kUser);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnauthenticated) << refused.error().message;
  auto selected = login("kyoyu_replicas", "o'hara");
  ASSERT_TRUE(selected.has_value()) << selected.error().message;
  auto name = selected->Query("SELECT current_database()", Soon());
  ASSERT_TRUE(name.has_value()) << name.error().message;
  EXPECT_EQ(*(*name)[0].Get<std::string>(0), "kyoyu");
  std::ignore = connection.Execute("DROP ROLE looks_up", Soon());
}

}  // namespace
}  // namespace pgtier::poolers
