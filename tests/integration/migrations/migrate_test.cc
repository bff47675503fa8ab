// pgtier-migrate against a real Postgres: killed, told to stop, held up, told to do what can't be done.
#include <gmock/gmock.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "migrations/ledger.h"
#include "migrations/runner.h"
#include "tests/integration/postgres/shared_server.h"
#include "tests/support/child_process.h"

namespace pgtier::testing {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kMigration[] = "data/widen";
constexpr std::chrono::seconds kLongest{120};

class Migrate : public WithServer {
 protected:
  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped()) return;
    static int count = 0;
    database_ = "migrate" + std::to_string(++count);
    auto made = Connect().Execute("CREATE DATABASE " + database_, Soon());
    ASSERT_TRUE(made.has_value()) << made.error().message;
    connection_.emplace(Connect(database_));
  }

  void Run(const std::string& sql) {
    auto done = connection_->Execute(sql, Deadline::After(std::chrono::seconds(60)));
    ASSERT_TRUE(done.has_value()) << done.error().message << " of: " << sql;
  }
  std::string Ask(const std::string& sql) {
    auto rows = connection_->Query(sql, Soon());
    if (!rows.has_value()) return rows.error().message;
    return rows->empty() ? "nothing" : std::string((*rows)[0].Text(0).value_or("NULL"));
  }
  // Until the answer is that one.
  bool Becomes(const std::string& sql, const std::string& answer) {
    Deadline deadline = Deadline::After(std::chrono::seconds(60));
    while (!deadline.Expired()) {
      if (Ask(sql) == answer) return true;
      SleepFor(std::chrono::milliseconds(20), {});
    }
    ADD_FAILURE() << sql << " is " << Ask(sql) << ", not " << answer << "\n" << folder_.Read("log");
    return false;
  }

  std::string Write(const Json& steps, const Json& more = Json::object()) {
    postgres::ConnectOptions options = server().Options(database_);
    folder_.Write("password", options.password + "\n");
    Json config{{"migration", kMigration},
                {"database",
                 {{"host", options.host},
                  {"port", options.port},
                  {"name", database_},
                  {"user", options.user},
                  {"passwordFile", folder_.path() + "/password"}}},
                {"resultFile", folder_.path() + "/result"},
                {"steps", steps}};
    config.merge_patch(more);
    folder_.Write("migration.json", config.dump());
    return folder_.path() + "/migration.json";
  }
  int Migration(const Json& steps, const Json& more = Json::object()) { return Start(steps, more)->Wait(kLongest); }
  std::unique_ptr<test::ChildProcess> Start(const Json& steps, const Json& more = Json::object()) {
    return std::make_unique<test::ChildProcess>(
        std::vector<std::string>{PGTIER_MIGRATE_PROGRAM, "--config", Write(steps, more)}, folder_.path() + "/log");
  }
  migrations::Entry EntryOf(const std::string& step) {
    auto entries = migrations::ReadLedger(*connection_, kMigration, Soon());
    EXPECT_TRUE(entries.has_value()) << entries.error().message;
    return entries.has_value() ? (*entries)[step] : migrations::Entry{};
  }

  std::string database_;
  std::optional<postgres::Connection> connection_;
  ServerFolder folder_;
};

TEST_F(Migrate, EveryStepRunsOnce) {
  Run("CREATE TABLE orders (id int PRIMARY KEY, total numeric); INSERT INTO orders SELECT g, g FROM"
      " generate_series(1, 2500) g");
  Json steps = Json::parse(R"j([
    {"name": "column", "sql": "ALTER TABLE orders ADD COLUMN cents bigint;"},
    {"name": "fill", "backfill": {"table": "orders", "set": "cents = (total * 100)::bigint", "where": "cents IS NULL"}},
    {"name": "index", "createIndex": {"table": "public.orders", "name": "orders_cents", "columns": ["cents"]}},
    {"name": "vacuum", "sql": "VACUUM orders", "transaction": false},
    {"name": "check", "verify": {"query": "SELECT count(*) FROM orders WHERE cents IS NULL", "expect": "0"}}])j");
  ASSERT_EQ(Migration(steps), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT sum(cents) FROM orders"), std::to_string(100LL * 2500 * 2501 / 2));
  EXPECT_EQ(Ask("SELECT indisvalid FROM pg_index WHERE indexrelid = 'orders_cents'::regclass"), "t");
  EXPECT_EQ(EntryOf("fill").progress.finished, 2500);
  EXPECT_EQ(EntryOf("fill").progress.total, 2500);
  // The column is there: a second time the statement would fail.
  ASSERT_EQ(Migration(steps), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT count(*) FROM pgtier.migrations WHERE state = 'Done'"), "5");
}

TEST_F(Migrate, KilledInABackfillUnderWritersItVisitsEveryRowOnce) {
  Run("CREATE TABLE counters (region text, id int, n int NOT NULL DEFAULT 0, touched int NOT NULL DEFAULT 0,"
      " PRIMARY KEY (region, id));"
      "INSERT INTO counters SELECT 'r' || g % 7, g FROM generate_series(1, 20000) g");
  std::atomic<int> written{0};
  std::jthread writer([&](const std::stop_token& over) {
    auto connection = Connect(database_);
    for (int i = 1; !over.stop_requested(); ++i) {
      std::ignore = connection.Query("UPDATE counters SET touched = touched + 1 WHERE id = $1",
                                     {std::to_string(i % 20000 + 1)}, Soon());
      std::ignore =
          connection.Query("INSERT INTO counters (region, id) VALUES ('r3', $1)", {std::to_string(100000 + i)}, Soon());
      written = i;
    }
  });
  Json steps =
      Json::parse(R"j([{"name": "add", "backfill": {"table": "counters", "set": "n = n + 1", "batchRows": 50}}])j");
  for (int kills = 0; kills < 5; ++kills) {
    std::string before = std::to_string(EntryOf("add").progress.finished);
    auto process = Start(steps);
    ASSERT_TRUE(Becomes("SELECT coalesce((SELECT done > " + before + " + 1000 FROM pgtier.migrations), false)", "t"));
    process->Stop(SIGKILL);
  }
  EXPECT_EQ(EntryOf("add").state, migrations::State::kRunning);
  ASSERT_EQ(Migration(steps), migrations::kExitDone) << folder_.Read("log");
  writer.request_stop();
  writer.join();
  EXPECT_GT(written, 10);
  EXPECT_EQ(Ask("SELECT count(*) FROM counters WHERE id <= 20000 AND n <> 1"), "0");
  EXPECT_EQ(Ask("SELECT count(*) FROM counters WHERE n > 1"), "0");
}

// Who owns the database may have put a schema of theirs before the system's, for all sessions in it.
TEST_F(Migrate, NothingOfTheDatabasesOwnerRunsAsTheAdministrator) {
  Run("CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO t SELECT generate_series(1, 100)");
  Run("CREATE SCHEMA trap; "
      "CREATE FUNCTION trap.sprung(text, text) RETURNS boolean LANGUAGE plpgsql AS "
      "  $$ BEGIN RAISE EXCEPTION 'a function of the owner ran'; END $$; "
      "CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.sprung)");
  Run("ALTER DATABASE " + database_ + " SET search_path = trap, pg_catalog, public");
  EXPECT_EQ(Migration(Json::parse(R"j([{"name": "add", "backfill": {"table": "t", "set": "n = n + 1"}}])j")),
            migrations::kExitDone)
      << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT count(*) FROM t WHERE n = 1"), "100");
}

TEST_F(Migrate, ToldToStopItEndsTheBatchAndGoesOnLater) {
  Run("CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO t SELECT generate_series(1, 5000)");
  Json steps = Json::parse(
      R"j([{"name": "add", "backfill": {"table": "t", "set": "n = n + 1", "batchRows": 10, "pause": "5ms"}}])j");
  auto process = Start(steps);
  ASSERT_TRUE(Becomes("SELECT coalesce((SELECT done > 50 FROM pgtier.migrations), false)", "t"));
  process->Signal(SIGTERM);
  EXPECT_EQ(process->Wait(kLongest), migrations::kExitStopped);
  int64_t done = EntryOf("add").progress.finished;
  EXPECT_LT(done, 5000);
  EXPECT_EQ(Ask("SELECT count(*) FROM t WHERE n = 1"), std::to_string(done));
  // Faster now: that is no other step.
  steps[0]["backfill"]["batchRows"] = 1000;
  steps[0]["backfill"].erase("pause");
  ASSERT_EQ(Migration(steps), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT count(*) FROM t WHERE n = 1"), "5000");
}

TEST_F(Migrate, NamesWhoHoldsTheLockAndWaitsWithoutHoldingUpOthers) {
  Run("CREATE TABLE t (id int PRIMARY KEY)");
  auto holder = Connect(database_);
  ASSERT_TRUE(holder.Execute("SET application_name = 'report'; BEGIN; SELECT * FROM t", Soon()).has_value());
  auto process = Start(Json::parse(R"j([{"name": "column", "sql": "ALTER TABLE t ADD COLUMN c int"}])j"),
                       {{"lockTimeout", "300ms"}});
  ASSERT_TRUE(
      Becomes("SELECT coalesce((SELECT message LIKE '%report of postgres%' FROM pgtier.migrations), false)", "t"));
  std::string message = EntryOf("column").progress.message;
  EXPECT_THAT(message, HasSubstr("LockHeld: step column waits for a lock that process " +
                                 std::to_string(holder.BackendPid()) + " (report of postgres, idle in transaction"));
  // Whoever comes after the migration is held up for no longer than its lock timeout.
  EXPECT_EQ(Ask("SELECT count(*) FROM t"), "0");
  ASSERT_TRUE(holder.Execute("COMMIT", Soon()).has_value());
  EXPECT_EQ(process->Wait(kLongest), migrations::kExitDone);
  EXPECT_EQ(EntryOf("column").progress.message, "");
}

TEST_F(Migrate, ADryRunChangesNothing) {
  Run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT generate_series(1, 100)");
  Json steps = Json::parse(R"j([
    {"name": "column", "sql": "ALTER TABLE t ADD COLUMN c int"},
    {"name": "fill", "backfill": {"table": "t", "set": "n = 1"}},
    {"name": "later", "backfill": {"table": "t", "set": "c = 1"}},
    {"name": "index", "createIndex": {"table": "t", "name": "t_n", "columns": ["n"]}},
    {"name": "check", "verify": {"query": "SELECT count(*) FROM t WHERE n IS NULL", "expect": "0"}}])j");
  std::string before = Ask("SELECT string_agg(oid::text || relname, ',' ORDER BY oid) FROM pg_class");
  ASSERT_EQ(Migration(steps, {{"dryRun", true}}), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT string_agg(oid::text || relname, ',' ORDER BY oid) FROM pg_class"), before);
  EXPECT_EQ(Ask("SELECT count(*) FROM t WHERE n IS NOT NULL"), "0");
  std::string told = folder_.Read("result");
  EXPECT_THAT(told, HasSubstr("1 column: takes ACCESS EXCLUSIVE on the table"));
  EXPECT_THAT(told, HasSubstr("2 fill: updates \"public\".\"t\", about 100 rows along id"));
  EXPECT_THAT(told, HasSubstr("3 later: can't be told before the steps above have run"));
  EXPECT_THAT(told, HasSubstr("4 index: runs: CREATE INDEX CONCURRENTLY \"t_n\" ON \"public\".\"t\" (\"n\")"));
  EXPECT_THAT(told, HasSubstr("5 check: asks, read-only, and expects 0"));
}

TEST_F(Migrate, AStepThatFailsIsNamedAndMayBeMended) {
  Run("CREATE TABLE t (id int)");
  Json steps = Json::parse(R"j([
    {"name": "first", "sql": "INSERT INTO t VALUES (1)"},
    {"name": "broken", "sql": "ALTER TABLE missing ADD COLUMN c int"},
    {"name": "last", "sql": "INSERT INTO t VALUES (3)"}])j");
  EXPECT_EQ(Migration(steps), migrations::kExitFailed);
  migrations::Entry broken = EntryOf("broken");
  EXPECT_EQ(broken.state, migrations::State::kFailed);
  EXPECT_THAT(broken.progress.message, HasSubstr("step broken: relation \"missing\" does not exist"));
  EXPECT_THAT(folder_.Read("result"), HasSubstr("step broken: relation \"missing\" does not exist"));
  // What never ran may be written anew; what ran may not.
  steps[1]["sql"] = "INSERT INTO t VALUES (2)";
  EXPECT_EQ(Migration(steps), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "1,2,3");
  steps[0]["sql"] = "INSERT INTO t VALUES (4)";
  EXPECT_EQ(Migration(steps), migrations::kExitFailed);
  EXPECT_THAT(folder_.Read("result"), HasSubstr("StepEdited: step first has run as something else"));
  EXPECT_EQ(Ask("SELECT count(*) FROM t"), "3");
}

TEST_F(Migrate, StatementsThatAreNoneAreRefused) {
  EXPECT_EQ(Migration(Json::parse(R"j([{"name": "two", "sql": "SELECT 1; SELECT 2"}])j")), migrations::kExitFailed);
  EXPECT_THAT(folder_.Read("result"), HasSubstr("step two: "));
  EXPECT_EQ(Migration(Json::parse(R"j([{"name": "ends", "sql": "COMMIT"}])j")), migrations::kExitFailed);
  EXPECT_THAT(folder_.Read("result"), HasSubstr("has ended the transaction"));
  EXPECT_EQ(Migration(Json::parse(R"j([{"name": "x", "verify": {"query": "SELECT 2", "expect": "3"}}])j")),
            migrations::kExitFailed);
  EXPECT_THAT(folder_.Read("result"), HasSubstr("VerifyFailed: the query gives 2, and 3 is expected"));
  EXPECT_EQ(Migration(Json::parse(R"j([{"name": "x", "frobnicate": {}}])j")), migrations::kExitRefused);
}

TEST_F(Migrate, AnInvalidIndexIsBuiltAgain) {
  Run("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000)");
  auto holder = Connect(database_);
  ASSERT_TRUE(holder.Execute("BEGIN; UPDATE t SET id = id WHERE id = 1", Soon()).has_value());
  Json steps =
      Json::parse(R"j([{"name": "index", "sql": "CREATE INDEX CONCURRENTLY t_id ON t (id)", "transaction": false}])j");
  auto process = Start(steps);
  ASSERT_TRUE(
      Becomes("SELECT coalesce((SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass('t_id')),"
              " false)",
              "t"));
  EXPECT_TRUE(
      Becomes("SELECT message LIKE 'LockHeld: step index waits, without holding anybody up, for process%' FROM"
              " pgtier.migrations",
              "t"));
  process->Stop(SIGKILL);
  process = Start(steps);
  // The server of the one that was killed still waits; it must find out.
  SleepFor(std::chrono::seconds(1), {});
  ASSERT_TRUE(holder.Execute("COMMIT", Soon()).has_value());
  EXPECT_EQ(process->Wait(kLongest), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass"), "t");
  EXPECT_EQ(Ask("SELECT count(*) FROM pg_class WHERE relname LIKE 't_id%'"), "1");
}

TEST_F(Migrate, TwoRunnersTakeTurns) {
  Run("CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO t SELECT generate_series(1, 2000)");
  Json steps = Json::parse(R"j([{"name": "add", "backfill": {"table": "t", "set": "n = n + 1", "batchRows": 20}}])j");
  auto one = Start(steps);
  auto two = Start(steps);
  EXPECT_EQ(one->Wait(), migrations::kExitDone);
  EXPECT_EQ(two->Wait(), migrations::kExitDone);
  EXPECT_EQ(Ask("SELECT count(*) FROM t WHERE n = 1"), "2000");
}

TEST_F(Migrate, WaitsForASlotThatKeepsTooMuch) {
  Run("SELECT pg_create_physical_replication_slot('migrate_slow', true); CREATE TABLE t (id int)");
  Run("INSERT INTO t SELECT generate_series(1, 100000)");
  auto process = Start(Json::parse(R"j([{"name": "add", "sql": "INSERT INTO t VALUES (0)"}])j"),
                       {{"throttle", {{"slotRetained", "1Mi"}}}});
  EXPECT_TRUE(
      Becomes("SELECT coalesce((SELECT message LIKE 'SlotRetained: slot migrate_slow keeps%' FROM"
              " pgtier.migrations), false)",
              "t"));
  Run("SELECT pg_drop_replication_slot('migrate_slow')");
  EXPECT_EQ(process->Wait(kLongest), migrations::kExitDone);
}

TEST_F(Migrate, GoesOnAfterTheServerDropsItsSession) {
  Run("CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0); INSERT INTO t SELECT generate_series(1, 3000)");
  auto process = Start(Json::parse(
      R"j([{"name": "add", "backfill": {"table": "t", "set": "n = n + 1", "batchRows": 10, "pause": "3ms"}}])j"));
  for (int i = 0; i < 3; ++i) {
    std::string before = std::to_string(EntryOf("add").progress.finished);
    ASSERT_TRUE(Becomes("SELECT coalesce((SELECT done > " + before + " + 100 FROM pgtier.migrations), false)", "t"));
    Run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgtier-migrate'");
  }
  EXPECT_EQ(process->Wait(kLongest), migrations::kExitDone) << folder_.Read("log");
  EXPECT_EQ(Ask("SELECT count(*) FROM t WHERE n = 1"), "3000");
}

}  // namespace
}  // namespace pgtier::testing
