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

}  // namespace
}  // namespace pgtier
