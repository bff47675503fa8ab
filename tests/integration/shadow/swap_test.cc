// Between triggers and notify: nothing lost, nothing twice, and what is in flight is waited for.
#include <thread>

#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;

class Swap : public testing::WithDatabase {
 protected:
  void SetUp() override {
    WithDatabase::SetUp();
    if (IsSkipped()) return;
    Run("CREATE TABLE t (id integer PRIMARY KEY, v integer)");
    spec_ = SpecOf({"t"});
    Install(spec_);
  }
  void To(Tier tier) {
    auto done = shadow::SwapBodies(admin(), spec_, tier, Soon());
    if (!done.has_value()) throw std::runtime_error(done.error().message);
  }
  bool Drained() {
    auto drained = shadow::Drained(admin(), spec_, Soon());
    if (!drained.has_value()) throw std::runtime_error(drained.error().message);
    return *drained;
  }
  shadow::Spec spec_;
};

TEST_F(Swap, ThereAndBack) {
  To(Tier::kNotify);
  To(Tier::kNotify);
  EXPECT_EQ(Inspect(spec_).tier, Tier::kNotify);
  Run("INSERT INTO t VALUES (1, 1), (2, 1)");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "0\n");
  EXPECT_EQ(Inspect(spec_).queue_depth, 2);
  EXPECT_EQ(Inspect(spec_).tables.at(0).queued, 2);
  To(Tier::kTriggers);
  EXPECT_TRUE(Inspect(spec_).draining);
  EXPECT_FALSE(Drained());
  Run("SELECT pgtier.shadow_drain_all('data/audit'); INSERT INTO t VALUES (3, 1)");
  EXPECT_TRUE(Drained());
  EXPECT_FALSE(Inspect(spec_).draining);
  EXPECT_EQ(Read("SELECT id, position FROM t_history ORDER BY epoch, position"), "1|1\n2|2\n3|3\n");
  auto refused = shadow::SwapBodies(admin(), spec_, Tier::kCdc, Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
}

// A statement in flight ends with the old body, long after the swap; it has no transaction number yet when the swap
// commits, so that no xmin betrays it.
TEST_F(Swap, ABulkStatementInFlightIsWaitedFor) {
  To(Tier::kNotify);
  Run("SELECT pg_advisory_lock(1)");
  std::jthread writer([this] {
    auto connection = Open();
    Run(connection,
        "INSERT INTO t SELECT i, 0 FROM generate_series(1, 2000) AS i"
        " WHERE i > 0 AND (SELECT count(*) FROM (SELECT pg_advisory_lock_shared(1)) AS l) > 0");
  });
  while (Read("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == "0\n") {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  To(Tier::kTriggers);
  Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_FALSE(Drained());  // the outbox is empty, but not for good
  Run("SELECT pg_advisory_unlock(1)");
  writer.join();
  while (!Drained()) Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT count(*), count(DISTINCT position) FROM t_history"), "2000|2000\n");
}

// A transaction that holds the lock from an earlier statement need not hear of the new body at its next.
TEST_F(Swap, AnOpenTransactionIsWaitedForUntilItEnds) {
  To(Tier::kNotify);
  auto writer = Open();
  Run(writer, "BEGIN; INSERT INTO t VALUES (1, 0)");
  To(Tier::kTriggers);
  EXPECT_FALSE(Drained());
  Run(writer, "INSERT INTO t VALUES (2, 0); ROLLBACK");
  EXPECT_TRUE(Drained());
}

TEST_F(Swap, AStateThatWasLostBetweenSwapAndWaitsIsTakenUp) {
  To(Tier::kNotify);
  auto writer = Open();
  Run(writer, "BEGIN; INSERT INTO t VALUES (1, 0)");
  Run("SELECT pgtier.shadow_swap('data/audit', 'triggers')");  // and the operator died
  EXPECT_FALSE(Drained());
  Run(writer, "COMMIT");
  EXPECT_FALSE(Drained());
  Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_TRUE(Drained());
}

// Where transactions may be prepared, the trigger sends no NOTIFY (PREPARE would fail), and a prepared one is waited
// for.
TEST_F(Swap, PreparedTransactionsAreWaitedFor) {
  testing::PostgresOptions options;
  options.conf = {"max_prepared_transactions = 5"};
  auto own = testing::LocalPostgres::Start(options);
  ASSERT_TRUE(own.has_value()) << own.error().message;
  auto connection = (*own)->Connect();
  auto writer = (*own)->Connect();
  ASSERT_TRUE(connection.has_value() && writer.has_value());
  auto drained = [&] { return *shadow::Drained(*connection, spec_, Soon()); };
  Run(*connection, "CREATE TABLE t (id integer PRIMARY KEY, v integer)");
  ASSERT_TRUE(shadow::Install(*connection, spec_, Soon()).has_value());
  auto findings = shadow::Preflight(*connection, spec_, Tier::kNotify, Soon());
  ASSERT_TRUE(findings.has_value());
  ASSERT_EQ(findings->size(), 1U);
  EXPECT_EQ(findings->at(0).code, "PreparedTransactions");
  ASSERT_TRUE(shadow::SwapBodies(*connection, spec_, Tier::kNotify, Soon()).has_value());
  // A sleeper holds K, so that a trigger that sent notifications would send one now.
  Run(*connection, "SELECT pg_advisory_lock(7047001, (SELECT number FROM pgtier.shadow_state))");
  Run(*writer, "BEGIN; INSERT INTO t VALUES (1, 1); PREPARE TRANSACTION 'before'");
  Run(*writer, "BEGIN; INSERT INTO t VALUES (2, 1)");
  ASSERT_TRUE(shadow::SwapBodies(*connection, spec_, Tier::kTriggers, Soon()).has_value());
  Run(*writer, "PREPARE TRANSACTION 'after'");
  EXPECT_FALSE(drained());
  Run(*writer, "COMMIT PREPARED 'before'");
  Run(*connection, "SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_FALSE(drained());
  Run(*writer, "COMMIT PREPARED 'after'");
  EXPECT_FALSE(drained());
  Run(*connection, "SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_TRUE(drained());
  EXPECT_EQ(Read(*connection, "SELECT id FROM t_history ORDER BY position"), "1\n2\n");
}

TEST_F(Swap, SeveralDrainersKeepTheOrderOfEachRow) {
  To(Tier::kNotify);
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 40) AS i");
  for (int i = 1; i <= 30; ++i) {
    Run("UPDATE t SET v = v + 1; UPDATE t SET id = -id WHERE id % 7 = " + std::to_string(i % 7));
  }
  // What arrives is looked at in the order of arrival (one drainer's batches are one transaction each): a later change
  // of a row must never be there before an earlier one.
  Run("ALTER TABLE t_history ADD COLUMN seen bigint; CREATE SEQUENCE arrivals; GRANT ALL ON arrivals TO PUBLIC;"
      "ALTER TABLE t_history ALTER COLUMN seen SET DEFAULT nextval('arrivals')");
  std::vector<std::jthread> drainers;
  for (int i = 0; i < 3; ++i) {
    drainers.emplace_back([this] {
      auto connection = Open();
      bool everything = false;
      for (std::string next = "again"; next != "rest";) {
        next = Read(connection, std::string("SELECT next FROM pgtier.shadow_drain(1, 20, 3, ") +
                                    (everything ? "true" : "false") + ")");
        next.pop_back();
        everything = next == "everything";
        if (next == "rest" && Read(connection, "SELECT depth FROM pgtier.shadow_queue(1, 1)") != "0\n") next = "again";
      }
    });
  }
  drainers.clear();
  std::string rows = Read("SELECT count(*) FROM t_history");
  EXPECT_EQ(rows, Read("SELECT last_value FROM pgtier.position_1"));
  EXPECT_EQ(Read("SELECT count(*) FROM (SELECT seen, lag(seen) OVER (PARTITION BY abs(id) ORDER BY position) AS before"
                 " FROM t_history) AS h WHERE before > seen"),
            "0\n");
}

TEST_F(Swap, ARowThatCanNotBeWrittenIsPutAside) {
  To(Tier::kNotify);
  Run("ALTER TABLE t_history ADD CHECK (v <> 13); INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i");
  EXPECT_EQ(Read("SELECT sum(pgtier.shadow_drain_all('data/audit')) FROM generate_series(1, 30)"), "100\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "99\n");
  EXPECT_EQ(Read("SELECT source, position, convert_from(payload, 'UTF8')::jsonb ->> 'v', error ~ 't_history_v_check'"
                 " FROM pgtier.shadow_dead_letters"),
            "public.t|13|13|t\n");
  EXPECT_EQ(Inspect(spec_).dead_letters, 1);
}

TEST_F(Swap, TheWorkersRoleMayDoNothingElse) {
  To(Tier::kNotify);
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'; INSERT INTO t VALUES (1, 1)");
  auto worker = OpenAs("pgtier_shadow_notify");
  EXPECT_EQ(Read(worker, "SELECT id, source FROM pgtier.shadow_outboxes('data/audit')"), "1|public.t\n");
  EXPECT_EQ(Read(worker, "SELECT depth FROM pgtier.shadow_queue(1, 100)"), "1\n");
  EXPECT_EQ(Read(worker, "SELECT moved, next FROM pgtier.shadow_drain(1, 100, 1, false)"), "1|rest\n");
  for (const char* sql : {"SELECT * FROM t", "SELECT * FROM t_history", "SELECT * FROM pgtier.outbox_1",
                          "UPDATE pgtier.shadow_state SET epoch = 9", "SELECT pgtier.shadow_drain_all('data/audit')",
                          "CREATE TABLE pgtier.x (id integer)"}) {
    EXPECT_NE(Fails(worker, sql).find("42501"), std::string::npos) << sql;
  }
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "1\n");
}

}  // namespace
}  // namespace pgtier
