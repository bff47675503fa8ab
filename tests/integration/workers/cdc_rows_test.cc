// Triggers and cdc side by side: the same statements on two tables of the same shape, one recorded by triggers, the
// other from the log. Both histories are the same, but for their times.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/workers/cdc_fixture.h"

namespace pgtier::testing {
namespace {

class CdcRowsTest : public CdcFixture {
 protected:
  // Makes `table` in both schemas by the same statements.
  void Begin(const std::string& create, const std::string& table = "t") {
    table_ = table;
    Run("ALTER DATABASE " + database_ + " SET logical_decoding_work_mem = '64kB'");
    Run("CREATE SCHEMA by_trigger; CREATE SCHEMA by_log");
    Both(create);
    triggers_ = spec_;
    triggers_.policy += "-triggers";
    triggers_.slot.clear();
    triggers_.tables = {{"by_trigger." + table, ""}};
    Ok(shadow::Install(*sql_, triggers_, Late()));
    Install({"by_log." + table});
    Climb();
  }
  void Both(const std::string& sql) {
    for (const char* schema : {"by_trigger", "by_log"})
      Run("SET search_path = " + std::string(schema) + ", public; " + sql);
    Run("RESET search_path");
  }
  // Holds both histories against one another.
  void Compare(int at_least) {
    CatchUp();
    EXPECT_EQ(Get("SELECT string_agg(payload || error, ' ') FROM pgtier.shadow_dead_letters"), "");
    auto rows = [&](const std::string& schema) {
      return "SELECT row_number() OVER (ORDER BY epoch, position) AS n, to_jsonb(h) - "
             "'{at_utc,epoch,position}'::text[] AS j"
             " FROM " +
             schema + "." + History() + " AS h";
    };
    for (auto [one, other] : {std::pair{"by_trigger", "by_log"}, {"by_log", "by_trigger"}}) {
      EXPECT_EQ(Get("SELECT string_agg(x::text, E'\\n') FROM (SELECT * FROM (" + rows(one) + " EXCEPT ALL " +
                    rows(other) + ") AS d ORDER BY n LIMIT 5) AS x"),
                "")
          << "rows of " << one << " that " << other << " has not";
    }
    EXPECT_GE(std::stoi(Get("SELECT count(*) FROM by_log." + History())), at_least);
  }
  std::string History() const {
    if (!table_.ends_with('"')) return table_ + "_history";
    return table_.substr(0, table_.size() - 1) + "_history\"";
  }
  std::string table_;
  shadow::Spec triggers_;
};

TEST_F(CdcRowsTest, AllTypes) {
  Run("CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"', 'happy'); CREATE TYPE pair AS (a integer, b text);"
      "CREATE DOMAIN positive AS numeric(12, 3) NOT NULL CHECK (VALUE > 0)");
  Begin(
      "CREATE TABLE \"T \"\"x\" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, i2 smallint, f4 real, f8 double "
      "precision,"
      " n numeric, d positive, b boolean, t text, c char(5), v varchar(9), bin bytea, day date, tmz timetz, ts "
      "timestamp,"
      " tsz timestamptz, iv interval, u uuid, j json, jb jsonb, a integer[], ta text[], m mood, ma mood[], p pair,"
      " r int4range, mr nummultirange, net inet, mac macaddr, bits bit(3), vb varbit, pt point, money money,"
      " q tsquery, tv tsvector, cls regclass, \"Odd \"\"Name\" text, two integer GENERATED ALWAYS AS (i2 * 2) STORED,"
      " operation_ text)",
      "\"T \"\"x\"");
  const std::string t = "\"T \"\"x\"";
  Both("INSERT INTO " + t +
       " VALUES (DEFAULT, -7, 0.1, 1e-300, 'NaN', 1.5, true, E'tab\\t nl\\n cr\\r bs\\\\ \\\\N', 'c', 'v', "
       "'\\xdeadbeef00',"
       " '0044-03-15 BC', '12:00:01.5+02', '2024-02-29 12:00:00.000001', '2024-02-29 12:00:00+05', '1 mon -2 days "
       "03:04:05.6',"
       " '00000000-0000-0000-0000-000000000001', '{\"a\" : 1}', '{\"b\": [1, null]}', '{{1,2},{3,NULL}}', "
       "'{\"a,b\",\"c\\\"d\",NULL}',"
       " 'it''s \"ok\"', '{sad,happy}', '(1,\"x,\\\"y\")', '[1,5)', '{[1,2),[3,4)}', '10.0.0.1/8', "
       "'08:00:2b:01:02:03', B'101',"
       " B'10', '(1.5,-2)', 12.34, 'a & b', 'fat:1 cat:2', 'pg_class', 'odd', DEFAULT, 'x')");
  Both("INSERT INTO " + t + " (d, f4, f8) VALUES (1, 'Infinity', '-0'), (2, 1.17549435e-38, 0.1::real)");
  Both("SET app.actor = E'it''s \\\\ \\t me'; UPDATE " + t +
       " SET t = NULL, m = 'happy' WHERE id = 1; RESET app.actor");
  Both("DELETE FROM " + t + " WHERE id = 2");
  // Large values that an update leaves alone.
  Both("INSERT INTO " + t +
       " (d, t, bin) SELECT 1, string_agg(md5(n::text), ''), decode(string_agg(md5(n::text), ''), 'hex')"
       " FROM generate_series(1, 5000) AS n");
  Both("UPDATE " + t + " SET i2 = 5 WHERE t IS NOT NULL; UPDATE " + t +
       " SET i2 = 6, t = 'small' WHERE length(t) > 100");
  Both("TRUNCATE " + t);
  Both(
      "SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = 0; SET bytea_output = "
      "'escape';"
      " INSERT INTO " +
      t + " (d, f8, day, iv, bin) VALUES (3, 0.1::float8 + 0.2, '2024-03-04', '1-2 3 4:05:06', '\\x00ff'); RESET ALL");
  Compare(10);
}

TEST_F(CdcRowsTest, SavepointsActorsAndStreamedTransactions) {
  Begin("CREATE TABLE t (id integer PRIMARY KEY, v text)");
  Both(
      "BEGIN; SET LOCAL app.actor = 'a'; INSERT INTO t VALUES (1, 'kept'); SAVEPOINT s; SET LOCAL app.actor = 'b';"
      " INSERT INTO t VALUES (2, 'undone'); ROLLBACK TO s; INSERT INTO t VALUES (3, 'by a again'); SAVEPOINT s2;"
      " SET LOCAL app.actor = 'c'; UPDATE t SET v = 'by c' WHERE id = 1; RELEASE s2; INSERT INTO t VALUES (4, 'by c'); "
      "COMMIT");
  // Streamed, with subtransactions that are undone and actors in them.
  Both(
      "BEGIN; SET LOCAL app.actor = 'a'; INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(100, 2000) AS n;"
      " SAVEPOINT s; SET LOCAL app.actor = 'b'; INSERT INTO t SELECT n, repeat('y', 100) FROM generate_series(3000, "
      "5000) AS n;"
      " ROLLBACK TO s; UPDATE t SET v = 'z' || id WHERE id > 1500; COMMIT");
  Both("BEGIN; INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(6000, 9000) AS n; ROLLBACK");
  Both(
      "BEGIN; INSERT INTO t SELECT n, repeat('w', 100) FROM generate_series(6000, 9000) AS n; SAVEPOINT a; DELETE FROM "
      "t WHERE"
      " id > 6000; ROLLBACK TO a; COMMIT");
  Both("INSERT INTO t VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET v = excluded.v");
  Both(
      "MERGE INTO t USING (VALUES (1), (20), (3)) AS s (id) ON t.id = s.id WHEN MATCHED AND s.id = 3 THEN DELETE"
      " WHEN MATCHED THEN UPDATE SET v = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'new')");
  Both("UPDATE t SET id = -id WHERE id < 1000");
  Compare(5000);
  EXPECT_GT(consumer_->consumer.state().sessions, 1) << "was read again without streaming";
}

TEST_F(CdcRowsTest, PartitionsComeAndGo) {
  Begin(
      "CREATE TABLE t (id integer, k integer, v text, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);"
      " CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
      " CREATE TABLE t_2 (v text, gone text, k integer NOT NULL, id integer NOT NULL); ALTER TABLE t_2 DROP COLUMN "
      "gone;"
      " ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (10) TO (20);"
      " CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (20) TO (40) PARTITION BY RANGE (k);"
      " CREATE TABLE t_31 PARTITION OF t_3 FOR VALUES FROM (20) TO (30)");
  Both(
      "SET app.actor = 'p'; INSERT INTO t SELECT n, n % 30, 'v' || n FROM generate_series(1, 90) AS n; RESET "
      "app.actor");
  Both("UPDATE t SET k = k + 10 WHERE k < 15");  // to other parts
  Both(
      "SET app.actor = 'leaf'; INSERT INTO t_2 VALUES ('to the leaf', 11, 1000); DELETE FROM t_31 WHERE id = 25;"
      " UPDATE t_3 SET v = 'middle'; RESET app.actor");
  Both("TRUNCATE t_1");
  consumer_.reset();
  // The consumer is away while a part comes, is written to, is emptied and goes, and another is detached.
  Both(
      "CREATE TABLE t_32 PARTITION OF t_3 FOR VALUES FROM (30) TO (40); INSERT INTO t SELECT n, 30 + n % 10, 'new' FROM"
      " generate_series(1, 50) AS n");
  Both("UPDATE t SET v = 'x' WHERE k >= 30; DROP TABLE t_32");
  Both(
      "INSERT INTO t VALUES (5000, 1, 'last'); ALTER TABLE t DETACH PARTITION t_1; INSERT INTO t_1 VALUES (6000, 1, "
      "'not audited')");
  StartConsumer();
  Both("TRUNCATE t");
  Both("INSERT INTO t VALUES (1, 12, 'end')");
  Compare(300);
  EXPECT_EQ(Get("SELECT relreplident FROM pg_class WHERE oid = 'by_log.t_1'::regclass"), "d")
      << "given back when detached";
}

TEST_F(CdcRowsTest, ColumnsChangeWhileTheConsumerIsBehind) {
  Begin("CREATE TABLE t (id integer PRIMARY KEY, a text, b text, c integer)");
  Both("INSERT INTO t VALUES (1, 'a', 'b', 1)");
  CatchUp();
  consumer_.reset();
  Both("INSERT INTO t VALUES (2, 'a', 'b', 2)");
  Both("ALTER TABLE t ADD COLUMN d date DEFAULT '2024-01-01'; INSERT INTO t VALUES (3, 'a', 'b', 3, '2024-02-02')");
  // Two columns change their names.
  Both("ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b");
  Both("INSERT INTO t (id, a, b) VALUES (4, 'was b', 'was a'); UPDATE t SET a = a || '!'");
  Both("ALTER TABLE t DROP COLUMN c; INSERT INTO t (id, a) VALUES (5, 'without c')");
  Both("ALTER TABLE t ADD COLUMN c integer; INSERT INTO t (id, c) VALUES (6, 66)");
  Both("ALTER TABLE t ALTER COLUMN c TYPE text USING 'n' || c; UPDATE t SET c = c || '.' WHERE id = 6");
  Both("ALTER TABLE t RENAME TO renamed; ALTER TABLE renamed RENAME TO t");
  Both("INSERT INTO t (id, c) VALUES (7, 'text now')");
  StartConsumer();
  Both("DELETE FROM t WHERE id > 5");
  Compare(14);
}

}  // namespace
}  // namespace pgtier::testing
