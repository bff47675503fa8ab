// Histories get partitions while rows arrive: what the application did is in them, exactly, in tiers triggers and
// notify, whoever is killed in between.
#include <algorithm>

#include "tests/integration/ledger/application.h"
#include "tests/integration/shadow/partition_runs.h"
#include "tests/integration/shadow/shadow_fixture.h"
#include "tests/integration/shadow/worker_process.h"

namespace pgtier {
namespace {

using shadow::PartitionStage;
using testing::PartsOf;
using testing::RunStep;
using testing::Soon;
using testing::StepRun;

class PartitionTest : public testing::WithDatabase {
 protected:
  shadow::PartitionState State(const std::string& table) {
    auto state = shadow::InspectPartitions(admin(), PartsOf(table), Soon());
    if (!state.has_value()) throw std::runtime_error(state.error().message);
    return *state;
  }
  // "Code Code" of what stands in the way.
  std::string InTheWay(const std::string& table) {
    auto findings = shadow::PartitionFindings(admin(), PartsOf(table), Soon());
    if (!findings.has_value()) return findings.error().message;
    std::string codes;
    for (const auto& finding : *findings) codes += (codes.empty() ? "" : " ") + finding.code;
    return codes;
  }
  StepRun Partition(const std::string& table) { return RunStep(server(), database(), PartsOf(table)); }
};

TEST_F(PartitionTest, WritersGoOnInTriggersAndNotify) {
  Run(testing::kLedgerSchema);
  Run("CREATE TABLE probes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
  shadow::Spec spec = SpecOf({"probes"});
  for (const char* table : testing::kLedgerTables) {
    Run(std::string("INSERT INTO ") + table + " (id, uid, ver) SELECT i, i, 1 FROM generate_series(1, " +
        std::to_string(testing::kLedgerHotRows) + ") AS i");
    spec.tables.push_back({table, ""});
  }
  Install(spec);
  Run("INSERT INTO probes SELECT FROM generate_series(1, 100000)");
  Run("CREATE INDEX ON trades_history (uid, epoch, position)");
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'");
  testing::ServerFolder folder;
  folder.Write("password", "secret");
  auto options = server().Options(database());
  options.user = "pgtier_shadow_notify";
  folder.Write("worker.json", testing::WorkerConfig(folder, options, "notify"));

  testing::Ledger ledger;
  std::atomic<bool> stop = false;
  std::vector<std::jthread> writers;
  for (unsigned i = 0; i < 6; ++i) {
    writers.emplace_back([&, i] {
      testing::Application(server().Options(database()), ledger, 100 + i, static_cast<int>(i) + 1, {}).Run(stop);
    });
  }
  const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> ends(&stop, [](auto* flag) { *flag = true; });
  testing::StallProbe probe(server(), database(), "probes");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  double before = probe.LongestMs();
  probe.Reset();
  StepRun run = Partition("probes_history");
  ASSERT_EQ(run.error, "");
  double during = probe.LongestMs();
  int kills = 0;
  auto partition = [&](const std::string& table, unsigned seed) {
    StepRun done = RunStep(server(), database(), PartsOf(table), 4, seed);
    EXPECT_EQ(done.error, "") << table;
    kills += done.kills;
    EXPECT_EQ(State(table).stage, PartitionStage::kPartitioned) << table;
  };
  for (const char* table : {"customers", "subscriptions", "positions"}) {
    partition(std::string(table) + "_history", static_cast<unsigned>(kills) + 1);
  }
  auto worker = testing::StartWorker(folder.path() + "/worker.json", folder.path() + "/log");
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, shadow::Tier::kNotify, Soon()).has_value());
  for (const char* table : {"trades", "sessions", "passkeys"}) {
    partition(std::string(table) + "_history", static_cast<unsigned>(kills) + 10);
  }
  // Columns go on being followed, into every partition.
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
  EXPECT_EQ(Read("SELECT count(*) FROM probes_history"), std::to_string(100000 + probe.rows) + "\n");
  std::vector<std::string> history;
  for (const char* table : testing::kLedgerTables) {
    std::string lines = Read(std::string("SELECT '") + table +
                             "', operation, id, uid, ver, old_id, old_ver, actor FROM " + table + "_history");
    for (size_t at = 0, end = 0; (end = lines.find('\n', at)) != std::string::npos; at = end + 1) {
      history.push_back(lines.substr(at, end - at));
    }
    EXPECT_EQ(Read(std::string("SELECT relkind FROM pg_class WHERE relname = '") + table + "_history'"), "p\n");
    EXPECT_TRUE(Inspect(spec).tables.size() == 7);
  }
  std::sort(history.begin(), history.end());
  std::sort(ledger.events.begin(), ledger.events.end());
  std::vector<std::string> lost, invented;
  std::set_difference(ledger.events.begin(), ledger.events.end(), history.begin(), history.end(),
                      std::back_inserter(lost));
  std::set_difference(history.begin(), history.end(), ledger.events.begin(), ledger.events.end(),
                      std::back_inserter(invented));
  EXPECT_EQ(lost.size(), 0U) << lost.front();
  EXPECT_EQ(invented.size(), 0U) << invented.front();
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_partitioning"), "0\n");
  EXPECT_GT(kills, 3);
  std::printf(
      "partitioned 7 histories under 7 writers: %zu rows, %ld transactions, %d sessions killed; longest INSERT %.1f ms"
      " before, %.1f ms while its history was attached (%d batches, %d retries)\n",
      history.size() + static_cast<size_t>(probe.rows), ledger.transactions.load(), kills, before, during, run.batches,
      run.retries);
}

TEST_F(PartitionTest, CarriesAllThatBelongsToTheTable) {
  Run("CREATE TABLE t (id bigint PRIMARY KEY, v integer)");
  shadow::Spec spec = SpecOf({"t"});
  Install(spec);
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i");
  Run("CREATE VIEW v WITH (security_barrier = true) AS SELECT id, v FROM t_history WHERE operation <> 'TRUNCATE'");
  Run("CREATE VIEW w AS SELECT count(*) AS n FROM v");
  Run("DROP ROLE IF EXISTS \"reader one\"; CREATE ROLE \"reader one\"");
  Run("GRANT SELECT ON t_history TO \"reader one\" WITH GRANT OPTION; GRANT UPDATE (actor) ON t_history TO PUBLIC");
  Run("COMMENT ON TABLE t_history IS 'it''s'; COMMENT ON COLUMN t_history.v IS 'v of t'");
  Run("CREATE PUBLICATION p FOR TABLE t_history");
  Run("ALTER TABLE t_history ENABLE ROW LEVEL SECURITY");
  Run("CREATE POLICY mine ON t_history FOR SELECT TO \"reader one\" USING (id > 5)");
  Run("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.actor := ''f''; RETURN NEW; END'");
  Run("CREATE TRIGGER g BEFORE INSERT ON t_history FOR EACH ROW EXECUTE FUNCTION f()");
  Run("ALTER TABLE t_history ENABLE ALWAYS TRIGGER g");
  Run("ALTER TABLE t_history SET (autovacuum_vacuum_scale_factor = 0.01)");
  Run("CREATE INDEX by_id ON t_history (id, epoch, position)");
  Run("ALTER TABLE t_history ADD CONSTRAINT c CHECK (operation <> 'X')");
  Run("ALTER TABLE t_history ADD CONSTRAINT k UNIQUE (epoch, position, at_utc)");
  std::string acl = Read("SELECT relacl, relowner::regrole FROM pg_class WHERE relname = 't_history'");
  ASSERT_EQ(Partition("t_history").error, "");
  EXPECT_EQ(Partition("t_history").error, "");  // again: nothing to do
  EXPECT_EQ(Read("SELECT relacl, relowner::regrole FROM pg_class WHERE relname = 't_history'"), acl);
  EXPECT_EQ(Read("SELECT attacl FROM pg_attribute WHERE attrelid = 't_history'::regclass AND attname = 'actor'"),
            "{=w/pgtier_shadow}\n");
  EXPECT_EQ(Read("SELECT obj_description('t_history'::regclass), col_description('t_history'::regclass, (SELECT attnum"
                 " FROM pg_attribute WHERE attrelid = 't_history'::regclass AND attname = 'v'))"),
            "it's|v of t\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_publication_tables WHERE pubname = 'p'"),
            Read("SELECT count(*) FROM pg_partition_tree('t_history') WHERE isleaf"));
  EXPECT_EQ(Read("SELECT policyname, roles, qual FROM pg_policies WHERE tablename = 't_history'"),
            "mine|{\"reader one\"}|(id > 5)\n");
  EXPECT_EQ(Read("SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgname = 'g'"), "A\n");
  // New rows go where their time says; leaves of later have what the first one has.
  Run("INSERT INTO t VALUES (101, 0)");
  EXPECT_EQ(Read("SELECT n FROM w"), "101\n");
  EXPECT_EQ(Read("SELECT actor FROM t_history WHERE id = 101"), "f\n");
  EXPECT_EQ(
      Read("INSERT INTO t_history (epoch, position, at_utc, operation) SELECT 1, 1000, now() + interval '20 days',"
           " 'INSERT' RETURNING tableoid::regclass::text LIKE 't_history_p%'"),
      "t\n");
  EXPECT_NE(
      Fails("INSERT INTO t_history (epoch, position, at_utc, operation) SELECT 1, 1, now() + interval '1 year', ''"),
      "");
  EXPECT_NE(Fails("INSERT INTO t_history (epoch, position, at_utc, operation) SELECT 1, 1, now() + '20 days', 'X'"),
            "");
  EXPECT_EQ(
      Read("SELECT count(DISTINCT (SELECT count(*) FROM pg_index WHERE indrelid = c.oid)), count(DISTINCT reloptions)"
           " FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid WHERE inhparent = 't_history'::regclass"),
      "1|1\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE NOT indisvalid"),
            "0\n");
  // The policy goes on: installed, followed, adopted again.
  EXPECT_TRUE(Inspect(spec).tables[0].installed);
  Run("ALTER TABLE t RENAME COLUMN v TO w_");
  EXPECT_EQ(Fails("ALTER TABLE t_history DROP COLUMN old_w_").substr(0, 16), "public.t_history");
  ASSERT_TRUE(shadow::Uninstall(admin(), spec, Soon()).has_value());
  Install(spec);
  Run("UPDATE t SET w_ = 7 WHERE id = 9");
  EXPECT_EQ(Read("SELECT w_, old_w_ FROM t_history WHERE operation = 'UPDATE'"), "7|0\n");
}

TEST_F(PartitionTest, KeepsPartitionsAheadAndDropsWhatIsOld) {
  Run("CREATE TABLE t (id bigint PRIMARY KEY)");
  Install(SpecOf({"t"}));
  Run("INSERT INTO t SELECT generate_series(1, 10)");
  ASSERT_EQ(Partition("t_history").error, "");
  shadow::PartitionSpec more = PartsOf("t_history");
  more.ahead = 8;
  EXPECT_EQ(shadow::EnsureAhead(admin(), more, Soon()).value_or(-1), 4);
  EXPECT_EQ(shadow::EnsureAhead(admin(), more, Soon()).value_or(-1), 0);
  auto state = State("t_history");
  ASSERT_TRUE(state.upper.has_value());
  EXPECT_GT(*state.upper, SystemClock().Now() + std::chrono::hours(24 * 7 * 8));
  EXPECT_FALSE(state.old_part.empty());
  EXPECT_FALSE(state.old_part_past);
  // A year of rows, in partitions that a person made.
  for (int month = 1; month <= 12; ++month) {
    std::string name = "old_" + std::to_string(month);
    Run("CREATE TABLE " + name + " (LIKE t_history INCLUDING ALL)");
  }
  Run("ALTER TABLE t_history DETACH PARTITION " + state.old_part);
  for (int i = 1; i <= 12; ++i) {
    std::string n = std::to_string(i);
    Run("ALTER TABLE t_history ATTACH PARTITION old_" + n + " FOR VALUES FROM ('2020-" + n + "-01') TO ('2020-" + n +
        "-20')");
  }
  EXPECT_EQ(shadow::DropExpired(admin(), more, std::chrono::hours(24 * 365 * 30), 100, Soon())->size(), 0U);
  EXPECT_EQ(shadow::DropExpired(admin(), more, std::chrono::hours(24 * 30), 5, Soon())->size(), 5U);
  EXPECT_EQ(Read("SELECT to_regclass('old_5') IS NULL, to_regclass('old_6') IS NULL"), "t|f\n");
}

TEST_F(PartitionTest, SaysWhatStandsInTheWay) {
  Run("CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, at_utc date, note text UNIQUE)");
  Run("CREATE TABLE t (id integer)");
  Install(SpecOf({"t"}));
  EXPECT_EQ(InTheWay("events"), "PartitionColumnType KeyWithoutColumn KeyWithoutColumn");
  EXPECT_EQ(InTheWay("nothing"), "NoTable");
  EXPECT_NE(Partition("events").error.find("KeyWithoutColumn: public.events_note_key is unique without at_utc"),
            std::string::npos);
  Run("CREATE TABLE h (id bigint, at_utc timestamptz, other bigint REFERENCES events)");
  Run("CREATE MATERIALIZED VIEW m AS SELECT id FROM h; CREATE RULE r AS ON DELETE TO h DO INSTEAD NOTHING");
  EXPECT_EQ(InTheWay("h"), "ForeignKey Dependent Rule");
  Run("CREATE TABLE g (at_utc timestamp) PARTITION BY HASH (at_utc)");
  EXPECT_EQ(InTheWay("g"), "PartitionedOtherwise");
  // Rows that no bound can cover stop it, and leave nothing behind.
  Run("CREATE TABLE late (at_utc timestamptz); INSERT INTO late VALUES ('2100-01-01')");
  EXPECT_EQ(Partition("late").error.substr(0, 12), "RowsOutside:");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_constraint WHERE conname = 'pgtier_partition_bound'"), "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_partitioning"), "0\n");
  EXPECT_EQ(Fails("INSERT INTO late VALUES ('2101-01-01')"), "");
}

TEST_F(PartitionTest, BeginsAnewWhenTheTableWasChangedMeanwhile) {
  Run("CREATE TABLE t (id bigint PRIMARY KEY)");
  Install(SpecOf({"t"}));
  Run("INSERT INTO t SELECT generate_series(1, 10)");
  auto step = shadow::MakePartitionStep(PartsOf("t_history"));
  migrations::StepState state;
  auto save = [](const migrations::StepState&, const migrations::Progress&, Deadline) { return Status(); };
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(step->Advance(admin(), state, save, Soon()).has_value());
  EXPECT_EQ(State("t_history").stage, PartitionStage::kMarked);
  EXPECT_TRUE(State("t_history").proven);
  Run("ALTER TABLE t ADD COLUMN extra text");
  Run("CREATE INDEX ON t_history (extra)");
  ASSERT_EQ(Partition("t_history").error, "");
  Run("INSERT INTO t VALUES (11, 'x')");
  EXPECT_EQ(Read("SELECT extra, count(*) FROM t_history GROUP BY 1 ORDER BY 1"), "x|1\n-|10\n");
  // A bound that nobody finishes is taken back.
  Run("CREATE TABLE u (id bigint PRIMARY KEY)");
  Install(SpecOf({"t", "u"}));
  ASSERT_TRUE(step->Advance(admin(), state, save, Soon()).has_value());
  auto other = shadow::MakePartitionStep(PartsOf("u_history"));
  ASSERT_TRUE(other->Advance(admin(), state, save, Soon()).has_value());
  EXPECT_EQ(State("u_history").stage, PartitionStage::kMarked);
  ASSERT_TRUE(shadow::ForgetPartitioning(admin(), PartsOf("u_history"), Soon()).has_value());
  EXPECT_EQ(State("u_history").stage, PartitionStage::kPlain);
  EXPECT_EQ(Read("SELECT count(*) FROM pg_class WHERE relname LIKE 'u_history_p%'"), "0\n");
}

// Rows of ten weeks, and a first partition whose end is past.
class PartitionSplitTest : public PartitionTest {
 protected:
  void SetUp() override {
    PartitionTest::SetUp();
    if (IsSkipped()) return;
    Run("CREATE TABLE t (id bigint PRIMARY KEY)");
    Install(SpecOf({"t"}));
    Run("INSERT INTO t_history (epoch, position, at_utc, operation, id) SELECT 1, i, now() - interval '77 days' +"
        " i * interval '100 s', 'INSERT', i FROM generate_series(1, 60000) AS i");
    Run("SELECT setval('pgtier.position_1', 60000)");
    ASSERT_EQ(Partition("t_history").error, "");
    std::string old = State("t_history").old_part;
    Run("ALTER TABLE t_history DETACH PARTITION " + old);
    Run("DO $$ BEGIN EXECUTE format('ALTER TABLE t_history ATTACH PARTITION " + old +
        " FOR VALUES FROM (MINVALUE) TO (%L)', pgtier.shadow_period(now(), '7 days')); EXECUTE format('CREATE TABLE "
        "now_"
        " PARTITION OF t_history FOR VALUES FROM (%L) TO (%L)', pgtier.shadow_period(now(), '7 days'),"
        " pgtier.shadow_period(now(), '7 days') + interval '7 days'); END $$");
    ASSERT_TRUE(State("t_history").old_part_past);
  }
};

TEST_F(PartitionSplitTest, TakesTheCopyInItsPlaceWhoeverDies) {
  std::atomic<bool> stop = false;
  std::atomic<int64_t> late = 0;
  std::jthread writer([&] {  // a consumer that is behind
    auto connection = Open();
    while (!stop) {
      std::string n = std::to_string(70000 + late);
      Run(connection, "INSERT INTO t_history (epoch, position, at_utc, operation, id) VALUES (1, " + n +
                          ", now() - interval '30 days', 'INSERT', " + n + ")");
      ++late;
    }
  });
  const std::unique_ptr<std::atomic<bool>, void (*)(std::atomic<bool>*)> ends(&stop, [](auto* flag) { *flag = true; });
  while (late < 20) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  StepRun run = RunStep(server(), database(), PartsOf("t_history"), 6, 3);
  stop = true;
  writer.join();
  EXPECT_EQ(run.error, "");
  EXPECT_GT(run.kills, 2);
  EXPECT_EQ(State("t_history").old_part, "");
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT position), sum(id) FROM t_history"),
            Read("SELECT 60000 + " + std::to_string(late) + ", 60000 + " + std::to_string(late) +
                 ", (SELECT sum(i) FROM generate_series(1, 60000) AS i) + (SELECT sum(i) FROM generate_series(70000, "
                 "69999 + " +
                 std::to_string(late) + ") AS i)"));
  EXPECT_EQ(Read("SELECT count(*) FROM pg_class WHERE relname LIKE 'late_%' OR relname LIKE 't_history_before%'"),
            "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_splits"), "0\n");
  // Now that there are periods, old ones can go.
  auto dropped = shadow::DropExpired(admin(), PartsOf("t_history"), std::chrono::hours(24 * 42), 100, Soon());
  ASSERT_TRUE(dropped.has_value()) << dropped.error().message;
  EXPECT_GE(dropped->size(), 3U);
  EXPECT_EQ(Read("SELECT min(at_utc) BETWEEN now() - interval '50 days' AND now() - interval '42 days' FROM t_history"),
            "t\n");
  std::printf("split under a late writer: %d batches, %d retries, %d sessions killed, %ld late rows\n", run.batches,
              run.retries, run.kills, late.load());
}

TEST_F(PartitionSplitTest, BeginsAnewWhenRowsWereChanged) {
  auto step = shadow::MakePartitionStep(PartsOf("t_history"));
  migrations::StepState state;
  auto save = [](const migrations::StepState&, const migrations::Progress&, Deadline) { return Status(); };
  auto advance = [&] {
    auto done = step->Advance(admin(), state, save, Soon());
    EXPECT_TRUE(done.has_value()) << done.error().message;
    return done.has_value() && done->done;
  };
  ASSERT_FALSE(advance());
  // What runs as the history's owner may put nothing on the copy that would run as who copies.
  const std::string copies =
      "SELECT copy FROM pgtier.shadow_splits UNION ALL SELECT inhrelid FROM pg_inherits,"
      " pgtier.shadow_splits WHERE inhparent = copy";
  EXPECT_EQ(Read("SELECT count(*) > 10, bool_or(relowner = 'pgtier_shadow'::regrole) FROM pg_class WHERE oid IN (" +
                 copies + ")"),
            "t|f\n");
  EXPECT_NE(Fails("SET LOCAL ROLE pgtier_shadow; UPDATE pgtier.shadow_splits SET copy = 0").find("permission denied"),
            std::string::npos);
  Run("UPDATE t_history SET actor = 'erased' WHERE id = 7; ALTER TABLE t ADD COLUMN extra text");
  ASSERT_FALSE(advance());
  Run("DELETE FROM t_history WHERE id = 8");
  for (int i = 0; i < 100 && !advance(); ++i) continue;
  EXPECT_EQ(Read("SELECT actor FROM t_history WHERE id BETWEEN 7 AND 8"), "erased\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "59999\n");
  EXPECT_EQ(Read("SELECT DISTINCT c.relowner::regrole FROM pg_partition_tree('t_history') AS p JOIN pg_class AS c ON"
                 " c.oid = p.relid WHERE p.relid <> 'now_'::regclass"),
            "pgtier_shadow\n");
  EXPECT_EQ(State("t_history").old_part, "");
}

}  // namespace
}  // namespace pgtier
