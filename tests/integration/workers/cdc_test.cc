// The consumer of cdc against a real server: what it takes from the log, where it cuts, what it does after a loss.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/integration/workers/cdc_fixture.h"

namespace pgtier::testing {
namespace {

using CdcTest = CdcFixture;

TEST_F(CdcTest, WritesWhatTriggersWouldAndCutsAtTheBarriers) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, v text)");
  Install({"t"});
  Run("SET app.actor = 'ann'; INSERT INTO t VALUES (1, 'by trigger')");
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  StartConsumer();
  Run("INSERT INTO t VALUES (2, 'by trigger, in the slot too')");
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  Run("INSERT INTO t VALUES (3, E'by log\\t\\\\ \\n\\r x')");
  Run("UPDATE t SET v = v || '!' WHERE id = 3");
  Run("SET app.actor = ''; UPDATE t SET id = 4 WHERE id = 3");
  Run("DELETE FROM t WHERE id = 1");
  Run("BEGIN; SET LOCAL app.actor = 'bob'; TRUNCATE t; COMMIT");
  Descend();
  Run("SET app.actor = 'zoe'; INSERT INTO t VALUES (9, 'by trigger again')");
  EXPECT_EQ(Get("SELECT string_agg(concat_ws('|', epoch, operation, coalesce(actor, '-'), id, v, old_id, old_v), E'\\n'"
                " ORDER BY epoch, position) FROM t_history"),
            "1|INSERT|ann|1|by trigger\n"
            "1|INSERT|ann|2|by trigger, in the slot too\n"
            "2|INSERT|ann|3|by log\t\\ \n\r x\n"
            "2|UPDATE|ann|3|by log\t\\ \n\r x!|3|by log\t\\ \n\r x\n"
            "2|UPDATE|-|4|by log\t\\ \n\r x!|3|by log\t\\ \n\r x!\n"
            "2|DELETE|-|1|by trigger\n"
            "2|TRUNCATE|bob\n"
            "3|INSERT|zoe|9|by trigger again");
  EXPECT_EQ(
      Get("SELECT count(*) FROM t_history WHERE at_utc NOT BETWEEN now() - interval '1 hour' AND clock_timestamp()"),
      "0");
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0");
  consumer_.reset();
  Status dropped = shadow::DropCdc(*sql_, spec_, Late());
  for (Deadline deadline = Late(); !dropped.has_value() && !deadline.Expired();) {
    dropped = shadow::DropCdc(*sql_, spec_, Late());  // the server keeps the slot for a moment
  }
  Ok(dropped);
  EXPECT_EQ(Get("SELECT relreplident FROM pg_class WHERE relname = 't'"), "d");
  EXPECT_EQ(Get("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
  EXPECT_EQ(Get("SELECT count(*) FROM pg_publication"), "0");
}

TEST_F(CdcTest, TellsTheServerOnlyWhatIsKept) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Climb();
  for (int i = 0; i < 200; ++i) {
    Run("INSERT INTO t VALUES (" + std::to_string(i) + ")");
    EXPECT_EQ(Get("SELECT count(*) FROM pg_replication_slots AS s, pgtier.shadow_checkpoint AS c"
                  " WHERE s.slot_name = c.slot AND s.confirmed_flush_lsn > c.lsn"),
              "0");
  }
  CatchUp();
  EXPECT_EQ(Get("SELECT count(*) FROM t_history"), "200");
  // What was kept is acknowledged, also while nothing happens.
  Await(
      "SELECT s.confirmed_flush_lsn = c.lsn FROM pg_replication_slots AS s, pgtier.shadow_checkpoint AS c"
      " WHERE s.slot_name = c.slot",
      "t");
}

TEST_F(CdcTest, LagFallsBesideABusyNeighbourAndNothingIsWrittenAtRest) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE other (v text)");
  Install({"t"});
  auto options = Options();
  options.idle_save = workers::CdcOptions().idle_save;  // as users have it: within 30 s is what they are told
  StartConsumer(options);
  Climb();
  const MonoTime began = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) Run("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 1000)");
  const std::string target = Get("SELECT pg_current_wal_flush_lsn()");
  // The margin below which the checkpoint is not moved.
  Await("SELECT confirmed_flush_lsn > '" + target + "'::pg_lsn - 100000 FROM pg_replication_slots WHERE slot_name = '" +
            spec_.slot + "'",
        "t");
  const auto fell = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - began);
  std::printf("beside a busy neighbour the lag fell within %d s\n", static_cast<int>(fell.count()));
  StartConsumer();
  Run("CHECKPOINT");
  // It comes to rest, sooner or later.
  const std::string written = "SELECT xmin || ' ' || lsn FROM pgtier.shadow_checkpoint";
  std::string rested;
  Deadline deadline = Late();
  do {
    rested = Get(written);
    std::this_thread::sleep_for(std::chrono::seconds(4));
  } while (Get(written) != rested && !deadline.Expired());
  EXPECT_EQ(Get(written), rested);
}

TEST_F(CdcTest, SaysWhatIsMissingWhenTheSlotWasAheadOrGone) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Climb();
  Run("INSERT INTO t VALUES (1)");
  CatchUp();
  consumer_.reset();
  Run("INSERT INTO t VALUES (2)");
  // Somebody else reads the slot.
  for (Deadline deadline = Late(); !deadline.Expired();) {
    auto moved =
        sql_->Query("SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", {spec_.slot}, Soon());
    if (moved.has_value()) break;
  }
  StartConsumer();
  Await("SELECT count(*) FROM pgtier.shadow_dead_letters WHERE source = '' AND error LIKE 'gap: %'", "1");
  Run("INSERT INTO t VALUES (3)");
  CatchUp();
  EXPECT_EQ(Get("SELECT string_agg(id::text, ',' ORDER BY id) FROM t_history"), "1,3");
  EXPECT_TRUE(consumer_->consumer.state().gap);

  // It is dropped behind our back.
  consumer_.reset();
  for (Deadline deadline = Late(); !deadline.Expired();) {
    if (sql_->Query("SELECT pg_drop_replication_slot($1)", {spec_.slot}, Soon()).has_value()) break;
  }
  Run("INSERT INTO t VALUES (4)");
  StartConsumer();
  for (Deadline deadline = Late(); !deadline.Expired() && consumer_->consumer.state().error.empty();) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_THAT(consumer_->consumer.state().error, ::testing::HasSubstr("does not exist"));
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  Await("SELECT count(*) FROM pgtier.shadow_dead_letters WHERE error LIKE 'gap: %'", "2");
  Run("INSERT INTO t VALUES (5)");
  CatchUp();
  EXPECT_EQ(Get("SELECT string_agg(id::text, ',' ORDER BY id) FROM t_history"), "1,3,5");
}

TEST_F(CdcTest, ASlotLostOnTheWayOutIsAGapAndTheNextWayInDoublesNothing) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Climb();
  Run("INSERT INTO t VALUES (1)");
  CatchUp();
  consumer_.reset();
  Run("INSERT INTO t VALUES (2)");
  Ok(shadow::SettleCdc(*sql_, spec_, Late()));
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0") << "the log can be read";
  for (Deadline deadline = Late(); !deadline.Expired();) {
    if (sql_->Query("SELECT pg_drop_replication_slot($1)", {spec_.slot}, Soon()).has_value()) break;
  }
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kTriggers, Late()));
  EXPECT_FALSE(*shadow::CdcEnded(*sql_, spec_, Late()));
  EXPECT_FALSE(shadow::DropCdc(*sql_, spec_, Late()).has_value());
  Ok(shadow::SettleCdc(*sql_, spec_, Late()));
  EXPECT_TRUE(*shadow::CdcEnded(*sql_, spec_, Late()));
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_dead_letters WHERE error LIKE 'gap: slot % is gone%'"), "1");
  Ok(shadow::DropCdc(*sql_, spec_, Late()));
  EXPECT_EQ(Get("SELECT slot FROM pgtier.shadow_checkpoint"), "");
  EXPECT_EQ(Get("SELECT relreplident FROM pg_class WHERE relname = 't'"), "d");
  // Up again: until the barrier triggers write, and the consumer, which reads already, must not.
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  StartConsumer();
  Run("INSERT INTO t VALUES (3)");
  Ok(shadow::Barrier(*sql_, spec_, shadow::Tier::kCdc, Late()));
  Run("INSERT INTO t VALUES (4)");
  Descend();
  EXPECT_EQ(Get("SELECT string_agg(id::text, ',' ORDER BY epoch, position) FROM t_history"), "1,3,4");
}

TEST_F(CdcTest, ATableThatIsDroppedKeepsWhatWasNotReadOfItYet) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE u (id integer PRIMARY KEY)");
  Install({"t", "u"});
  Climb();
  CatchUp();
  consumer_.reset();
  Run("INSERT INTO t VALUES (1); INSERT INTO u VALUES (2); DROP TABLE t");
  StartConsumer();
  CatchUp();
  EXPECT_EQ(Get("SELECT id FROM t_history"), "1");
  EXPECT_EQ(Get("SELECT id FROM u_history"), "2");
}

TEST_F(CdcTest, ASlotOfSomebodyElseIsLeftAlone) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Ok(sql_->Query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", {spec_.slot}, Late()).has_value()
         ? Status()
         : MakeError(Code::kInternal, "no slot"));
  Status prepared = shadow::PrepareCdc(*sql_, spec_, Late());
  ASSERT_FALSE(prepared.has_value());
  EXPECT_THAT(prepared.error().message, ::testing::HasSubstr("somebody else's"));
  Run("SELECT pg_drop_replication_slot('" + spec_.slot + "')");
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  Ok(shadow::DropCdc(*sql_, spec_, Late()));
}

TEST_F(CdcTest, PutsAsideWhatCantBeWritten) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, v integer)");
  Install({"t"});
  Run("ALTER TABLE t_history ADD CONSTRAINT small CHECK (v < 100)");
  Climb();
  Run("INSERT INTO t SELECT n, CASE WHEN n % 50 = 0 THEN 100 + n ELSE 1 END FROM generate_series(1, 500) AS n");
  Run("UPDATE t SET v = 2 WHERE id <= 100");
  CatchUp();
  EXPECT_EQ(Get("SELECT count(*) FROM t_history WHERE operation = 'INSERT'"), "490");
  EXPECT_EQ(Get("SELECT count(*) FROM t_history WHERE operation = 'UPDATE'"), "100");
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_dead_letters WHERE source = 'public.t' AND error LIKE '%small%'"
                " AND epoch = 2 AND position IS NOT NULL AND lsn IS NOT NULL"),
            "10");
  EXPECT_THAT(Get("SELECT convert_from(payload, 'UTF8') FROM pgtier.shadow_dead_letters ORDER BY id LIMIT 1"),
              ::testing::HasSubstr("INSERT\t\\N\t50\t150"));
  EXPECT_EQ(consumer_->consumer.state().dead_letters, 10);
}

TEST_F(CdcTest, TakesNoBarrierFromStrangersAndNoOtherSlot) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Climb();
  Run("SELECT pg_logical_emit_message(true, 'pgtier.cutover', json_build_object('policy', '" + spec_.policy +
      "', 'epoch', 99, 'to', 'triggers', 'secret', 'guessed')::text)");
  Run("SELECT pg_logical_emit_message(true, 'pgtier.cutover', '{')");
  Run("INSERT INTO t VALUES (1)");
  Await("SELECT count(*) FROM t_history", "1");
  // A second consumer waits for the origin, and does nothing.
  {
    Running second(Options());
    Run("INSERT INTO t VALUES (2)");
    Await("SELECT count(*) FROM t_history", "2");
    EXPECT_FALSE(second.consumer.state().streaming);
  }
  EXPECT_EQ(Get("SELECT count(*) FROM t_history"), "2");
}

TEST_F(CdcTest, NoticesAServerThatHasStopped) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  auto options = Options();
  options.silence = std::chrono::seconds(3);
  StartConsumer(options);
  Climb();
  Run("INSERT INTO t VALUES (1)");
  Await("SELECT count(*) FROM t_history", "1");
  const int64_t sessions = consumer_->consumer.state().sessions;
  const std::string pid = Get("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '" + spec_.slot + "'");
  kill(std::stoi(pid), SIGSTOP);
  for (Deadline deadline = Late(); !deadline.Expired() && consumer_->consumer.state().streaming;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_FALSE(consumer_->consumer.state().streaming);
  kill(std::stoi(pid), SIGCONT);
  Run("INSERT INTO t VALUES (2)");
  Await("SELECT count(*) FROM t_history", "2");
  EXPECT_GT(consumer_->consumer.state().sessions, sessions);
}

// The server cuts names off after 63 characters; slots may be as long as that, and publications have more before them.
TEST_F(CdcTest, ASlotOfAnyLength) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  spec_.slot = "slot_" + database_ + "_" + std::string(57 - database_.size(), 'x');
  ASSERT_EQ(spec_.slot.size(), 63U);
  EXPECT_EQ(shadow::PublicationName(spec_).size(), 63U);
  Install({"t"});
  EXPECT_EQ(Get("SELECT pgtier.shadow_publication(slot) FROM pgtier.shadow_state"), shadow::PublicationName(spec_));
  Climb();
  Run("INSERT INTO t VALUES (1)");
  Descend();
  EXPECT_EQ(Get("SELECT string_agg(concat_ws('|', epoch, id), ',') FROM t_history"), "2|1");
  consumer_.reset();
  Status dropped = shadow::DropCdc(*sql_, spec_, Late());
  for (Deadline deadline = Late(); !dropped.has_value() && !deadline.Expired();) {
    dropped = shadow::DropCdc(*sql_, spec_, Late());
  }
  Ok(dropped);
  EXPECT_EQ(Get("SELECT count(*) FROM pg_publication"), "0");
  EXPECT_EQ(Get("SELECT count(*) FROM pg_replication_origin WHERE roname LIKE '%xxx'"), "0");
}

TEST_F(CdcTest, AnOldSnapshotDoesNotWriteWhatWasRightBeforeTheBarrier) {
  Run("CREATE TABLE o (id integer) PARTITION BY RANGE (id); CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (0) TO "
      "(10)");
  Install({"o"});
  auto app = Connect(database_);
  RunOn(app, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  Climb();
  const std::string add = "CREATE TABLE o2 PARTITION OF o FOR VALUES FROM (10) TO (20)";
  auto failed = app.Execute(add, Late());
  ASSERT_FALSE(failed.has_value());
  EXPECT_NE(failed.error().message.find("40001"), std::string::npos) << failed.error().message;
  RunOn(app, "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; " + add + "; COMMIT; INSERT INTO o VALUES (11)");
  Ok(shadow::Install(*sql_, spec_, Late()));
  EXPECT_EQ(Get("SELECT string_agg(prrelid::regclass::text, ',') FROM pg_publication_rel"), "o1,o2");
  // Into triggers likewise.
  RunOn(app, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
  Descend();
  failed = app.Execute("CREATE TABLE o3 PARTITION OF o FOR VALUES FROM (20) TO (30)", Late());
  EXPECT_FALSE(failed.has_value());
  RunOn(app, "ROLLBACK; CREATE TABLE o3 PARTITION OF o FOR VALUES FROM (20) TO (30); INSERT INTO o VALUES (21)");
  EXPECT_EQ(Get("SELECT string_agg(concat_ws('|', epoch, id), ',' ORDER BY epoch) FROM o_history"), "2|11,3|21");
}

// The walsender sends what is in the log; a commit that waits for a synchronous standby is not seen by others yet.
TEST_F(CdcTest, ATableThatTheLogTellsOfBeforeTheCatalogueDoes) {
  Run("CREATE TABLE o (id integer) PARTITION BY RANGE (id); CREATE TABLE o1 PARTITION OF o FOR VALUES FROM (0) TO "
      "(10)");
  Install({"o"});
  Climb();
  auto app = Connect(database_);
  RunOn(app, "BEGIN; CREATE TABLE o2 PARTITION OF o FOR VALUES FROM (10) TO (20); INSERT INTO o VALUES (11)");
  // The consumer's own commits wait as well: between these and the application's it must have none.
  Run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
  Run("SELECT pg_reload_conf()");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // For the checkpointer, which turns the waiting on.
  std::atomic<bool> committed = false;
  std::thread commits([&] {
    RunOn(app, "COMMIT");
    committed = true;
  });
  const std::string waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = " +
                              std::to_string(app.BackendPid());
  for (Deadline deadline = Late(); Get(waiting) == "0" && !committed && !deadline.Expired();) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // Were it too short, the test would only be weaker.
  Run("ALTER SYSTEM RESET synchronous_standby_names");
  Run("SELECT pg_reload_conf()");
  commits.join();
  Descend();
  EXPECT_EQ(Get("SELECT string_agg(concat_ws('|', epoch, id), ',') FROM o_history"), "2|11");
  EXPECT_EQ(Get("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0");
}

TEST_F(CdcTest, AnActorThatIsNoLongerRecordedIsNoLongerSaid) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install({"t"});
  Climb();
  EXPECT_EQ(Get("SELECT tgenabled FROM pg_trigger WHERE tgname = '00_pgtier_shadow_actor'"), "A");
  spec_.actor_setting = "";
  Ok(shadow::Install(*sql_, spec_, Late()));
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  EXPECT_EQ(Get("SELECT tgenabled FROM pg_trigger WHERE tgname = '00_pgtier_shadow_actor'"), "D");
  spec_.actor_setting = "app.actor";
  Ok(shadow::Install(*sql_, spec_, Late()));
  Ok(shadow::PrepareCdc(*sql_, spec_, Late()));
  EXPECT_EQ(Get("SELECT tgenabled FROM pg_trigger WHERE tgname = '00_pgtier_shadow_actor'"), "A");
}

TEST_F(CdcTest, PreflightNamesWhatIsInTheWay) {
  Run("CREATE UNLOGGED TABLE u (id integer PRIMARY KEY); CREATE TABLE t (id integer)");
  spec_.tables = {{"u", ""}, {"t", ""}};
  auto findings = shadow::Preflight(*sql_, spec_, shadow::Tier::kCdc, Late());
  ASSERT_TRUE(findings.has_value()) << findings.error().message;
  std::string codes;
  for (const auto& finding : *findings) codes += finding.code + (finding.blocks ? "! " : " ");
  EXPECT_THAT(codes, ::testing::HasSubstr("UnloggedTable! "));
  EXPECT_THAT(codes, ::testing::HasSubstr("IdentityBecomesFull "));
  EXPECT_THAT(codes, ::testing::Not(::testing::HasSubstr("WalLevel")));
}

}  // namespace
}  // namespace pgtier::testing
