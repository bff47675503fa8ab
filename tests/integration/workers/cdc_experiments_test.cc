// What was tried by hand before the consumer was written, and must not come back: each of these lost rows once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "tests/integration/postgres/fault_proxy.h"
#include "tests/integration/shadow/worker_process.h"
#include "tests/integration/workers/cdc_fixture.h"

namespace pgtier::testing {
namespace {

constexpr int kLargeRow = 100;  // MiB

class CdcExperiments : public CdcFixture {
 protected:
  // The fixture with a server of the test's own.
  void Own(const std::vector<std::string>& conf) {
    PostgresOptions options;
    options.conf = conf;
    auto started = LocalPostgres::Start(options);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    own_ = *std::move(started);
    ReconnectOwn();
  }
  void ReconnectOwn() {
    for (Deadline deadline = Late(); !deadline.Expired();) {
      auto connection = own_->Connect();
      if (!connection.has_value()) continue;
      sql_.emplace(*std::move(connection));
      return;
    }
    FAIL() << "the server is not there";
  }
  workers::CdcOptions OwnOptions() {
    workers::CdcOptions options = Options();
    options.database = own_->Options();
    options.database.user = std::string(shadow::kCdcRole);
    options.database.password = "of-cdc";
    return options;
  }
  void TearDown() override {
    consumer_.reset();
    if (own_ == nullptr) return CdcFixture::TearDown();
    sql_.emplace(Connect(database_));
    CdcFixture::TearDown();
    own_.reset();
  }
  // Starts the worker itself on this database, with little memory of its own for what it reads.
  void StartWorker(const std::string& mode, const std::string& user, const std::string& password) {
    postgres::ConnectOptions database = server().Options(database_);
    database.user = user;
    files_.Write("password", password);
    files_.Write("worker.json", WorkerConfig(files_, database, mode, spec_.policy,
                                             R"(, "slot": ")" + spec_.slot + R"(", "publication": ")" +
                                                 shadow::PublicationName(spec_) + R"(", "spill": {"memory": "1Mi"})"));
    worker_ = testing::StartWorker(files_.path() + "/worker.json", files_.path() + "/log");
  }
  // The most memory that the worker ever had, in MiB.
  int WorkersPeak() {
    std::ifstream status("/proc/" + std::to_string(worker_->pid()) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) return std::atoi(line.c_str() + 6) / 1024;
    }
    return -1;
  }

  std::unique_ptr<LocalPostgres> own_;
  ServerFolder files_;
  std::unique_ptr<test::ChildProcess> worker_;
};

// Applied without waiting for the disk, reported as kept, and the server crashed: the source had its row, the history
// did not, and nothing was sent again. Whatever the database's settings are, the consumer's commits wait.
TEST_F(CdcExperiments, WhatTheServerWasToldToBeKeptSurvivesItsCrash) {
  Own({"wal_writer_delay = 3s", "synchronous_commit = off", "wal_writer_flush_after = 0", "bgwriter_delay = 10s",
       "autovacuum = off"});
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Run("ALTER ROLE pgtier_shadow_cdc SET synchronous_commit = off");
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  StartConsumer(OwnOptions());
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  for (int i = 1; i <= 3; ++i) {
    Run("SET synchronous_commit = on; INSERT INTO t VALUES (" + std::to_string(i) + ")");
    const std::string commit = Get("SELECT pg_current_wal_flush_lsn()");
    Await("SELECT confirmed_flush_lsn >= '" + commit + "' FROM pg_replication_slots", "t");
    own_->Signal(SIGQUIT);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    Ok(own_->Restart());
    ReconnectOwn();
    EXPECT_EQ(Get("SELECT count(*) FROM t_history"), std::to_string(i)) << "told to be kept, and gone";
  }
  Descend();
  EXPECT_EQ(Get("SELECT count(*) FROM t_history"), "3");
}

// The retreat: the slot's log is about to be thrown away. Back to triggers at once, with the limit raised first, and
// the consumer, when it runs again, writes what stands in the log only.
TEST_F(CdcExperiments, TheWayBackFromASlotInDangerLosesNothingWhereItGetsHeadroom) {
  Own({"max_slot_wal_keep_size = 48MB", "min_wal_size = 32MB", "max_wal_size = 48MB", "autovacuum = off"});
  Run("CREATE TABLE t (id integer PRIMARY KEY, v text); CREATE TABLE other (v text)");
  Install({"t"});
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  StartConsumer(OwnOptions());
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  Run("INSERT INTO t VALUES (1, 'read')");
  Await("SELECT count(*) FROM t_history", "1");
  consumer_.reset();
  Run("INSERT INTO t VALUES (2, 'in the log only')");
  const std::string fill = "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 8000); CHECKPOINT";
  while (Get("SELECT coalesce(safe_wal_size < 24 * 1024 * 1024, true) FROM pg_replication_slots") != "t") Run(fill);
  ASSERT_NE(Get("SELECT wal_status FROM pg_replication_slots"), "lost");
  Run("ALTER SYSTEM SET max_slot_wal_keep_size = '512MB'");
  Run("SELECT pg_reload_conf()");
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kTriggers, Late()));
  Run("INSERT INTO t VALUES (3, 'by trigger')");
  // More than the limit of before: without headroom this would be the end of the slot.
  for (int i = 0; i < 8; ++i) Run(fill);
  EXPECT_EQ(Get("SELECT confirmed_flush_lsn + 48 * 1024 * 1024 < pg_current_wal_lsn() FROM pg_replication_slots"), "t");
  ASSERT_NE(Get("SELECT wal_status FROM pg_replication_slots"), "lost");
  StartConsumer(OwnOptions());
  AwaitEnd();
  EXPECT_EQ(Get("SELECT string_agg(id::text, ',' ORDER BY epoch, position) FROM t_history"), "1,2,3");
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0");
}

// Postgres forgets what changes a table while a slot is being made (docs/decisions/0053).
class CdcSlot : public CdcExperiments {
 protected:
  // Makes the slot, and `changes` meanwhile.
  void MakeWhile(const std::string& changes);
};

void CdcSlot::MakeWhile(const std::string& changes) {
  auto older = Connect(database_), old = Connect(database_), prepare = Connect(database_);
  auto waited_for = [&](postgres::Connection& by) {
    auto xid = by.Query("SELECT pg_current_xact_id()::xid", Late());
    ASSERT_TRUE(xid.has_value());
    Await("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND transactionid = '" +
              std::string(*(*xid)[0].Text(0)) + "'",
          "t");
  };
  RunOn(older, "BEGIN; SELECT pg_current_xact_id()");
  Status prepared;
  {
    std::jthread making([&] { prepared = shadow::PrepareCdc(prepare, spec_, Late()); });
    waited_for(older);
    // One that is older than the changes, and still open when the server takes the next look.
    RunOn(old, "BEGIN; SELECT pg_current_xact_id()");
    Run(changes);
    RunOn(older, "COMMIT");
    waited_for(old);
    // By now it decodes, with a picture of the catalogue that lacks the changes.
    Run("INSERT INTO other VALUES (1)");
    RunOn(old, "COMMIT");
  }
  Ok(prepared);
}

TEST_F(CdcSlot, ATableThatChangesWhileItIsMadeIsReadAsItIs) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, v text); CREATE TABLE u (id integer PRIMARY KEY);"
      "CREATE TABLE other (id integer)");
  Install({"t", "u"});
  MakeWhile("TRUNCATE t; ALTER TABLE u ADD COLUMN added text");
  Run("INSERT INTO t VALUES (0, 'x'); INSERT INTO u VALUES (0, 'y')");
  StartConsumer();
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  Run("INSERT INTO t VALUES (1, 'x'); INSERT INTO u VALUES (1, 'y')");
  Descend();
  EXPECT_EQ(Get("SELECT string_agg(operation, ',' ORDER BY epoch, position) FROM t_history"), "TRUNCATE,INSERT,INSERT");
  EXPECT_EQ(Get("SELECT string_agg(added, ',') FROM u_history"), "y,y");
}

// The server has to know the table of each change, also of those that nobody publishes.
TEST_F(CdcSlot, TablesOfNobodyThatChangeWhileItIsMadeStopNothing) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE other (id integer); CREATE TABLE theirs (id integer)");
  Install({"t"});
  MakeWhile("TRUNCATE theirs; CREATE TABLE late (id integer)");
  StartConsumer();
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  Run("INSERT INTO theirs VALUES (1); INSERT INTO late VALUES (1)");
  Run("INSERT INTO t VALUES (1)");
  Descend();
  EXPECT_EQ(Get("SELECT count(*) FROM t_history WHERE epoch = 2"), "1");
}

// DropCdc ends anywhere: the network is cut behind each of its messages in turn, and the next call goes on.
TEST_F(CdcExperiments, TakingCdcAwayMayEndAnywhere) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE p (id integer, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
      "CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
      "CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20)");
  Install({"t", "p"});
  Climb();
  Run("INSERT INTO t VALUES (1); INSERT INTO p VALUES (1), (11)");
  Descend();
  consumer_.reset();
  FaultProxy network(server().port());
  postgres::ConnectOptions through = server().Options(database_);
  through.port = network.port();
  through.ssl_mode = "disable";
  int failures = 0;
  Status dropped = MakeError(Code::kInternal, "not tried");
  for (int messages = 1; !dropped.has_value(); ++messages) {
    ASSERT_LT(messages, 500) << dropped.error().message;
    auto connection = postgres::Connection::Open(through, Soon());
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    // Not more each time: what is done already is not done again, so a few messages are always enough to get on.
    network.CutAfter(1 + messages % 12);
    dropped = shadow::DropCdc(*connection, spec_, Late());
    network.CutAfter(0);
    if (!dropped.has_value()) ++failures;
  }
  EXPECT_GT(failures, 3);
  EXPECT_EQ(Get("SELECT string_agg(format('%s%s', relname, relreplident), ' ' ORDER BY relname) FROM pg_class"
                " WHERE relname IN ('t', 'p', 'p_1', 'p_2')"),
            "pd p_1d p_2d td");
  EXPECT_EQ(Get("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
  EXPECT_EQ(Get("SELECT count(*) FROM pg_publication"), "0");
  EXPECT_EQ(Get("SELECT count(*) FROM pg_trigger WHERE tgname = '00_pgtier_shadow_actor'"), "0");
  EXPECT_EQ(Get("SELECT slot FROM pgtier.shadow_checkpoint"), "");
  // And up again.
  Climb();
  Run("INSERT INTO t VALUES (2)");
  Descend();
  EXPECT_EQ(Get("SELECT string_agg(id::text, ',' ORDER BY epoch, position) FROM t_history"), "1,2");
}

TEST_F(CdcExperiments, AnotherActorsSettingIsFollowedInCdc) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Climb();
  Run("SET app.actor = 'ann'; SET app.who = 'zoe'; INSERT INTO t VALUES (1)");
  spec_.actor_setting = "app.who";
  Ok(shadow::Install(*sql_, spec_, Late()));
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  Run("INSERT INTO t VALUES (2)");
  Descend();
  Run("INSERT INTO t VALUES (3)");
  EXPECT_EQ(Get("SELECT string_agg(id || actor, ',' ORDER BY epoch, position) FROM t_history"), "1ann,2zoe,3zoe");
}

// A row of 100 MB, one way and the other. Memory is that of the row times a few, whatever else there is.
TEST_F(CdcExperiments, ARowOfAHundredMegabytes) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, v text)");
  Install({"t"});
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'of-notify'");
  const std::string length = std::to_string(kLargeRow * 1024 * 1024);
  const std::string insert = "INSERT INTO t VALUES (1, repeat('01234567', " + length + " / 8))";
  Ok(shadow::SwapBodies(*sql_, spec_, shadow::Tier::kNotify, Late()));
  Run(insert);
  StartWorker("notify", std::string(shadow::kNotifyRole), "of-notify");
  Await("SELECT count(*) FROM t_history WHERE length(v) = " + length, "1");
  std::printf("a row of %d MiB in notify: the worker's peak is %d MiB\n", kLargeRow, WorkersPeak());
  EXPECT_LT(WorkersPeak(), 300);
  Run("TRUNCATE t");
  Ok(shadow::SwapBodies(*sql_, spec_, shadow::Tier::kTriggers, Late()));
  Await("SELECT count(*) FROM pgtier.outbox_1", "0");
  worker_.reset();
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  StartWorker("cdc", std::string(shadow::kCdcRole), "of-cdc");
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  Run(insert);
  Run("INSERT INTO t SELECT n, 'small' FROM generate_series(2, 1000) AS n");
  Await("SELECT count(*) FROM t_history WHERE epoch = 2", "1000");
  EXPECT_EQ(Get("SELECT count(*) FROM t_history WHERE epoch = 2 AND length(v) = " + length), "1");
  std::printf("a row of %d MiB in cdc: the worker's peak is %d MiB\n", kLargeRow, WorkersPeak());
  EXPECT_LT(WorkersPeak(), 1000);
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kTriggers, Late()));
  AwaitEnd();
  worker_.reset();
}

}  // namespace
}  // namespace pgtier::testing
