// A primary dies, its standby is promoted, and the consumer goes on there: no row lost, none twice. The slot is one for
// failover, and pgtier-worker is told by its configuration where the server is now.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <random>
#include <set>

#include "shadow/shadow.h"
#include "tests/integration/postgres/shared_server.h"
#include "tests/integration/shadow/worker_process.h"
#include "workers/cdc/consumer.h"

namespace pgtier::testing {
namespace {

Deadline Eventually() { return Deadline::After(std::chrono::seconds(120)); }

class CdcFailoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    PostgresOptions options;
    options.conf = {"synchronized_standby_slots = 'standby'", "autovacuum = off"};
    auto started = LocalPostgres::Start(options);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    primary_ = *std::move(started);
    if (Connect(*primary_).ServerVersion() < 170000) GTEST_SKIP() << "slots for failover came with PostgreSQL 17";
    options = {};
    options.conf = {"hot_standby_feedback = on", "synchronized_standby_slots = ''"};
    options.application_name = options.slot = "standby";
    auto cloned = LocalPostgres::StartStandby(*primary_, options);
    ASSERT_TRUE(cloned.has_value()) << cloned.error().message;
    standby_ = *std::move(cloned);

    auto sql = Connect(*primary_);
    Run(sql, "CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE TABLE done (operation text, id bigint, v text)");
    spec_.policy = "data/audit";
    spec_.slot = "audit";
    spec_.tables = {{"t", ""}};
    Ok(shadow::Install(sql, spec_, Soon()));
    Run(sql, "ALTER ROLE pgtier_shadow_cdc PASSWORD 'of-cdc'");
    Ok(shadow::PrepareCdc(sql, spec_, Soon()));
    files_.Write("password", "of-cdc");
    Point(*primary_);
    worker_ = StartWorker(files_.path() + "/worker.json", files_.path() + "/log");
    Ok(shadow::Barrier(sql, spec_, shadow::Tier::kCdc, Soon()));
    // The standby's copy of the slot is a real one when the primary's has come to where the standby's log begins.
    // Copying begins then: before, it would look less and less often.
    auto there = Connect(*standby_);
    const std::string begins = Get(there, "SELECT pg_last_wal_replay_lsn()");
    int id = 1'000'000;
    auto move = [&] {
      Run(sql, "INSERT INTO t VALUES (" + std::to_string(++id) + ", 'before'); SELECT pg_log_standby_snapshot()");
      Run(sql, "INSERT INTO done SELECT 'INSERT', id, v FROM t WHERE id = " + std::to_string(id));
    };
    Await("the slot to move", [&] {
      move();
      return Get(sql, "SELECT restart_lsn > '" + begins + "' FROM pg_replication_slots WHERE slot_name = 'audit'") ==
             "t";
    });
    Run(there, "ALTER SYSTEM SET sync_replication_slots = on");
    Run(there, "SELECT pg_reload_conf()");
    Await("the slot on the standby", [&] {
      move();
      return Get(there,
                 "SELECT synced AND NOT temporary AND invalidation_reason IS NULL FROM pg_replication_slots"
                 " WHERE slot_name = 'audit'") == "t";
    });
  }

  static postgres::Connection Connect(const LocalPostgres& server) {
    for (Deadline deadline = Eventually();;) {
      auto connection = server.Connect();
      if (connection.has_value()) return *std::move(connection);
      if (deadline.Expired()) throw std::runtime_error(connection.error().message);
    }
  }
  static void Ok(const Status& status) {
    if (!status.has_value()) throw std::runtime_error(status.error().message);
  }
  static void Run(postgres::Connection& connection, const std::string& sql) {
    auto done = connection.Execute(sql, Soon());
    if (!done.has_value()) throw std::runtime_error(sql + ": " + done.error().message);
  }
  static std::string Get(postgres::Connection& connection, const std::string& sql) {
    auto rows = connection.Query(sql, Soon());
    if (!rows.has_value()) throw std::runtime_error(sql + ": " + rows.error().message);
    return rows->empty() ? "" : std::string((*rows)[0].Text(0).value_or(""));
  }
  void Await(const std::string& what, const std::function<bool()>& holds) {
    for (Deadline deadline = Eventually(); !holds();) {
      if (deadline.Expired()) throw std::runtime_error("in vain: " + what + "; the worker: " + files_.Read("log"));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  postgres::ConnectOptions ConsumersDatabase(const LocalPostgres& server) {
    postgres::ConnectOptions options = server.Options();
    options.user = std::string(shadow::kCdcRole);
    options.password = "of-cdc";
    return options;
  }
  // The worker's file, which it reads again when it changes.
  void Point(const LocalPostgres& server) {
    files_.Write("worker.json", WorkerConfig(files_, ConsumersDatabase(server), "cdc", spec_.policy,
                                             R"(, "slot": "audit", "publication": "pgtier_audit",)"
                                             R"( "batch": {"rows": 100, "interval": "10ms"})"));
  }
  // SIGKILL, and nobody of the server survives, not even who is stopped.
  void KillPrimary() {
    std::vector<int> pids;
    {
      auto sql = Connect(*primary_);
      auto rows = sql.Query("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()", Soon());
      if (!rows.has_value()) throw std::runtime_error(rows.error().message);
      for (const auto& row : *rows) pids.push_back(static_cast<int>(row.Get<int64_t>(0).value_or(0)));
    }
    primary_->Signal(SIGKILL);
    for (int pid : pids) {
      if (pid > 1) kill(pid, SIGKILL);
    }
  }
  void Promote() {
    auto sql = Connect(*standby_);
    EXPECT_EQ(Get(sql, "SELECT pg_promote(true, 60)"), "t");
  }
  // Out of cdc; the worker has written what belongs to it.
  void Descend(postgres::Connection& sql) {
    Ok(shadow::Barrier(sql, spec_, shadow::Tier::kTriggers, Eventually()));
    Await("the end of cdc", [&] {
      auto ended = shadow::CdcEnded(sql, spec_, Soon());
      return ended.has_value() && *ended;
    });
  }

  std::unique_ptr<LocalPostgres> primary_, standby_;
  ServerFolder files_;
  shadow::Spec spec_;
  std::unique_ptr<test::ChildProcess> worker_;
};

// The lost flush: the standby has a change of the source, and not yet its row of the history, which the consumer has
// written and committed on the primary. Were the primary told now that the change is kept, the standby's copy of the
// slot would begin behind it.
TEST_F(CdcFailoverTest, AChangeIsKeptOnlyWhenTheStandbyHasItsHistory) {
  auto sql = Connect(*primary_);
  auto there = Connect(*standby_);
  auto lock = Connect(*primary_);
  Run(lock, "BEGIN; LOCK TABLE t_history IN SHARE ROW EXCLUSIVE MODE");
  Run(sql, "INSERT INTO t VALUES (1, 'in the window')");
  const std::string commit = Get(sql, "SELECT pg_current_wal_flush_lsn()");
  Await("the change on the standby",
        [&] { return Get(there, "SELECT pg_last_wal_replay_lsn() >= '" + commit + "'") == "t"; });
  Await("the consumer at the lock", [&] {
    return Get(sql,
               "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgtier-cdc-writer'"
               " AND wait_event_type = 'Lock'") == "1";
  });
  const std::string walsender = Get(sql, "SELECT pid FROM pg_stat_replication WHERE application_name = 'standby'");
  ASSERT_EQ(kill(std::stoi(walsender), SIGSTOP), 0);
  Run(lock, "COMMIT");
  Await("the history's row", [&] { return Get(sql, "SELECT count(*) FROM t_history WHERE id = 1") == "1"; });
  // The consumer reports all the time, at least once a second.
  for (Deadline deadline = Deadline::After(std::chrono::milliseconds(2500)); !deadline.Expired();) {
    ASSERT_EQ(
        Get(sql, "SELECT confirmed_flush_lsn < '" + commit + "' FROM pg_replication_slots WHERE slot_name = 'audit'"),
        "t");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  KillPrimary();
  Promote();
  there = Connect(*standby_);
  ASSERT_EQ(Get(there, "SELECT count(*) FROM t WHERE id = 1"), "1");
  ASSERT_EQ(Get(there, "SELECT count(*) FROM t_history WHERE id = 1"), "0") << "nothing was in the window";
  Point(*standby_);
  Run(there, "INSERT INTO t VALUES (2, 'after')");
  Await("the rows", [&] { return Get(there, "SELECT count(*) FROM t_history WHERE id IN (1, 2)") == "2"; });
  EXPECT_EQ(Get(there, "SELECT timeline FROM pgtier.shadow_checkpoint"), "2");

  // A checkpoint of another past: the server's timeline forked before it.
  worker_.reset();
  const std::string ahead = Get(there, "UPDATE pgtier.shadow_checkpoint SET timeline = 1 RETURNING lsn");
  workers::CdcOptions options;
  options.database = ConsumersDatabase(*standby_);
  options.policy = spec_.policy;
  options.slot = "audit";
  options.publication = "pgtier_audit";
  workers::CdcConsumer consumer(options, nullptr);
  Run(there, "UPDATE pgtier.shadow_checkpoint SET timeline = 7");
  EXPECT_THAT(consumer.Session({}).message, ::testing::HasSubstr("timeline 7, from which this server's, 2, does not"));
  Run(there, "UPDATE pgtier.shadow_checkpoint SET timeline = 1");
  {
    std::jthread running([&](const std::stop_token& stop) { consumer.Run(stop); });
    Await("the gap", [&] {
      return Get(there,
                 "SELECT count(*) FROM pgtier.shadow_dead_letters WHERE error LIKE 'gap: timeline 2 of this server"
                 " forked at %, before the history''s end at " +
                     ahead + " on timeline 1:%'") == "1";
    });
  }
  EXPECT_TRUE(consumer.state().gap);
}

// Under load, and where no acknowledged transaction is lost with its server (synchronous replication): what the
// promoted server's sources went through is in its histories, once.
TEST_F(CdcFailoverTest, HistoriesAreWhatThePromotedServersSourcesWentThrough) {
  {
    auto sql = Connect(*primary_);
    Run(sql, "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    Run(sql, "SELECT pg_reload_conf()");
  }
  std::atomic<const LocalPostgres*> server = primary_.get();
  std::mutex mutex;
  std::set<int> acknowledged;
  auto write = [&](int number, const std::stop_token& stop) {
    std::mt19937 random(static_cast<unsigned>(number));
    for (int next = number; !stop.stop_requested();) {
      auto opened = server.load()->Connect();
      while (opened.has_value() && opened->Usable() && !stop.stop_requested()) {
        next += 10;
        const std::string id = std::to_string(next), other = std::to_string(next - 10 * static_cast<int>(random() % 9));
        auto done = opened->Execute("BEGIN; WITH n AS (INSERT INTO t VALUES (" + id +
                                        ", 'new') RETURNING *) INSERT INTO done SELECT 'INSERT', * "
                                        "FROM n; WITH n AS (UPDATE t SET v = v || 'u' WHERE id = " +
                                        other + " RETURNING *) INSERT INTO done SELECT 'UPDATE', * FROM n; COMMIT",
                                    Soon());
        if (!done.has_value()) continue;
        {
          const std::lock_guard guard(mutex);
          acknowledged.insert(next);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  };
  {
    std::vector<std::jthread> writers;
    for (int i = 1; i <= 4; ++i) writers.emplace_back([&, i](const std::stop_token& stop) { write(i, stop); });
    auto written = [&](size_t least) {
      Await("transactions", [&] {
        const std::lock_guard guard(mutex);
        return acknowledged.size() >= least;
      });
    };
    written(300);
    KillPrimary();
    Promote();
    {
      auto there = Connect(*standby_);
      // It was cloned before that was set, and has no standby of its own.
      Run(there, "ALTER SYSTEM SET synchronous_standby_names = ''");
      Run(there, "SELECT pg_reload_conf()");
    }
    server = standby_.get();
    Point(*standby_);
    size_t before = 0;
    {
      const std::lock_guard guard(mutex);
      before = acknowledged.size();
    }
    written(before + 300);
    auto there = Connect(*standby_);
    Descend(there);
  }
  auto there = Connect(*standby_);
  const std::string done = "SELECT operation, id, v FROM done";
  const std::string history = "SELECT operation, id, v FROM t_history";
  for (const auto& [one, other, what] : {std::tuple{done, history, "lost"}, {history, done, "too many"}}) {
    EXPECT_EQ(Get(there, "SELECT count(*) || ' ' || min(d::text) FROM (" + one + " EXCEPT ALL " + other + ") AS d"), "")
        << what;
  }
  EXPECT_EQ(Get(there, "SELECT string_agg(error, ' ') FROM pgtier.shadow_dead_letters"), "");
  std::set<int> there_are;
  auto ids = there.Query("SELECT id FROM t", Soon());
  ASSERT_TRUE(ids.has_value()) << ids.error().message;
  for (const auto& row : *ids) there_are.insert(static_cast<int>(*row.Get<int64_t>(0)));
  EXPECT_TRUE(std::includes(there_are.begin(), there_are.end(), acknowledged.begin(), acknowledged.end()))
      << "of " << acknowledged.size() << " acknowledged transactions some are lost";
  std::printf("failover: %zu transactions acknowledged, %s rows in the history\n", acknowledged.size(),
              Get(there, "SELECT count(*) FROM t_history").c_str());
}

}  // namespace
}  // namespace pgtier::testing
