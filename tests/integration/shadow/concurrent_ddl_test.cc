// Changes of a source's schema beside changes of tier, beside writers, and of those above and below it.
#include <thread>

#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;

class ConcurrentDdl : public testing::WithDatabase {
 protected:
  void Take(const std::vector<std::string>& sources) {
    spec_ = SpecOf(sources);
    spec_.actor_setting = "";  // the actor's triggers are cdc's
    Install(spec_);
  }
  void TakePartitioned() {
    Run("CREATE TABLE o (id integer, v integer) PARTITION BY RANGE (id);"
        "CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE o2 PARTITION OF o FOR VALUES FROM (100) TO (200)");
    Take({"o"});
  }
  Status Swap(Tier tier) { return shadow::SwapBodies(admin(), spec_, tier, Soon()); }
  shadow::Spec spec_;
};

// An application that retries serialization failures, as it must in that isolation, loses nothing.
TEST_F(ConcurrentDdl, AnOldSnapshotDoesNotWriteWhatWasRightBeforeABarrier) {
  TakePartitioned();
  auto app = Open();
  Run(app, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  ASSERT_TRUE(shadow::Barrier(admin(), spec_, Tier::kNotify, Soon()).has_value());
  const std::string add = "CREATE TABLE o3 PARTITION OF o FOR VALUES FROM (200) TO (300)";
  EXPECT_NE(Fails(app, add).find("40001"), std::string::npos);
  Run(app, "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; " + add + "; INSERT INTO o VALUES (250, 1); COMMIT");
  EXPECT_EQ(Read("SELECT epoch, v FROM pgtier.outbox_1"), "2|1\n");
  EXPECT_TRUE(Inspect(spec_).tables.at(0).installed);
}

TEST_F(ConcurrentDdl, AnOldSnapshotDoesNotWriteWhatWasRightBeforeASwapOrAnotherChange) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Take({"t"});
  auto app = Open();
  const std::string add = "ALTER TABLE t ADD COLUMN a text";
  Run(app, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1");
  ASSERT_TRUE(Swap(Tier::kNotify).has_value());
  EXPECT_NE(Fails(app, add).find("40001"), std::string::npos);
  Run(app, "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  Run("ALTER TABLE t ADD COLUMN b text");
  EXPECT_NE(Fails(app, add).find("40001"), std::string::npos);
  Run(app, "ROLLBACK; " + add + "; INSERT INTO t VALUES (1, 'b', 'a')");
  EXPECT_EQ(Read("SELECT id, a, b FROM pgtier.outbox_1"), "1|a|b\n");
  // Tables that concern no policy are nobody's business, in whatever transaction.
  Run(app, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  ASSERT_TRUE(Swap(Tier::kTriggers).has_value());
  Run(app, "CREATE TEMP TABLE mine (id integer); ROLLBACK");
}

// The change of tier waits, without holding anybody up.
TEST_F(ConcurrentDdl, AChangeOfTierComesAfterAnOpenChangeOfASource) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE u (id integer)");
  Take({"t", "u"});
  auto app = Open();
  Run(app, "BEGIN; ALTER TABLE t ADD COLUMN a text");
  auto refused = shadow::SwapBodies(admin(), spec_, Tier::kNotify, Deadline::After(std::chrono::seconds(2)));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kDeadlineExceeded);
  auto other = Open();
  Run(other, "INSERT INTO u VALUES (1)");
  Run(app, "INSERT INTO t VALUES (1, 'x'); COMMIT");
  ASSERT_TRUE(Swap(Tier::kNotify).has_value());
  Run("INSERT INTO t VALUES (2, 'y')");
  EXPECT_EQ(Read("SELECT a FROM t_history"), "x\n");
  EXPECT_EQ(Read("SELECT a FROM pgtier.outbox_1"), "y\n");
}

// The application's change waits for the policy's row, the barrier for the table: the barrier gives way.
TEST_F(ConcurrentDdl, InADeadlockTheBarrierGivesWay) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE u (id integer)");
  Take({"t", "u"});
  auto app = Open();
  Run(app, "BEGIN; LOCK TABLE u IN SHARE ROW EXCLUSIVE MODE");
  std::jthread barrier([this] {
    auto admin = Open();
    auto done = shadow::Barrier(admin, spec_, Tier::kNotify, Soon());
    EXPECT_TRUE(done.has_value()) << (done.has_value() ? "" : done.error().message);
  });
  while (Read("SELECT count(*) FROM pg_locks WHERE relation = 'u'::regclass AND NOT granted") == "0\n") {
    if (Read("SELECT tier FROM pgtier.shadow_state") != "triggers\n") break;
  }
  Run(app, "ALTER TABLE u ADD COLUMN a text; INSERT INTO u VALUES (1, 'x'); COMMIT");
  barrier.join();
  EXPECT_EQ(Read("SELECT a FROM u_history"), "x\n");
  EXPECT_EQ(Inspect(spec_).tier, Tier::kNotify);
}

TEST_F(ConcurrentDdl, TheDatabasesIsolationIsNotTheOperators) {
  Run("ALTER DATABASE " + database() +
      " SET default_transaction_isolation = 'serializable'; CREATE TABLE t (id integer)");
  auto fresh = Open();
  spec_ = SpecOf({"t"});
  auto ok = [](const Status& done) { EXPECT_TRUE(done.has_value()) << (done.has_value() ? "" : done.error().message); };
  ok(shadow::Install(fresh, spec_, Soon()));
  ok(shadow::SwapBodies(fresh, spec_, Tier::kNotify, Soon()));
  Run(fresh, "INSERT INTO t VALUES (1)");
  ok(shadow::Uninstall(fresh, spec_, Soon()));
  EXPECT_EQ(Read("SELECT id FROM t_history"), "1\n");
}

// ATTACH locks the new partition, and lets those be that are there.
TEST_F(ConcurrentDdl, APartitionIsAttachedBesideWriters) {
  TakePartitioned();
  auto writer = Open();
  Run(writer, "BEGIN; INSERT INTO o1 VALUES (1, 1)");
  Run("CREATE TABLE o3 (id integer, v integer); ALTER TABLE o ATTACH PARTITION o3 FOR VALUES FROM (200) TO (300)");
  Run(writer, "COMMIT");
  Run("INSERT INTO o VALUES (250, 3); SET session_replication_role = replica; TRUNCATE o3; RESET "
      "session_replication_role");
  EXPECT_EQ(Read("SELECT operation, v FROM o_history ORDER BY position"), "INSERT|1\nINSERT|3\nTRUNCATE|-\n");
  EXPECT_TRUE(Inspect(spec_).tables.at(0).installed);
  // One trigger of one part that was switched off is switched on, no other touched.
  Run(writer, "BEGIN; INSERT INTO o1 VALUES (2, 1)");
  Run("ALTER TABLE o3 DISABLE TRIGGER ALL; INSERT INTO o VALUES (251, 3)");
  Run(writer, "COMMIT");
  EXPECT_EQ(Read("SELECT count(*) FROM o_history"), "5\n");
}

TEST_F(ConcurrentDdl, ColumnsComeDownToASource) {
  Run("CREATE TABLE parent (id integer, v text); CREATE TABLE child () INHERITS (parent);"
      "CREATE TABLE o (id integer, v text) PARTITION BY RANGE (id);"
      "CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (0) TO (100);"
      "CREATE TYPE kind AS (id integer, v text); CREATE TABLE typed OF kind");
  Take({"child", "o1", "typed"});
  Run("ALTER TABLE parent ADD COLUMN a text; ALTER TABLE parent RENAME v TO w; INSERT INTO child VALUES (1, 'x', 'y')");
  Run("ALTER TABLE o ADD COLUMN a text; ALTER TABLE o RENAME v TO w; INSERT INTO o VALUES (1, 'x', 'y')");
  Run("ALTER TYPE kind ADD ATTRIBUTE a text CASCADE; ALTER TYPE kind RENAME ATTRIBUTE v TO w CASCADE;"
      "INSERT INTO typed VALUES (1, 'x', 'y')");
  for (const char* history : {"child_history", "o1_history", "typed_history"}) {
    EXPECT_EQ(Read(std::string("SELECT w, a FROM ") + history), "x|y\n") << history;
  }
}

// Anybody may set a parameter of that name: it does not keep a change from being followed.
TEST_F(ConcurrentDdl, NobodyElseSaysThatAChangeIsPgtiers) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Take({"t"});
  Run("SET pgtier.shadow_own_ddl = '1'; ALTER TABLE t ADD COLUMN a text; INSERT INTO t VALUES (1, 'x');"
      "RESET pgtier.shadow_own_ddl");
  EXPECT_EQ(Read("SELECT a FROM t_history"), "x\n");
  MakeRole("nosy");
  auto nosy = OpenAs("nosy");
  EXPECT_NE(Fails(nosy, "SELECT * FROM pgtier.shadow_own").find("42501"), std::string::npos);
  EXPECT_NE(Fails(nosy, "SELECT pgtier.shadow_own_ddl(true)").find("42501"), std::string::npos);
}

}  // namespace
}  // namespace pgtier
