// What is in the way of install, of the worker and of tier cdc, and must not be for longer than it has to.
#include <thread>

#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;

class Hindrance : public testing::WithDatabase {};

// A value that an index of the history can't take sticks to its row.
TEST_F(Hindrance, ARowThatIsTooWideForAnIndexIsPutAside) {
  Run("CREATE TABLE d (id integer PRIMARY KEY, name text)");
  auto spec = SpecOf({"d"});
  Install(spec);
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, Tier::kNotify, Soon()).has_value());
  Run("CREATE INDEX ON d_history (name);"
      "INSERT INTO d SELECT i, CASE i WHEN 2 THEN (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) AS "
      "n)"
      " ELSE 'short' END FROM generate_series(1, 3) AS i");
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, Tier::kTriggers, Soon()).has_value());
  auto gone = shadow::Uninstall(admin(), spec, Soon());
  ASSERT_TRUE(gone.has_value()) << gone.error().message;
  EXPECT_EQ(Read("SELECT id FROM d_history ORDER BY position"), "1\n3\n");
  EXPECT_EQ(Read("SELECT position FROM pgtier.shadow_dead_letters"), "2\n");
}

// An autovacuum that works for long on a table is ended by the server when somebody waits for the table.
TEST_F(Hindrance, AnAutovacuumMakesRoom) {
  testing::PostgresOptions options;
  options.conf = {"autovacuum_naptime = 1s", "autovacuum_vacuum_cost_delay = 100ms",
                  "autovacuum_vacuum_cost_limit = 1"};
  auto own = testing::LocalPostgres::Start(options);
  ASSERT_TRUE(own.has_value()) << own.error().message;
  auto connection = (*own)->Connect();
  ASSERT_TRUE(connection.has_value());
  Run(*connection,
      "CREATE TABLE t (id integer, v text) WITH (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor"
      " = 0, autovacuum_vacuum_insert_threshold = -1);"
      "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 20000) AS i; UPDATE t SET id = id");
  const std::string at_work =
      "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.relation = 't'::regclass"
      " AND l.mode = 'ShareUpdateExclusiveLock' AND a.backend_type = 'autovacuum worker'"
      " AND a.xact_start < clock_timestamp() - interval '1100 milliseconds'";
  Deadline deadline = Deadline::After(std::chrono::seconds(60));
  while (Read(*connection, at_work) == "0\n") {
    ASSERT_FALSE(deadline.Expired()) << "no autovacuum came";
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  auto done = shadow::Install(*connection, SpecOf({"t"}), Soon());
  EXPECT_TRUE(done.has_value()) << done.error().message;
}

TEST_F(Hindrance, ManyTablesLeaveOneByOne) {
  testing::PostgresOptions options;
  options.conf = {"max_connections = 10", "max_locks_per_transaction = 10", "max_wal_senders = 2"};
  auto own = testing::LocalPostgres::Start(options);
  ASSERT_TRUE(own.has_value()) << own.error().message;
  auto connection = (*own)->Connect();
  ASSERT_TRUE(connection.has_value());
  std::vector<std::string> names;
  for (int i = 0; i < 12; ++i) {
    names.push_back("t" + std::to_string(i));
    Run(*connection, "CREATE TABLE " + names.back() + " (id integer)");
  }
  const Deadline deadline = Deadline::After(std::chrono::seconds(120));
  auto done = shadow::Install(*connection, SpecOf(names), deadline);
  ASSERT_TRUE(done.has_value()) << done.error().message;
  done = shadow::Install(*connection, SpecOf({"t0"}), deadline);
  EXPECT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(Read(*connection, "SELECT count(*) FROM pg_class WHERE relname ~ '^outbox_\\d+$'"), "1\n");
}

// Whatever the history is called.
TEST_F(Hindrance, AHistoryOfWholeRowsIsNoneForCdc) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE \"Audit\" (new_row jsonb, old_row jsonb)");
  auto spec = SpecOf({"t"});
  spec.slot = "slot_rows";
  spec.tables[0].history = "\"Audit\"";
  EXPECT_NE(Preflight(spec, Tier::kCdc).find("RowImages!"), std::string::npos);
  Install(spec);
  EXPECT_EQ(Read("SELECT pgtier.shadow_table_lacks_cdc(1)"),
            "public.\"Audit\" records whole rows as JSON, which cdc does not write\n");
}

TEST_F(Hindrance, NewPartitionsNeedEventTriggersInCdc) {
  Run("CREATE TABLE o (id integer) PARTITION BY RANGE (id)");
  MakeRole("plain", "CREATEROLE");
  Run("ALTER TABLE o OWNER TO plain");
  auto plain = OpenAs("plain");
  auto finding = [&](Tier tier) {
    auto findings = shadow::Preflight(plain, SpecOf({"o"}), tier, Soon());
    if (!findings.has_value()) return findings.error().message;
    for (const auto& found : *findings)
      if (found.code == "DdlNotFollowed") return std::string(found.blocks ? "blocks" : "known");
    return std::string("none");
  };
  EXPECT_EQ(finding(Tier::kCdc), "blocks");
  EXPECT_EQ(finding(Tier::kTriggers), "known");
  Install(SpecOf({"o"}));  // by a superuser, with event triggers
  Run("GRANT USAGE ON SCHEMA pgtier TO plain; GRANT SELECT ON pgtier.shadow_tables, pgtier.shadow_state TO plain; "
      "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgtier TO plain");
  EXPECT_EQ(finding(Tier::kCdc), "none");
  Run("DROP OWNED BY plain CASCADE");
}

TEST_F(Hindrance, ADeferrableKeySpreadsNothing) {
  Run("CREATE TABLE t (id integer PRIMARY KEY DEFERRABLE)");
  Install(SpecOf({"t"}));
  EXPECT_EQ(Read("SELECT shards FROM pgtier.shadow_tables"), "1\n");
}

TEST_F(Hindrance, WholeRowsAreWrittenAlikeWhateverTheApplicationSets) {
  Run("CREATE TABLE t (f double precision, b bytea, i interval, m money, r daterange); CREATE TABLE h (new_row jsonb)");
  auto spec = SpecOf({"t"});
  spec.tables[0].history = "h";
  Install(spec);
  const std::string row =
      "INSERT INTO t VALUES (0.1::float8 + 0.2::float8, '\\x00ff', '1 day 2 hours', '1.5', '[2026-01-02,2026-01-03)')";
  Run(row +
      "; SET extra_float_digits = -10; SET bytea_output = escape; SET intervalstyle = iso_8601;"
      "SET datestyle = 'German'; " +
      row +
      "; RESET extra_float_digits; RESET bytea_output; RESET intervalstyle;"
      "RESET datestyle");
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT new_row) FROM h"), "2|1\n");
  EXPECT_EQ(Read("SELECT DISTINCT new_row ->> 'f', new_row ->> 'i' FROM h"), "0.30000000000000004|1 day 02:00:00\n");
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
}

}  // namespace
}  // namespace pgtier
