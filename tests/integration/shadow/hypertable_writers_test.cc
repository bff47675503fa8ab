// Histories become hypertables while rows arrive: what the application did is in them, exactly, in every tier, whoever
// is killed in between.
#include <algorithm>

#include "tests/integration/ledger/application.h"
#include "tests/integration/shadow/partition_runs.h"
#include "tests/integration/shadow/shadow_fixture.h"
#include "tests/integration/shadow/with_timescale.h"
#include "tests/integration/shadow/worker_process.h"
#include "tests/integration/workers/conversion.h"

namespace pgtier::testing {
namespace {

class HypertableWritersTest : public WithTimescale<WithDatabase> {
 protected:
  // Lines that are in `left` and not in `right`, each as often as it is missing.
  static std::vector<std::string> Missing(const std::vector<std::string>& left, const std::vector<std::string>& right) {
    std::vector<std::string> missing;
    std::set_difference(left.begin(), left.end(), right.begin(), right.end(), std::back_inserter(missing));
    return missing;
  }
};

TEST_F(HypertableWritersTest, WritersGoOnInTriggersAndNotify) {
  Run("CREATE EXTENSION timescaledb");
  Run(kLedgerSchema);
  Run("CREATE TABLE probes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
  shadow::Spec spec = SpecOf({"probes"});
  for (const char* table : kLedgerTables) {
    Run(std::string("INSERT INTO ") + table + " (id, uid, ver) SELECT i, i, 1 FROM generate_series(1, " +
        std::to_string(kLedgerHotRows) + ") AS i");
    spec.tables.push_back({table, ""});
  }
  Install(spec);
  Run("INSERT INTO probes SELECT FROM generate_series(1, 20000)");
  Run("CREATE INDEX ON trades_history (uid, epoch, position)");
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'");
  ServerFolder folder;
  folder.Write("password", "secret");
  auto options = server().Options(database());
  options.user = "pgtier_shadow_notify";
  folder.Write("worker.json", WorkerConfig(folder, options, "notify"));

  Ledger ledger;
  std::atomic<bool> stop = false;
  std::vector<std::jthread> writers;
  for (unsigned i = 0; i < 6; ++i) {
    writers.emplace_back(
        [&, i] { Application(server().Options(database()), ledger, 200 + i, static_cast<int>(i) + 1, {}).Run(stop); });
  }
  const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> ends(&stop, [](auto* flag) { *flag = true; });
  StallProbe probe(server(), database(), "probes");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  double before = probe.LongestMs();
  probe.Reset();
  StepRun run = RunStep(server(), database(), PartsOf("probes_history"));
  ASSERT_EQ(run.error, "");
  double during = probe.LongestMs();
  int kills = 0;
  auto convert = [&](const std::string& table, unsigned seed) {
    StepRun done = RunStep(server(), database(), PartsOf(table + "_history"), 2, seed);
    EXPECT_EQ(done.error, "") << table;
    kills += done.kills;
    auto state = shadow::InspectPartitions(admin(), PartsOf(table + "_history"), Soon());
    ASSERT_TRUE(state.has_value()) << state.error().message;
    EXPECT_EQ(state->stage, shadow::PartitionStage::kHypertable) << table;
    EXPECT_TRUE(state->managed && !state->unfinished) << table;
  };
  for (const char* table : {"customers", "positions"}) {
    convert(table, static_cast<unsigned>(kills) + 1);
  }
  auto worker = StartWorker(folder.path() + "/worker.json", folder.path() + "/log");
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, shadow::Tier::kNotify, Soon()).has_value());
  for (const char* table : {"trades", "sessions"}) {
    convert(table, static_cast<unsigned>(kills) + 10);
  }
  // Columns go on being followed, into every chunk.
  Run("ALTER TABLE customers ADD COLUMN late text DEFAULT 'd'");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, shadow::Tier::kTriggers, Soon()).has_value());
  stop = true;
  writers.clear();
  probe.Stop();
  Deadline until = Deadline::After(std::chrono::seconds(120));
  for (bool drained = false; !drained && !until.Expired();)
    drained = shadow::Drained(admin(), spec, Soon()).value_or(false);

  EXPECT_EQ(ledger.unknown.size(), 0U);
  EXPECT_EQ(probe.failures, 0);
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT position) FROM probes_history"),
            std::to_string(20000 + probe.rows) + "|" + std::to_string(20000 + probe.rows) + "\n");
  std::vector<std::string> history;
  for (const char* table : kLedgerTables) {
    std::string lines = Read(std::string("SELECT '") + table +
                             "', operation, id, uid, ver, old_id, old_ver, actor FROM " + table + "_history");
    for (size_t at = 0, end = 0; (end = lines.find('\n', at)) != std::string::npos; at = end + 1) {
      history.push_back(lines.substr(at, end - at));
    }
  }
  std::sort(history.begin(), history.end());
  std::sort(ledger.events.begin(), ledger.events.end());
  auto lost = Missing(ledger.events, history);
  auto invented = Missing(history, ledger.events);
  EXPECT_EQ(lost.size(), 0U) << lost.front();
  EXPECT_EQ(invented.size(), 0U) << invented.front();
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0\n");
  // Nothing is left of the way.
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_splits"), "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_class WHERE relname LIKE 'late\\_%' OR relname LIKE '%\\_before\\_chunks'"
                 " OR relname LIKE '%\\_chunked'"),
            "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_proc WHERE proname LIKE 'shadow\\_catch%' OR proname LIKE 'shadow\\_call%'"),
            "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgtier\\_split%'"), "0\n");
  EXPECT_GT(kills, 3);
  std::printf(
      "made 5 hypertables under 7 writers: %zu rows, %ld transactions, %d sessions killed; longest INSERT %.1f ms"
      " before, %.1f ms while its history was copied and exchanged (%d batches, %d retries)\n",
      history.size() + static_cast<size_t>(probe.rows), ledger.transactions.load(), kills, before, during, run.batches,
      run.retries);
}

// More rows come than one transaction holds writers off for, and pgtier-migrate does it, as in its Job.
TEST_F(HypertableWritersTest, ManyRowsComeWhileTheProgramMakesIt) {
  Run("CREATE EXTENSION timescaledb; CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
  Install(SpecOf({"t"}));
  Run("INSERT INTO t_history (epoch, position, at_utc, operation, id) SELECT 1, -i, now() - i * interval '10 s',"
      " 'INSERT', -i FROM generate_series(1, 60000) AS i");
  ServerFolder folder;
  auto options = server().Options(database());
  folder.Write("password", options.password);
  const std::string step = R"({"policy": "audit", "table": "public.t_history", "engine": "Auto"})";
  folder.Write("migration.json",
               R"({"migration": "data/audit-partition-t-history", "database": {"host": ")" + options.host +
                   R"(", "port": )" + std::to_string(options.port) + R"(, "name": ")" + database() + R"(", "user": ")" +
                   options.user + R"(", "passwordFile": ")" + folder.path() + R"(/password"}, "resultFile": ")" +
                   folder.path() + R"(/result", "steps": [{"name": "partition", "partitionHistory": )" + step + "}]}");
  std::atomic<int64_t> rows = 0;
  std::jthread writer([&](const std::stop_token& stop) {
    auto connection = Open();
    while (!stop.stop_requested()) {
      Run(connection, "INSERT INTO t SELECT FROM generate_series(1, 3000)");
      rows += 3000;
    }
  });
  test::ChildProcess migrate({PGTIER_MIGRATE_PROGRAM, "--config", folder.path() + "/migration.json"},
                             folder.path() + "/log");
  EXPECT_EQ(migrate.Wait(std::chrono::seconds(120)), 0) << folder.Read("log");
  int64_t meanwhile = rows;
  writer.request_stop();
  writer.join();
  std::string all = std::to_string(60000 + rows);
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT position) FROM t_history"), all + "|" + all + "\n");
  EXPECT_EQ(Read("SELECT count(*) FROM (SELECT id FROM t EXCEPT ALL SELECT id FROM t_history) AS lost"), "0\n");
  EXPECT_EQ(Read("SELECT state FROM pgtier.migrations"), "Done\n");
  EXPECT_TRUE(shadow::InspectPartitions(admin(), PartsOf("t_history"), Soon())->managed);
  EXPECT_GT(meanwhile, 5000);
  std::printf("pgtier-migrate made a hypertable of 60000 rows while %ld came\n", meanwhile);
}

class CdcHypertableTest : public WithTimescale<Conversion<CdcFixture>> {};

TEST_F(CdcHypertableTest, TheConsumerGoesOn) {
  Run("CREATE EXTENSION timescaledb");
  TheConsumerGoesOn(
      "SELECT count(*) = 1 FROM timescaledb_information.hypertables WHERE hypertable_name = 'acc_history'");
}

}  // namespace
}  // namespace pgtier::testing
