// A real PgCat before a primary and a standby.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>

#include "lib/poolers/pgcat_admin.h"
#include "lib/poolers/pgcat_config.h"
#include "lib/postgres/catalogue.h"
#include "tests/support/child_process.h"
#include "tests/integration/postgres/clients.h"
#include "tests/integration/postgres/pooler_test_base.h"

namespace pgtier::poolers {
namespace {

using testing::Clients;
using ::testing::IsEmpty;
using testing::Soon;
using ::testing::UnorderedElementsAre;

// The replica by another name of this machine: PgCat bans by host.
constexpr char kPrimaryHost[] = "127.0.0.1";
constexpr char kReplicaHost[] = "localhost";

class PgCatTest : public testing::WithPooler {
 protected:
  void SetUp() override {
    const char* program = std::getenv("PGTIER_PGCAT");
    if (program == nullptr) GTEST_SKIP() << "PGTIER_PGCAT names no PgCat; pgtier ships none";
    WithPooler::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    program_ = program;
    auto standby = testing::LocalPostgres::StartStandby(server(), {});
    ASSERT_TRUE(standby.has_value()) << standby.error().message;
    standby_ = *std::move(standby);
    auto primary = Connect();
    auto replica = *standby_->Connect();
    auto written = *postgres::CurrentLsn(primary, Soon());
    ASSERT_TRUE(Eventually([&] { return *postgres::CurrentLsn(replica, Soon()) >= written; }));
    port_ = test::FreePort();
  }

  [[nodiscard]] PgCatSettings Splitting() const {
    PgCatPool pool;
    pool.name = pool.database = "kyoyu";
    pool.servers = {{kPrimaryHost, server_port(), 1, ServerRole::kPrimary},
                    {kReplicaHost, standby_->port(), 1, ServerRole::kReplica}};
    PgCatUser user;
    user.username = kUser;
    user.password = kUserPassword;
    user.pool_size = 4;
    user.min_pool_size = 0;
    pool.users = {user};
    pool.splits = true;
    PgCatSettings settings;
    settings.listen_host = "127.0.0.1";
    settings.listen_port = port_;
    settings.admin_username = "pgtier_admin";
    settings.admin_password = "hostile \" \\ ' # password";
    settings.pools = {pool};
    return settings;
  }

  void Write(const PgCatSettings& settings) {
    Result<std::string> toml = RenderToml(settings);
    ASSERT_TRUE(toml.has_value()) << toml.error().message;
    folder_.Write("pgcat.toml", *toml);
    settings_ = settings;
  }

  void Start(const PgCatSettings& settings) {
    Write(settings);
    process_ = std::make_unique<test::ChildProcess>(std::vector<std::string>{program_, folder_.path() + "/pgcat.toml"},
                                                    folder_.path() + "/log");
    ASSERT_TRUE(Eventually([&] { return PgCatAdmin::Open(AdminOptions(), Soon()).has_value(); })) << Log();
  }

  [[nodiscard]] postgres::ConnectOptions Options(const std::string& user, const std::string& password) const {
    postgres::ConnectOptions options;
    options.host = "127.0.0.1";
    options.port = port_;
    options.database = "kyoyu";
    options.user = user;
    options.password = password;
    return options;
  }
  [[nodiscard]] postgres::ConnectOptions AsApplication() const { return Options(kUser, kUserPassword); }
  [[nodiscard]] postgres::ConnectOptions AdminOptions() const {
    return Options(settings_.admin_username, settings_.admin_password);
  }
  PgCatAdmin Console() {
    auto admin = PgCatAdmin::Open(AdminOptions(), Soon());
    if (!admin.has_value()) throw std::runtime_error(admin.error().message + Log());
    return *std::move(admin);
  }
  std::vector<std::string> WhatDiffers(PgCatAdmin& admin) {
    auto config = admin.ShowConfig(Soon());
    auto databases = admin.ShowDatabases(Soon());
    EXPECT_TRUE(config.has_value() && databases.has_value());
    Result<std::vector<Difference>> differences = CompareWithRunning(settings_, *config, *databases);
    std::vector<std::string> what;
    for (const Difference& each : *differences) what.push_back(each.what + " " + each.running);
    return what;
  }
  [[nodiscard]] std::string Log() const { return folder_.Read("log"); }
  [[nodiscard]] int server_port() const { return const_cast<PgCatTest*>(this)->server().port(); }

  // What each of some single statements is answered by.
  std::map<std::string, int> Answers(const std::string& sql, int times = 20) {
    auto connection = postgres::Connection::Open(AsApplication(), Soon());
    EXPECT_TRUE(connection.has_value()) << connection.error().message << Log();
    std::map<std::string, int> answers;
    for (int i = 0; connection.has_value() && i < times; ++i) {
      auto rows = connection->Query(sql, Soon());
      EXPECT_TRUE(rows.has_value()) << rows.error().message << Log();
      if (!rows.has_value()) break;
      ++answers[std::string((*rows)[0].Text(size_t{0}).value_or("NULL"))];
    }
    return answers;
  }

  testing::ServerFolder folder_;
  std::unique_ptr<testing::LocalPostgres> standby_;
  std::unique_ptr<test::ChildProcess> process_;
  std::string program_;
  PgCatSettings settings_;
  int port_ = 0;
};

constexpr char kWhere[] = "SELECT pg_is_in_recovery()";

TEST_F(PgCatTest, RunsWhatWasRenderedAndSplitsReadsFromWrites) {
  Start(Splitting());
  PgCatAdmin admin = Console();
  EXPECT_THAT(WhatDiffers(admin), IsEmpty()) << Log();
  EXPECT_THAT(*admin.ShowVersion(Soon()), ::testing::StartsWith("PgCat "));
  EXPECT_THAT(Answers(kWhere), UnorderedElementsAre(::testing::Pair("t", 20)));

  auto connection = postgres::Connection::Open(AsApplication(), Soon());
  ASSERT_TRUE(connection.has_value()) << connection.error().message;
  for (const char* sql : {"CREATE TABLE IF NOT EXISTS notes (id int)", "INSERT INTO notes VALUES (1)",
                          "SELECT * FROM notes FOR UPDATE", "BEGIN", "SELECT pg_current_wal_lsn()", "COMMIT"}) {
    auto done = connection->Execute(sql, Soon());
    EXPECT_TRUE(done.has_value()) << sql << ": " << done.error().message;
  }
  EXPECT_FALSE(postgres::Connection::Open(Options(kUser, "wrong"), Soon()).has_value());
  EXPECT_FALSE(postgres::Connection::Open(Options("stranger", kUserPassword), Soon()).has_value());
  auto marked = AsApplication();
  marked.database = *PgCatMark(settings_);
  EXPECT_FALSE(postgres::Connection::Open(marked, Soon()).has_value()) << "the mark is served to somebody";
}

TEST_F(PgCatTest, AReloadUnderLoadFailsNoQuery) {
  Start(Splitting());
  PgCatAdmin admin = Console();
  Clients clients(AsApplication(), 6, kWhere);
  ASSERT_TRUE(Eventually([&] { return clients.queries() > 300; })) << Log();
  for (int round = 0; round < 4; ++round) {
    PgCatSettings settings = Splitting();
    // The replica goes, and the primary takes its reads.
    if (round % 2 == 0) settings.pools[0].servers[1] = {kPrimaryHost, server_port(), 1, ServerRole::kReplica};
    Write(settings);
    EXPECT_THAT(WhatDiffers(admin), ::testing::Not(IsEmpty()));
    ASSERT_TRUE(admin.Reload(Soon()).has_value());
    EXPECT_THAT(WhatDiffers(admin), IsEmpty());
    std::string wanted = round % 2 == 0 ? "f" : "t";
    EXPECT_TRUE(Eventually([&] {
      auto answers = clients.TakeAnswers();
      return answers.contains(wanted) && answers.size() == 1;
    }));
  }
  clients.Stop();
  EXPECT_THAT(clients.errors(), IsEmpty()) << Log();
}

TEST_F(PgCatTest, WhatItDoesNotShowIsSeenByTheMark) {
  Start(Splitting());
  PgCatAdmin admin = Console();
  PgCatSettings settings = Splitting();
  settings.pools[0].prepared_statements = 50;
  Write(settings);
  EXPECT_THAT(WhatDiffers(admin), ::testing::ElementsAre("the file as a whole another one"));
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  EXPECT_THAT(WhatDiffers(admin), IsEmpty());
}

TEST_F(PgCatTest, AFileThatItRefusesIsAnErrorAndChangesNothing) {
  Start(Splitting());
  PgCatAdmin admin = Console();
  folder_.Write("pgcat.toml", "[general]\nport = \"no\"\n");
  Status reloaded = admin.Reload(Soon());
  ASSERT_FALSE(reloaded.has_value());
  EXPECT_EQ(reloaded.error().code, Code::kFailedPrecondition) << reloaded.error().message;
  PgCatAdmin again = Console();
  EXPECT_THAT(WhatDiffers(again), IsEmpty());
}

TEST_F(PgCatTest, ABannedReplicaTakesNothingUntilItIsUnbanned) {
  PgCatSettings settings = Splitting();
  // A second one: PgCat forgets the bans of a pool whose replicas are all banned.
  settings.pools[0].servers.push_back({kPrimaryHost, standby_->port(), 1, ServerRole::kReplica});
  Start(settings);
  PgCatAdmin admin = Console();
  ASSERT_TRUE(admin.Ban(kReplicaHost, std::chrono::seconds(60), Soon()).has_value());
  auto bans = admin.ShowBans(Soon());
  ASSERT_EQ(bans->size(), 1U);
  EXPECT_EQ(bans->front().host, kReplicaHost);
  EXPECT_TRUE(bans->front().by_admin);
  auto disabled = [&] {
    std::vector<std::string> hosts;
    auto databases = admin.ShowDatabases(Soon());
    for (const DatabaseStats& row : *databases) {
      if (row.disabled) hosts.push_back(row.host);
    }
    return hosts;
  };
  EXPECT_THAT(disabled(), ::testing::ElementsAre(kReplicaHost));
  EXPECT_THAT(Answers("SELECT host(inet_server_addr()) = '::1' OR pg_is_in_recovery()"), ::testing::SizeIs(1));
  ASSERT_TRUE(admin.Unban(kReplicaHost, Soon()).has_value());
  EXPECT_THAT(disabled(), IsEmpty());
  EXPECT_EQ(admin.Ban("two words", std::chrono::seconds(1), Soon()).error().code, Code::kInvalidArgument);
}

TEST_F(PgCatTest, AFullPoolReadsFullAndItsQueueIsSeen) {
  PgCatSettings settings = Splitting();
  settings.pools[0].users[0].pool_size = 2;
  Start(settings);
  PgCatAdmin admin = Console();
  EXPECT_EQ(admin.ReadUtilisation(Soon())->max_ratio, 0);
  Clients clients(AsApplication(), 5, "SELECT pg_sleep(0.3)");
  EXPECT_TRUE(Eventually([&] {
    auto read = admin.ReadUtilisation(Soon());
    return read.has_value() && read->max_ratio == 1 && read->cl_waiting >= 2 && read->maxwait_us > 0;
  }));
  auto pools = admin.ShowPools(Soon());
  EXPECT_EQ(CountClients(*pools), 5);
  clients.Stop();
  EXPECT_THAT(clients.errors(), IsEmpty()) << Log();
}

TEST_F(PgCatTest, AReplicaThatIsDownKeepsNobodyFromStarting) {
  ASSERT_TRUE(standby_->Stop().has_value());
  Start(Splitting());
  auto connection = postgres::Connection::Open(AsApplication(), Soon());
  ASSERT_TRUE(connection.has_value()) << connection.error().message;
  auto written = connection->Execute("CREATE TABLE IF NOT EXISTS notes (id int)", Soon());
  EXPECT_TRUE(written.has_value()) << written.error().message;
}

TEST_F(PgCatTest, ShutDownLetsATransactionFinishAndClosesTheIdle) {
  Start(Splitting());
  auto idle = postgres::Connection::Open(AsApplication(), Soon());
  auto busy = postgres::Connection::Open(AsApplication(), Soon());
  ASSERT_TRUE(idle.has_value() && busy.has_value());
  ASSERT_TRUE(busy->Execute("BEGIN", Soon()).has_value());
  PgCatAdmin admin = Console();
  ASSERT_TRUE(admin.ShutDown(Soon()).has_value());
  EXPECT_TRUE(busy->Execute("SELECT 1", Soon()).has_value());
  EXPECT_TRUE(busy->Execute("COMMIT", Soon()).has_value());
  // It has answered before it tells its clients.
  EXPECT_TRUE(Eventually([&] { return !idle->Execute("SELECT 1", Soon()).has_value(); }));
  EXPECT_TRUE(Eventually([&] { return !process_->Running(); })) << Log();
}

}  // namespace
}  // namespace pgtier::poolers
