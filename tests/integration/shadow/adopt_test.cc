// Histories that were there before pgtier.
#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using testing::Soon;

class Adopt : public testing::WithDatabase {
 protected:
  void SetUp() override {
    WithDatabase::SetUp();
    if (!IsSkipped()) Run("CREATE TABLE t (id integer PRIMARY KEY, name varchar(20), extra text)");
  }
};

TEST_F(Adopt, ColumnsByNameWhateverElseItHas) {
  Run("CREATE TABLE t_history (history_id bigint GENERATED ALWAYS AS IDENTITY, at_utc timestamp NOT NULL, operation"
      " varchar(10) NOT NULL, actor text, id bigint, name text, old_name text, note text DEFAULT 'n');"
      "INSERT INTO t_history (at_utc, operation, id, name) VALUES ('2020-01-01', 'INSERT', 1, 'of old')");
  EXPECT_EQ(Preflight(SpecOf({"t"})), "ColumnNotRecorded");  // extra
  Install(SpecOf({"t"}));
  Run("INSERT INTO t VALUES (2, 'new', 'e'); UPDATE t SET name = 'newer'");
  EXPECT_EQ(Read("SELECT epoch, position, operation, id, name, old_name, note FROM t_history ORDER BY epoch, position"),
            "0|0|INSERT|1|of old|-|n\n1|1|INSERT|2|new|-|n\n1|2|UPDATE|2|newer|new|n\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history WHERE at_utc > now() AT TIME ZONE 'UTC' - interval '1 hour'"), "2\n");
  // By way of the outbox too; and columns that the source gets from now on are recorded.
  ASSERT_TRUE(shadow::SwapBodies(admin(), SpecOf({"t"}), shadow::Tier::kNotify, Soon()).has_value());
  Run("ALTER TABLE t ADD COLUMN later integer; UPDATE t SET later = 5; SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT id, later, old_name FROM t_history ORDER BY position DESC LIMIT 1"), "2|5|newer\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history WHERE at_utc > now() AT TIME ZONE 'UTC' - interval '1 hour'"), "3\n");
}

TEST_F(Adopt, WholeRowsAsJson) {
  Run("CREATE TABLE t_history (at_utc timestamptz, operation text, actor text, old_row jsonb, new_row json)");
  Install(SpecOf({"t"}));
  Run("INSERT INTO t VALUES (1, 'a', 'e'); UPDATE t SET name = 'b'; ALTER TABLE t ADD COLUMN w integer; DELETE FROM t");
  EXPECT_EQ(
      Read("SELECT operation, old_row ->> 'name', new_row ->> 'name', old_row ? 'w' FROM t_history ORDER BY position"),
      "INSERT|-|a|-\nUPDATE|a|b|f\nDELETE|b|-|t\n");
}

TEST_F(Adopt, WhatCanNotBeFilledIsRefusedByName) {
  auto with = [this](const std::string& columns) {
    Run("DROP TABLE IF EXISTS t_history; CREATE TABLE t_history (" + columns + ")");
    return Preflight(SpecOf({"t"}));
  };
  EXPECT_EQ(with("id integer, name varchar(10), extra text"), "HistoryTypeMismatch!");
  EXPECT_EQ(with("id smallint, name text, extra text"), "HistoryTypeMismatch!");
  EXPECT_EQ(with("id integer, name text, extra text, epoch integer"), "HistoryTypeMismatch!");
  EXPECT_EQ(with("id integer, name text, extra text, operation char(1)"), "HistoryTypeMismatch!");
  EXPECT_EQ(with("id integer, name text, extra text, who text NOT NULL"), "HistoryColumnNotFilled!");
  EXPECT_EQ(with("id integer NOT NULL, name text, extra text"), "HistoryColumnNotFilled!");  // TRUNCATE has none
  EXPECT_EQ(with("something text"), "HistoryRecordsNothing!");
  EXPECT_EQ(with("id integer, name text, extra text"), "");
  Run("DROP TABLE t_history; CREATE VIEW t_history AS SELECT 1 AS id");
  EXPECT_EQ(Preflight(SpecOf({"t"})), "HistoryNotATable!");
}

// A database that was restored brings histories, but no state: what is recorded now must be sorted after it.
TEST_F(Adopt, PositionsGoOnAfterThoseThatItHas) {
  Run("CREATE TABLE t_history (epoch bigint, position bigint, id integer, name text, extra text);"
      "INSERT INTO t_history VALUES (4, 900, 1, 'a', NULL)");
  Install(SpecOf({"t"}));
  Run("INSERT INTO t VALUES (2, 'b')");
  EXPECT_EQ(Read("SELECT epoch, position, name FROM t_history ORDER BY epoch, position"), "4|900|a\n4|901|b\n");
}

// The most usual table of an audit: what numbers its rows is its own, whatever the source's columns are named.
TEST_F(Adopt, TheNumberOfAHistorysRowIsItsOwn) {
  for (const char* id : {"bigserial PRIMARY KEY", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
                         "uuid UNIQUE DEFAULT gen_random_uuid()"}) {
    Run("DROP TABLE IF EXISTS t_history; DROP TABLE t; CREATE TABLE t (id integer PRIMARY KEY, name text);"
        "CREATE TABLE t_history (id " +
        std::string(id) + ", new_row jsonb, old_row jsonb)");
    EXPECT_EQ(Preflight(SpecOf({"t"})), "") << id;
    Install(SpecOf({"t"}));
    Run("INSERT INTO t VALUES (7, 'a'); UPDATE t SET name = 'b'; DELETE FROM t; TRUNCATE t");
    EXPECT_EQ(Read("SELECT operation, new_row ->> 'id', old_row ->> 'id' FROM t_history ORDER BY position"),
              "INSERT|7|-\nUPDATE|7|7\nDELETE|-|7\nTRUNCATE|-|-\n");
    EXPECT_EQ(Read("SELECT count(DISTINCT id) FROM t_history"), "4\n") << id;
    ASSERT_TRUE(shadow::Uninstall(admin(), SpecOf({"t"}), Soon()).has_value());
  }
}

TEST_F(Adopt, WhatWouldMakeWritesFailIsRefusedByName) {
  auto with = [this](const std::string& columns, const std::string& more = "") {
    Run("DROP TABLE IF EXISTS t_history; CREATE TABLE t_history (" + columns + ") " + more);
    return Preflight(SpecOf({"t"}));
  };
  const std::string all = "name text, extra text";
  EXPECT_EQ(with("id integer GENERATED ALWAYS AS IDENTITY, " + all), "HistoryColumnGenerated!");
  EXPECT_EQ(with("id integer GENERATED ALWAYS AS (1) STORED, " + all), "HistoryColumnGenerated!");
  EXPECT_EQ(with("id integer, position bigint GENERATED ALWAYS AS IDENTITY, " + all), "HistoryColumnGenerated!");
  EXPECT_EQ(with("id serial PRIMARY KEY, " + all), "HistoryUnique!");
  EXPECT_EQ(with("id integer, " + all + ", one text DEFAULT 'x' UNIQUE"), "HistoryUnique!");
  EXPECT_EQ(with("id integer, " + all + ", UNIQUE (id, name)"), "HistoryUnique!");
  EXPECT_EQ(with("id integer REFERENCES t, " + all), "HistoryConstraint!");
  EXPECT_EQ(with("id integer, " + all + ", span int4range, EXCLUDE USING gist (span WITH &&)"), "HistoryConstraint!");
  EXPECT_EQ(with("id integer, " + all, "; ALTER TABLE t_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
            "HistoryRowSecurity!");
  EXPECT_EQ(with("id integer, at_utc timestamptz NOT NULL, " + all, "PARTITION BY RANGE (at_utc)"),
            "HistoryPartitionsEnd");
  EXPECT_EQ(with("id integer, epoch bigint, position bigint, " + all +
                 ", n bigserial PRIMARY KEY, UNIQUE (epoch, "
                 "position), UNIQUE (id, position)"),
            "");
}

// What no catalogue tells: rows of each operation are tried, and taken back.
TEST_F(Adopt, RowsOfEachOperationAreTried) {
  auto refused = [this](const std::string& columns, const std::string& more = "") {
    Run("DROP TABLE IF EXISTS t_history; CREATE TABLE t_history (id integer, name text, extra text" + columns + ") " +
        more);
    auto done = shadow::Install(admin(), SpecOf({"t"}), Soon());
    if (done.has_value()) return std::string();
    EXPECT_EQ(done.error().code, Code::kFailedPrecondition) << done.error().message;
    Run("INSERT INTO t VALUES (1); DELETE FROM t");  // whatever stands: the application writes
    size_t at = done.error().message.find("HistoryRefusesRows: public.t_history");
    return at == std::string::npos ? done.error().message
                                   : done.error().message.substr(done.error().message.find("fail: ") + 6, 6);
  };
  EXPECT_EQ(refused(", operation text CHECK (operation IN ('I', 'U', 'D'))"), "INSERT");
  EXPECT_EQ(refused(", operation text CHECK (operation <> 'TRUNCATE')"), "TRUNCA");
  EXPECT_EQ(refused(", at_utc timestamptz NOT NULL", "PARTITION BY RANGE (at_utc)"), "INSERT");
  EXPECT_EQ(refused(", at_utc timestamptz NOT NULL",
                    "PARTITION BY RANGE (at_utc); CREATE TABLE t_now PARTITION OF t_history FOR VALUES FROM "
                    "('2020-01-01') TO ('2120-01-01')"),
            "");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "0\n");
  Run("INSERT INTO t VALUES (1)");
  EXPECT_EQ(Read("SELECT position FROM t_history"), "1\n") << "the trial has drawn positions";
}

// Its newest position is read before anything is locked, and no more of it than an index of any kind needs.
TEST_F(Adopt, ALargeHistoryIsReadBeforeItIsLocked) {
  Run("CREATE TABLE t_history (epoch bigint, position bigint, id integer, name text, extra text);"
      "INSERT INTO t_history SELECT 3, n, 1, 'a' FROM generate_series(1, 20000) AS n; INSERT INTO t_history VALUES (4, "
      "777777, 1, 'b'); INSERT INTO t_history SELECT 3, n, 1, 'a' FROM generate_series(20001, 40000) AS n;"
      "CREATE INDEX ON t_history USING brin (epoch, position) WITH (pages_per_range = 8)");
  Run("SELECT pg_stat_force_next_flush()");
  Run("CREATE TABLE read AS SELECT seq_tup_read AS rows FROM pg_stat_user_tables WHERE relname = 't_history'");
  Install(SpecOf({"t"}));
  Run("SELECT pg_stat_force_next_flush()");
  EXPECT_EQ(Read("SELECT seq_tup_read - rows < 5000 FROM pg_stat_user_tables, read WHERE relname = 't_history'"),
            "t\n");
  Run("INSERT INTO t VALUES (2, 'new')");
  EXPECT_EQ(Read("SELECT epoch, position FROM t_history WHERE id = 2"), "4|777778\n");
  Run("CREATE TABLE u (id integer); CREATE TABLE u_history (epoch bigint, position bigint, id integer);"
      "INSERT INTO u_history VALUES (1, 5, 1)");
  Run("BEGIN");
  EXPECT_EQ(Read("SELECT * FROM pgtier.shadow_newest('u', '')"), "1|5\n");
  EXPECT_EQ(Read("SELECT mode FROM pg_locks WHERE relation = 'u_history'::regclass"), "AccessShareLock\n");
  Run("ROLLBACK");
}

// Two policies, or two tables that follow one another, never write into one history.
TEST_F(Adopt, AHistoryHasOneSource) {
  Run("CREATE TABLE u (id integer PRIMARY KEY); CREATE TABLE p (id integer) PARTITION BY LIST (id);"
      "CREATE TABLE p1 PARTITION OF p DEFAULT");
  shadow::Spec first = SpecOf({"t"});
  first.tables[0].history = "log";
  Install(first);
  shadow::Spec other = SpecOf({"u"}, "data/other");
  other.tables[0].history = "public.log";
  EXPECT_EQ(Preflight(other), "HistoryOfAnother!");
  auto refused = shadow::Install(admin(), other, Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("is the history of public.t in the policy data/audit"), std::string::npos);
  EXPECT_NE(Preflight(SpecOf({"log"}, "data/other")).find("SourceIsAHistory!"), std::string::npos);
  other.tables[0].history = "t";
  EXPECT_NE(Preflight(other).find("HistoryIsASource!"), std::string::npos);
  Install(SpecOf({"p"}, "data/parts"));
  EXPECT_NE(Preflight(SpecOf({"p1"}, "data/other")).find("PartOfAnother!"), std::string::npos);
  // What no preflight has seen, the database refuses.
  EXPECT_NE(Fails("UPDATE pgtier.shadow_tables SET history_name = 'log' WHERE source_name = 'p'"), "");
}

// Rows that were queued for the former history go there.
TEST_F(Adopt, AnotherHistoryTakesNothingOfTheFormerOne) {
  Run("CREATE TABLE t_history (new_row jsonb, old_row jsonb)");
  Install(SpecOf({"t"}));
  ASSERT_TRUE(shadow::SwapBodies(admin(), SpecOf({"t"}), shadow::Tier::kNotify, Soon()).has_value());
  Run("INSERT INTO t VALUES (1, 'queued')");
  shadow::Spec spec = SpecOf({"t"});
  spec.tables[0].history = "t_audit";
  Install(spec);
  Run("INSERT INTO t VALUES (2, 'later'); SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT new_row ->> 'name' FROM t_history"), "queued\n");
  EXPECT_EQ(Read("SELECT position, name FROM t_audit"), "2|later\n");
  // Should one come later all the same, it is not cut down silently.
  Run("INSERT INTO pgtier.outbox_1 (epoch, position, at_utc, operation, pgtier_shard, new_row) VALUES (1, 3, now(), "
      "'INSERT', 0, '{\"name\": \"late\"}'); SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT position, operation FROM t_audit ORDER BY position"), "2|INSERT\n3|INSERT\n");
  EXPECT_EQ(Read("SELECT position, convert_from(payload, 'UTF8')::jsonb -> 'new_row' ->> 'name' FROM "
                 "pgtier.shadow_dead_letters"),
            "3|late\n");
}

// A policy that was deleted with deletionPolicy Retain leaves its tables to the next.
TEST_F(Adopt, TablesOfARetainedPolicyAreTakenOver) {
  Install(SpecOf({"t"}));
  Run("UPDATE pgtier.shadow_state SET epoch = 5; SELECT pgtier.shadow_set_functions('data/audit'); INSERT INTO t "
      "VALUES "
      "(1, 'former')");
  EXPECT_EQ(Preflight(SpecOf({"t"}, "data/next")), "OfAnotherPolicy!");
  ASSERT_TRUE(shadow::Retain(admin(), SpecOf({"t"}), Soon()).has_value());
  Run("INSERT INTO t VALUES (2, 'kept')");  // nobody's, and recorded
  // Made again under its name it is nobody else's any more.
  Install(SpecOf({"t"}));
  EXPECT_EQ(Preflight(SpecOf({"t"}, "data/next")), "OfAnotherPolicy!");
  ASSERT_TRUE(shadow::Retain(admin(), SpecOf({"t"}), Soon()).has_value());
  EXPECT_EQ(Preflight(SpecOf({"t"}, "data/next")), "");
  Install(SpecOf({"t"}, "data/next"));
  Run("INSERT INTO t VALUES (3, 'next')");
  EXPECT_EQ(Read("SELECT epoch, position, name FROM t_history ORDER BY epoch, position"),
            "5|1|former\n5|2|kept\n5|3|next\n");
  EXPECT_FALSE(Inspect(SpecOf({"t"})).installed);
  EXPECT_TRUE(Inspect(SpecOf({"t"}, "data/next")).tables.at(0).installed);
}

// Columns that pgtier needs in its queue, and such that are named as whole rows are.
TEST_F(Adopt, NamesThatAreTaken) {
  Run("CREATE TABLE u (id integer PRIMARY KEY, pgtier_shard integer)");
  EXPECT_EQ(Preflight(SpecOf({"u"})), "ColumnNameTaken!");
  Install(SpecOf({"t"}));
  EXPECT_NE(Fails("ALTER TABLE t ADD COLUMN pgtier_also integer").find("Choose another name"), std::string::npos);
  EXPECT_NE(Fails("ALTER TABLE t RENAME extra TO pgtier_shard").find("Choose another name"), std::string::npos);
  Run("CREATE TABLE v (id integer PRIMARY KEY, new_row jsonb, \"row\" jsonb);"
      "CREATE TABLE v_history (id integer, new_row jsonb, old_row jsonb)");
  Install(SpecOf({"t", "v"}));
  Run("INSERT INTO v VALUES (1, '5', '6'); UPDATE v SET id = 2; ALTER TABLE v ADD COLUMN old_row jsonb; UPDATE v SET "
      "old_row = '7'");
  EXPECT_EQ(
      Read("SELECT operation, new_row -> 'new_row', old_row -> 'row', new_row -> 'old_row' FROM v_history ORDER BY "
           "position"),
      "INSERT|5|-|-\nUPDATE|5|6|-\nUPDATE|5|6|7\n");
}

// Two rows beside each other have to fit into a page, and into as many columns as a table may have.
TEST_F(Adopt, RowsThatAreTooWide) {
  auto make = [this](int columns, const std::string& type) {
    Run("DROP TABLE IF EXISTS w; DROP TABLE IF EXISTS w_history");
    Run("DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE w (' || string_agg(format('c%s " + type +
        "', n), ', ') || ')' FROM generate_series(1, " + std::to_string(columns) + ") AS n); END $$");
    return Preflight(SpecOf({"w"}));
  };
  EXPECT_EQ(make(400, "bigint"), "");
  EXPECT_EQ(make(520, "bigint NOT NULL"), "RowTooWide!");
  EXPECT_EQ(make(520, "bigint"), "RowTooWide");
  EXPECT_EQ(make(798, "boolean"), "TooManyColumns!");
  Run("CREATE TABLE w_history (new_row jsonb, old_row jsonb)");
  EXPECT_EQ(Preflight(SpecOf({"w"})), "");
}

}  // namespace
}  // namespace pgtier
