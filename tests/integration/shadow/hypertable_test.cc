// A history as a hypertable: what it takes along, what stands in the way, how it is kept.
#include "controllers/shadow_table/partitions.h"
#include "crds/shadow_table_policy_codec.h"
#include "tests/integration/shadow/partition_runs.h"
#include "tests/integration/shadow/shadow_fixture.h"
#include "tests/integration/shadow/with_timescale.h"

namespace pgtier::testing {
namespace {

using shadow::PartitionEngine;
using shadow::PartitionStage;

class HypertableTest : public WithTimescale<WithDatabase> {
 protected:
  void SetUp() override {
    WithTimescale<WithDatabase>::SetUp();
    if (IsSkipped()) return;
    Run("CREATE EXTENSION timescaledb");
    Run("CREATE TABLE t (id bigint PRIMARY KEY, v integer)");
    spec_ = SpecOf({"t"});
    Install(spec_);
  }
  shadow::PartitionState State(const std::string& table = "t_history") {
    auto state = shadow::InspectPartitions(admin(), PartsOf(table), Soon());
    if (!state.has_value()) throw std::runtime_error(state.error().message);
    return *state;
  }
  static shadow::PartitionSpec By(PartitionEngine engine, const std::string& table = "t_history") {
    shadow::PartitionSpec spec = PartsOf(table);
    spec.engine = engine;
    return spec;
  }
  // The error of the step, run to its end; empty: none.
  std::string Convert(const shadow::PartitionSpec& spec = PartsOf("t_history")) {
    return RunStep(server(), database(), spec).error;
  }
  // Rows of ten weeks, an hour apart, numbered from 1001.
  void FillWeeks() {
    Run("INSERT INTO t_history (epoch, position, at_utc, operation, id) SELECT 1, 1000 + i, now() - i * interval '1 h',"
        " 'INSERT', 1000 + i FROM generate_series(1, 1680) AS i");
  }
  static migrations::SaveCheckpoint Forgetful() {
    return [](const migrations::StepState&, const migrations::Progress&, Deadline) { return Status(); };
  }
  // What the policy's condition says of the history, from what the database says.
  controllers::Saying Said(const std::string& condition, const shadow::TimescaleState& timescale) {
    using namespace controllers::shadow_table;
    auto policy = crds::DecodeShadowTablePolicy(nlohmann::json::parse(R"({
      "metadata": {"namespace": "data", "name": "audit"},
      "spec": {"databaseRef": {"name": "kyoyu"}, "tables": [{"name": "public.t"}], "tiers": [{"name": "triggers"}],
               "partitioning": {"compression": {"olderThan": "42d"}}}})"));
    if (!policy.has_value()) throw std::runtime_error(policy.error().message);
    const Resolved resolved = Resolve(*policy);
    Seen seen;
    seen.timescale = timescale;
    seen.partitions.push_back({"public.t_history", true, State(), {}, {}, {}, {}});
    const core::Decision decision;
    const Outcome outcome{*policy, resolved, seen, decision, {}, "", false, false, SystemClock().Now()};
    return condition == "Compressed" ? SayCompressed(outcome) : SayPartitioned(outcome);
  }
  shadow::Spec spec_;
};

TEST_F(HypertableTest, CarriesAllThatBelongsToTheTable) {
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i");
  Run("ALTER TABLE t_history ADD COLUMN junk text; ALTER TABLE t_history DROP COLUMN junk");
  Run("CREATE VIEW v WITH (security_barrier = true) AS SELECT id, v FROM t_history WHERE operation <> 'TRUNCATE'");
  Run("CREATE VIEW w AS SELECT count(*) AS n FROM v");
  Run("DROP ROLE IF EXISTS \"reader two\"; CREATE ROLE \"reader two\"");
  Run("GRANT SELECT ON t_history TO \"reader two\" WITH GRANT OPTION; GRANT UPDATE (actor) ON t_history TO PUBLIC");
  Run("COMMENT ON TABLE t_history IS 'it''s'; COMMENT ON COLUMN t_history.v IS 'v of t'");
  Run("ALTER TABLE t_history ENABLE ROW LEVEL SECURITY");
  Run("CREATE POLICY mine ON t_history FOR SELECT TO \"reader two\" USING (id > 5)");
  Run("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.actor := ''f''; RETURN NEW; END'");
  Run("CREATE TRIGGER g BEFORE INSERT ON t_history FOR EACH ROW EXECUTE FUNCTION f()");
  Run("ALTER TABLE t_history SET (autovacuum_vacuum_scale_factor = 0.01)");
  Run("CREATE INDEX by_id ON t_history (id, epoch, position)");
  Run("ALTER TABLE t_history ADD CONSTRAINT c CHECK (operation <> 'X')");
  Run("ALTER TABLE t_history ADD CONSTRAINT k UNIQUE (epoch, position, at_utc)");
  std::string acl = Read("SELECT relacl, relowner::regrole FROM pg_class WHERE oid = 't_history'::regclass");
  std::string indexes = Read("SELECT count(*) FROM pg_index WHERE indrelid = 't_history'::regclass");
  ASSERT_EQ(Convert(), "");
  EXPECT_EQ(Convert(), "");  // again: nothing to do
  EXPECT_EQ(State().stage, PartitionStage::kHypertable);
  EXPECT_EQ(State().chunk, std::chrono::hours(24 * 7));
  EXPECT_EQ(Read("SELECT relacl, relowner::regrole FROM pg_class WHERE oid = 't_history'::regclass"), acl);
  EXPECT_EQ(Read("SELECT count(*) FROM pg_index WHERE indrelid = 't_history'::regclass"), indexes);
  EXPECT_EQ(Read("SELECT DISTINCT relowner::regrole FROM pg_class WHERE oid IN (SELECT relation FROM"
                 " pgtier.shadow_chunks('t_history'::regclass))"),
            "pgtier_shadow\n");
  EXPECT_EQ(Read("SELECT obj_description('t_history'::regclass), col_description('t_history'::regclass, (SELECT attnum"
                 " FROM pg_attribute WHERE attrelid = 't_history'::regclass AND attname = 'v'))"),
            "it's|v of t\n");
  EXPECT_EQ(Read("SELECT policyname, roles, qual FROM pg_policies WHERE tablename = 't_history'"),
            "mine|{\"reader two\"}|(id > 5)\n");
  Run("INSERT INTO t VALUES (101, 0)");
  EXPECT_EQ(Read("SELECT n FROM w"), "101\n");
  EXPECT_EQ(Read("SELECT actor, tableoid::regclass::text LIKE '_timescaledb_internal.%' FROM t_history WHERE id = 101"),
            "f|t\n");
  EXPECT_NE(Fails("INSERT INTO t_history (epoch, position, at_utc, operation) SELECT 1, 1, now(), 'X'"), "");
  // The policy goes on: installed, followed, adopted again.
  EXPECT_TRUE(Inspect(spec_).tables[0].installed);
  Run("ALTER TABLE t RENAME COLUMN v TO w_; ALTER TABLE t ADD COLUMN more text");
  EXPECT_EQ(Fails("ALTER TABLE t_history DROP COLUMN old_w_").substr(0, 16), "public.t_history");
  Run("DROP TRIGGER g ON t_history");  // code that is not pgtier's would be refused
  ASSERT_TRUE(shadow::Uninstall(admin(), spec_, Soon()).has_value());
  EXPECT_EQ(Preflight(spec_), "");
  Install(spec_);
  Run("UPDATE t SET w_ = 7, more = 'm' WHERE id = 9");
  EXPECT_EQ(Read("SELECT w_, old_w_, more FROM t_history WHERE operation = 'UPDATE'"), "7|0|m\n");
}

TEST_F(HypertableTest, IsForHistoriesAndWhereNothingStandsInTheWay) {
  // A function of the application's that would be called in place of TimescaleDB's is not called.
  Run("CREATE TABLE caught (who text)");
  Run("CREATE FUNCTION create_hypertable(h regclass, c name, chunk_time_interval interval, create_default_indexes"
      " boolean) RETURNS integer LANGUAGE sql AS 'INSERT INTO caught VALUES (current_user) RETURNING 1'");
  EXPECT_NE(Convert().find("would be called in place of TimescaleDB's function"), std::string::npos);
  EXPECT_EQ(Read("SELECT count(*) FROM caught"), "0\n");
  EXPECT_EQ(State().stage, PartitionStage::kPlain);
  Run("DROP FUNCTION create_hypertable(regclass, name, interval, boolean)");
  // Rows without a time stop it.
  Run("CREATE TABLE h (epoch bigint, position bigint, at_utc timestamptz)");
  Run("INSERT INTO h VALUES (1, 1, now()), (1, 2, NULL)");
  EXPECT_EQ(Convert(PartsOf("h")).substr(0, 12), "RowsOutside:");
  EXPECT_EQ(State("h").stage, PartitionStage::kPlain);
  EXPECT_EQ(Fails("INSERT INTO h VALUES (1, 3, NULL)"), "");

  auto against = [&](const std::string& table) {
    auto found = shadow::HypertableFindings(admin(), PartsOf(table), Soon());
    if (!found.has_value()) return found.error().message;
    std::string codes;
    for (const auto& finding : *found) codes += (codes.empty() ? "" : " ") + finding.code;
    return codes;
  };
  EXPECT_EQ(against("t_history"), "");
  Run("ALTER TABLE t_history ADD CONSTRAINT k UNIQUE (epoch, position)");
  EXPECT_NE(Convert().find("KeyWithoutColumn: public.k is unique without at_utc"), std::string::npos);
  EXPECT_EQ(State().stage, PartitionStage::kPlain);
  Run("ALTER TABLE t_history DROP CONSTRAINT k");
  // Rows of another table have no number: it gets native partitions, unless hypertables are asked for.
  Run("CREATE TABLE events (id bigint, at_utc timestamptz NOT NULL)");
  EXPECT_EQ(against("events"), "NotAHistory");
  EXPECT_NE(Convert(By(PartitionEngine::kHypertable, "events")).find("NotAHistory: "), std::string::npos);
  EXPECT_EQ(Convert(PartsOf("events")), "");
  EXPECT_EQ(State("events").stage, PartitionStage::kPartitioned);
  // What a publication sends would stay out of it.
  Run("CREATE PUBLICATION p FOR TABLE t_history");
  EXPECT_EQ(against("t_history"), "Published");
  EXPECT_NE(Convert(By(PartitionEngine::kHypertable)).find("Published: publication p has"), std::string::npos);
  Run("DROP PUBLICATION p; ALTER TABLE t_history ADD CONSTRAINT n CHECK (epoch > 0) NO INHERIT");
  EXPECT_EQ(against("t_history"), "NoInherit");
  Run("ALTER TABLE t_history DROP CONSTRAINT n");
  Run("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'");
  Run("CREATE TRIGGER g BEFORE INSERT ON t_history FOR EACH ROW EXECUTE FUNCTION f()");
  EXPECT_EQ(against("t_history"), "");
  Run("ALTER TABLE t_history ENABLE ALWAYS TRIGGER g");
  EXPECT_EQ(against("t_history"), "TriggerMode");
  EXPECT_EQ(Convert(By(PartitionEngine::kNative)), "");
  EXPECT_EQ(State().stage, PartitionStage::kPartitioned);
}

TEST_F(HypertableTest, NeedsTheExtensionInThisDatabase) {
  Run("DROP EXTENSION timescaledb");
  auto timescale = shadow::InspectTimescale(admin(), Soon());
  ASSERT_TRUE(timescale.has_value()) << timescale.error().message;
  EXPECT_TRUE(timescale->available);
  EXPECT_EQ(timescale->version, "");
  EXPECT_NE(Convert(By(PartitionEngine::kHypertable)).find("NoTimescaleDB: this database has no extension"),
            std::string::npos);
  EXPECT_EQ(Convert(), "");
  EXPECT_EQ(State().stage, PartitionStage::kPartitioned);
}

TEST_F(HypertableTest, ChunksThatAreOldGoAndOnlyOfItsOwnHypertables) {
  FillWeeks();
  ASSERT_EQ(Convert(), "");
  EXPECT_GE(State().parts, 10);
  auto keep = std::chrono::hours(24 * 42);
  // The Apache build compresses nothing, and is known.
  auto timescale = shadow::InspectTimescale(admin(), Soon());
  ASSERT_TRUE(timescale.has_value()) << timescale.error().message;
  EXPECT_NE(timescale->version, "");
  EXPECT_FALSE(timescale->compresses);
  EXPECT_EQ(Said("Compressed", *timescale).reason, "CompressionNotInThisBuild");
  EXPECT_EQ(Said("Partitioned", *timescale).message, "1 of 1 tables in chunks of 7d, " + std::to_string(State().parts) +
                                                         " of them, kept for ever; engine Hypertable: TimescaleDB " +
                                                         timescale->version);
  auto chunks = shadow::ChunksToCompress(admin(), PartsOf("t_history"), keep, Soon());
  ASSERT_TRUE(chunks.has_value()) << chunks.error().message;
  ASSERT_GE(chunks->size(), 3U);
  EXPECT_EQ(chunks->front().once.find('-'), std::string("20260101t0000").size());
  EXPECT_NE(Fails(shadow::CompressionOf(chunks->front(), PartsOf("t_history"))), "");
  EXPECT_EQ(shadow::DropExpired(admin(), PartsOf("t_history"), std::chrono::hours(24 * 365), 100, Soon())->size(), 0U);
  auto one = shadow::DropExpired(admin(), PartsOf("t_history"), keep, 1, Soon());
  ASSERT_TRUE(one.has_value()) << one.error().message;
  EXPECT_EQ(one->size(), 1U);
  EXPECT_EQ(Read("SELECT min(at_utc) < now() - interval '60 days' FROM t_history"), "t\n");
  auto rest = shadow::DropExpired(admin(), PartsOf("t_history"), keep, 100, Soon());
  ASSERT_TRUE(rest.has_value()) << rest.error().message;
  EXPECT_GE(rest->size(), 2U);
  EXPECT_EQ(Read("SELECT min(at_utc) BETWEEN now() - interval '50 days' AND now() - interval '42 days' FROM t_history"),
            "t\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history WHERE at_utc > now() - interval '42 days'"),
            Read("SELECT count(*) FROM generate_series(1, 1680) AS i WHERE i < 42 * 24"));
  // Somebody else's are left alone.
  Run("CREATE TABLE theirs (LIKE t_history); SELECT create_hypertable('theirs', 'at_utc')");
  Run("INSERT INTO theirs (epoch, position, at_utc, operation) VALUES (1, 1, '2020-01-01', 'INSERT')");
  EXPECT_FALSE(State("theirs").managed);
  EXPECT_EQ(shadow::DropExpired(admin(), PartsOf("theirs"), keep, 100, Soon())->size(), 0U);
  EXPECT_EQ(Convert(PartsOf("theirs")), "");
}

TEST_F(HypertableTest, IsMadeWithoutASuperuser) {
  MakeRole("rds_two", "CREATEROLE");
  Run("GRANT pgtier_shadow TO rds_two; GRANT ALL ON DATABASE " + database() + " TO rds_two");
  Run("GRANT ALL ON SCHEMA public TO rds_two WITH GRANT OPTION");
  Run("DROP SCHEMA pgtier CASCADE; DROP TABLE t, t_history");
  auto rds = OpenAs("rds_two");
  Run(rds, "CREATE TABLE t (id bigint PRIMARY KEY, v integer)");
  auto installed = shadow::Install(rds, spec_, Soon());
  ASSERT_TRUE(installed.has_value()) << installed.error().message;
  Run(rds, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i");
  auto step = shadow::MakePartitionStep(PartsOf("t_history"));
  migrations::StepState state;
  for (bool done = false; !done;) {
    auto progress = step->Advance(rds, state, Forgetful(), Soon());
    ASSERT_TRUE(progress.has_value()) << progress.error().message;
    done = progress->done;
  }
  Run(rds, "INSERT INTO t VALUES (101, 0)");
  EXPECT_EQ(Read(rds, "SELECT count(*) FROM t_history"), "101\n");
  EXPECT_EQ(State().stage, PartitionStage::kHypertable);
}

// What runs as the history's owner, by a way which nobody has thought of, may not get the rights of who copies; and
// what a policy leaves half done is taken back.
TEST_F(HypertableTest, TheCopyIsNobodysElseUntilItIsTheTable) {
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i");
  Run("GRANT CREATE ON SCHEMA public TO pgtier_shadow");
  Run("CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'");
  auto step = shadow::MakePartitionStep(PartsOf("t_history"));
  migrations::StepState state;
  ASSERT_TRUE(step->Advance(admin(), state, Forgetful(), Soon()).has_value());
  const std::string copy = "t_history_chunked", fire = " FOR EACH ROW EXECUTE FUNCTION fire()";
  auto as_owner = [&](const std::string& sql) { return Fails("SET LOCAL ROLE pgtier_shadow; " + sql); };
  EXPECT_NE(as_owner("CREATE TRIGGER f BEFORE INSERT ON " + copy + fire).find("permission denied"), std::string::npos);
  EXPECT_NE(as_owner("ALTER TABLE " + copy + " ADD CHECK (true)").find("must be owner of"), std::string::npos);
  for (const char* column : {"copy", "late", "relation"}) {
    EXPECT_NE(as_owner(std::string("UPDATE pgtier.shadow_splits SET ") + column + " = 0").find("permission denied"),
              std::string::npos);
  }
  EXPECT_EQ(as_owner("UPDATE pgtier.shadow_splits SET dirty = dirty"), "");
  // One that an earlier version gave away is begun anew.
  Run("ALTER TABLE " + copy + " OWNER TO pgtier_shadow");
  Run("CREATE TRIGGER f BEFORE INSERT ON " + copy + fire);
  while (State().stage == PartitionStage::kCopying) {
    auto progress = step->Advance(admin(), state, Forgetful(), Soon());
    ASSERT_TRUE(progress.has_value()) << progress.error().message;
  }
  EXPECT_EQ(Read("SELECT count(*) FROM pg_trigger WHERE tgname = 'f'"), "0\n");
  EXPECT_EQ(Read("SELECT relowner::regrole FROM pg_class WHERE oid = 't_history'::regclass"), "pgtier_shadow\n");
  // The policy goes before what the table was is dropped.
  ASSERT_TRUE(State().unfinished);
  ASSERT_TRUE(shadow::ForgetPartitioning(admin(), PartsOf("t_history"), Soon()).has_value());
  EXPECT_FALSE(State().unfinished);
  EXPECT_EQ(Read("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_before\\_chunks' OR relname LIKE 'late\\_%'"),
            "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "100\n");
}

TEST_F(HypertableTest, BeginsAnewWhenTheTableWasChangedMeanwhile) {
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i");
  auto step = shadow::MakePartitionStep(PartsOf("t_history"));
  migrations::StepState state;
  auto advance = [&] {
    auto done = step->Advance(admin(), state, Forgetful(), Soon());
    EXPECT_TRUE(done.has_value()) << done.error().message;
    return done.has_value() && done->done;
  };
  auto verified = [&] { return Read("SELECT bool_or(verified) FROM pgtier.shadow_splits") == "t\n"; };
  ASSERT_FALSE(advance());
  EXPECT_EQ(State().stage, PartitionStage::kCopying);
  Run("UPDATE t_history SET actor = 'erased' WHERE id = 7");
  while (!verified()) ASSERT_FALSE(advance());
  // A column that came and went: nothing was caught since, though the table is as it was.
  Run("ALTER TABLE t_history ADD COLUMN gone text");
  Run("INSERT INTO t VALUES (101, 0)");
  Run("ALTER TABLE t_history DROP COLUMN gone");
  ASSERT_FALSE(advance());
  EXPECT_FALSE(verified());
  while (!verified()) ASSERT_FALSE(advance());
  Run("ALTER TABLE t ADD COLUMN extra text; INSERT INTO t VALUES (102, 0, 'x')");
  while (!verified()) ASSERT_FALSE(advance());
  // What the trigger's WHEN names can't go, nor change.
  EXPECT_NE(Fails("ALTER TABLE t_history ALTER COLUMN v TYPE bigint"), "");
  Run("DELETE FROM t_history WHERE id = 8");
  ASSERT_FALSE(advance());
  while (!verified()) ASSERT_FALSE(advance());
  // What came in the way since stops it, and leaves nothing behind.
  Run("CREATE PUBLICATION p FOR TABLE t_history");
  auto refused = step->Advance(admin(), state, Forgetful(), Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message.substr(0, 10), "Published:");
  EXPECT_EQ(State().stage, PartitionStage::kPlain);
  Run("DROP PUBLICATION p");
  while (!advance()) continue;
  EXPECT_EQ(Read("SELECT actor FROM t_history WHERE id BETWEEN 7 AND 8"), "erased\n");
  EXPECT_EQ(Read("SELECT count(*), count(extra) FROM t_history"), "101|1\n");
  // One that nobody finishes is taken back.
  Run("CREATE TABLE u (id bigint PRIMARY KEY)");
  Install(SpecOf({"t", "u"}));
  auto other = shadow::MakePartitionStep(PartsOf("u_history"));
  ASSERT_TRUE(other->Advance(admin(), state, Forgetful(), Soon()).has_value());
  EXPECT_EQ(State("u_history").stage, PartitionStage::kCopying);
  // Who began before a column came, and does not see it, writes on.
  auto before = Open();
  Run(before, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  Run("ALTER TABLE u_history ADD COLUMN came text");
  Run(before, "INSERT INTO u_history (epoch, position, at_utc, operation) VALUES (1, 1, now(), 'INSERT'); COMMIT");
  ASSERT_TRUE(shadow::ForgetPartitioning(admin(), PartsOf("u_history"), Soon()).has_value());
  EXPECT_EQ(State("u_history").stage, PartitionStage::kPlain);
  EXPECT_EQ(Read("SELECT count(*) FROM pg_class WHERE relname LIKE 'u_history_c%' OR relname LIKE 'late\\_%'"), "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgtier\\_split%'"), "0\n");
}

}  // namespace
}  // namespace pgtier::testing
