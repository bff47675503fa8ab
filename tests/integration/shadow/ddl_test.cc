// Changes of a source's schema: carried over, or refused with a sentence.
#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using testing::Soon;

class Ddl : public testing::WithDatabase {
 protected:
  void SetUp() override {
    WithDatabase::SetUp();
    if (IsSkipped()) return;
    Run("CREATE TABLE t (id integer PRIMARY KEY, a text, b integer); INSERT INTO t VALUES (1, 'x', 1)");
    spec_ = SpecOf({"t"});
    Install(spec_);
  }
  shadow::Spec spec_;
};

TEST_F(Ddl, ColumnsThatComeGoAndChange) {
  auto other = Open();
  // A session that has run the trigger already must not use its old plans.
  Run(other, "UPDATE t SET a = 'y'");
  Run("ALTER TABLE t ADD COLUMN c text[] DEFAULT '{k}'");
  Run(other, "UPDATE t SET a = 'z'");
  Run("ALTER TABLE t RENAME COLUMN a TO title; ALTER TABLE t ALTER COLUMN b TYPE text USING 'n' || b");
  Run(other, "UPDATE t SET b = 'new', title = 'zz'");
  Run("ALTER TABLE t DROP COLUMN c, ADD COLUMN d integer");
  Run(other, "UPDATE t SET d = 4");
  EXPECT_EQ(Read("SELECT operation, old_title, title, b__2, b, c, d FROM t_history ORDER BY position"),
            "UPDATE|x|y|1|-|-|-\n"
            "UPDATE|y|z|1|-|{k}|-\n"
            "UPDATE|z|zz|-|new|{k}|-\n"
            "UPDATE|zz|zz|-|new|-|4\n");
  EXPECT_TRUE(Inspect(spec_).tables.at(0).installed);
  EXPECT_EQ(Read("SELECT change, was_name, now_name FROM pgtier.shadow_renames ORDER BY id"),
            "rename|a|title\ntype|b|b\ndrop|c|-\n");
}

TEST_F(Ddl, TwoColumnsThatChangePlaces) {
  Run("BEGIN; ALTER TABLE t RENAME COLUMN a TO tmp; ALTER TABLE t RENAME COLUMN b TO a; ALTER TABLE t RENAME COLUMN "
      "tmp TO b;"
      "COMMIT; UPDATE t SET b = 'y'");
  EXPECT_EQ(Read("SELECT a, b, old_b FROM t_history"), "1|y|x\n");
}

TEST_F(Ddl, RolledBackWithTheApplicationsTransaction) {
  Run("BEGIN; ALTER TABLE t ADD COLUMN c text; UPDATE t SET c = 'in'; ROLLBACK; UPDATE t SET a = 'after'");
  EXPECT_EQ(Read("SELECT operation, a FROM t_history"), "UPDATE|after\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_attribute WHERE attrelid = 't_history'::regclass AND attname = 'c'"), "0\n");
}

TEST_F(Ddl, RowsThatWaitInTheOutboxKeepTheirColumns) {
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec_, shadow::Tier::kNotify, Soon()).has_value());
  Run("UPDATE t SET a = 'queued'; ALTER TABLE t RENAME COLUMN a TO title; ALTER TABLE t DROP COLUMN b;"
      "UPDATE t SET title = 'later'");
  Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT title, old_title, b FROM t_history ORDER BY position"), "queued|x|1\nlater|queued|-\n");
}

TEST_F(Ddl, ANewKeySortsWhatIsQueuedBeforeWhatComes) {
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec_, shadow::Tier::kNotify, Soon()).has_value());
  Run("UPDATE t SET a = 'queued'; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (b); UPDATE t SET a = 'later'");
  // Nobody moves the later row while the earlier one waits for all shards.
  EXPECT_EQ(Read("SELECT sum(moved) FROM generate_series(1, 50), pgtier.shadow_drain(1, 10, 8, false)"), "0\n");
  Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT a FROM t_history ORDER BY ctid"), "queued\nlater\n");
}

// Where event triggers can't be made a writer may still run the text of before the key changed.
TEST_F(Ddl, ARowOfAShardThatThereIsNoLongerIsMoved) {
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec_, shadow::Tier::kNotify, Soon()).has_value());
  Run("ALTER TABLE t DROP CONSTRAINT t_pkey; UPDATE t SET a = 'first'; UPDATE pgtier.outbox_1 SET pgtier_shard = 5;"
      "UPDATE t SET a = 'second'; UPDATE pgtier.outbox_1 SET pgtier_also = 6 WHERE position = 2");
  EXPECT_EQ(Read("SELECT shards FROM pgtier.shadow_tables"), "1\n");
  EXPECT_EQ(Read("SELECT moved, next FROM pgtier.shadow_drain(1, 10, 8, false)"), "2|rest\n");
  EXPECT_EQ(Read("SELECT a FROM t_history ORDER BY ctid"), "first\nsecond\n");
  // Such a row can be put aside, too.
  Run("ALTER TABLE t_history ADD CHECK (a <> 'bad'); UPDATE t SET a = 'bad'; UPDATE pgtier.outbox_1 SET pgtier_shard = "
      "5");
  EXPECT_EQ(Read("SELECT buried FROM pgtier.shadow_drain(1, 10, 8, false)"), "1\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.outbox_1"), "0\n");
}

TEST_F(Ddl, RenamedTablesAndSchemas) {
  Run("CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s; ALTER TABLE s.t RENAME TO u; ALTER SCHEMA s RENAME TO z;"
      "UPDATE z.u SET a = 'moved'");
  EXPECT_EQ(Read("SELECT a FROM t_history"), "moved\n");
  EXPECT_EQ(Read("SELECT source_schema, source_name FROM pgtier.shadow_tables"), "z|u\n");
}

TEST_F(Ddl, AHistoryInUseCanNotBeTakenAway) {
  for (const char* sql :
       {"DROP TABLE t_history", "ALTER TABLE t_history RENAME TO gone", "ALTER TABLE t_history DROP old_a",
        "ALTER TABLE t_history RENAME a TO x", "CREATE SCHEMA s; ALTER TABLE t_history SET SCHEMA s"}) {
    EXPECT_NE(Fails(sql).find("records the changes of public.t for the policy data/audit"), std::string::npos) << sql;
  }
  EXPECT_NE(Fails("ALTER TABLE t ADD COLUMN actor text").find("Choose another name"), std::string::npos);
  Run("UPDATE t SET a = 'still'");
  EXPECT_EQ(Read("SELECT a FROM t_history"), "still\n");
  // More columns, indexes and a swap within one statement's transaction by its owner are nobody's business.
  Run("ALTER TABLE t_history ADD COLUMN note text; CREATE INDEX ON t_history (id)");
}

TEST_F(Ddl, ADroppedSourceLeavesItsHistory) {
  Run("UPDATE t SET a = 'last'; DROP TABLE t");
  EXPECT_EQ(Read("SELECT a FROM t_history"), "last\n");
  EXPECT_FALSE(Inspect(spec_).tables.at(0).installed);
  EXPECT_EQ(Preflight(spec_), "NoTable!");
  // Made again it goes on in the same history.
  Run("CREATE TABLE t (id integer PRIMARY KEY, a text, n integer)");
  Install(spec_);
  Run("INSERT INTO t VALUES (1, 'again', 5)");
  EXPECT_EQ(Read("SELECT position, operation, a, b, n FROM t_history ORDER BY epoch, position"),
            "1|UPDATE|last|1|-\n2|INSERT|again|-|5\n");
}

TEST_F(Ddl, ATypeThatTakesColumnsWithIt) {
  Run("CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE t ADD COLUMN m mood; UPDATE t SET m = 'ok'; DROP TYPE mood CASCADE;"
      "UPDATE t SET a = 'after'");
  EXPECT_EQ(Read("SELECT a FROM t_history ORDER BY position"), "x\nafter\n");
}

// DDL of a role that owns the table and nothing else.
TEST_F(Ddl, ByAnOrdinaryOwner) {
  MakeRole("owner_role");
  Run("CREATE TABLE mine (id integer PRIMARY KEY); ALTER TABLE mine OWNER TO owner_role; GRANT CREATE ON SCHEMA public "
      "TO"
      " owner_role");
  Install(SpecOf({"t", "mine"}));
  auto owner = OpenAs("owner_role");
  Run(owner, "ALTER TABLE mine ADD COLUMN v text; INSERT INTO mine VALUES (1, 'x'); CREATE TEMP TABLE tt (id integer)");
  EXPECT_EQ(Read(owner, "SELECT id, v FROM mine_history"), "1|x\n");  // the source's owner may read
  EXPECT_NE(Fails(owner, "DELETE FROM mine_history"), "");
  Run("DROP TABLE mine; DROP OWNED BY owner_role");
}

}  // namespace
}  // namespace pgtier
