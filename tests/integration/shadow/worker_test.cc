// pgtier-worker in mode notify, as a process.
#include <atomic>
#include <random>
#include <thread>

#include "tests/integration/shadow/worker_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;
using testing::Terminate;

using Worker = testing::WithWorker;

TEST_F(Worker, MovesRowsSleepsAndIsWoken) {
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 2500) AS i");
  auto worker = StartWorker();
  AwaitRows(2500);
  Await("asleep", [&] { return Asleep(); });
  // A notification goes out, and only because it sleeps.
  auto listener = Open();
  Run(listener, "LISTEN audit_shadow_channel");
  Run("UPDATE t SET v = 1 WHERE id <= 10");
  auto woken = listener.AwaitNotification(Soon());
  ASSERT_TRUE(woken.has_value());
  EXPECT_TRUE(*woken);
  AwaitRows(2510);
  Await("metrics", [&] { return Page("/metrics").find("pgtier_shadow_queue_depth 0") != std::string::npos; });
  std::string metrics = Page("/metrics");
  EXPECT_NE(metrics.find("pgtier_shadow_rows_total{table=\"public.t\"} 2510"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("pgtier_shadow_batch_rows_bucket{le=\"1000\"}"), std::string::npos);
  EXPECT_EQ(Page("/healthz"), "200 ok\n");
  EXPECT_EQ(Page("/readyz"), "200 ok\n");
  EXPECT_EQ(Terminate(*worker), 0) << Log();
}

// The trigger's half of the protocol, without a worker: a notification exactly while K is held by a sleeper.
TEST_F(Worker, NoNotificationWhileItIsAwake) {
  auto listener = Open();
  Run(listener, "LISTEN audit_shadow_channel");
  Run("INSERT INTO t VALUES (1, 1); INSERT INTO t VALUES (2, 1)");
  auto sleeper = Open();
  std::string number = Read("SELECT number FROM pgtier.shadow_state");
  // While a writer is in flight, nobody falls asleep.
  Run("BEGIN; INSERT INTO t VALUES (3, 1)");
  EXPECT_EQ(Read(sleeper, "SELECT pg_try_advisory_lock(7047001, " + number + ")"), "f\n");
  Run("COMMIT");
  EXPECT_FALSE(*listener.AwaitNotification(Deadline::After(std::chrono::milliseconds(300))));
  EXPECT_EQ(Read(sleeper, "SELECT pg_try_advisory_lock(7047001, " + number + ")"), "t\n");
  Run("INSERT INTO t SELECT i, 1 FROM generate_series(10, 500) AS i");
  EXPECT_TRUE(*listener.AwaitNotification(Soon()));
  EXPECT_FALSE(*listener.AwaitNotification(Deadline::After(std::chrono::milliseconds(300))));  // one a transaction
}

// The sleep protocol alone, without the look every two seconds that would hide a lost wake-up: changes come at any
// moment of falling asleep, and each is moved.
TEST_F(Worker, NoWakeUpIsLostWithoutPolling) {
  Configure(R"(, "batch": {"rows": 100, "interval": "1ms"}, "sleep": {"after": "1ms", "most": "1h"})");
  auto worker = StartWorker();
  Await("asleep", [&] { return Asleep(); });
  auto writer = Open();
  std::mt19937 random(1);
  int slept = 0, awake = 0;
  for (int i = 1; i <= 250; ++i) {
    const auto moment = std::chrono::microseconds(random() % 12'000);
    for (auto until = std::chrono::steady_clock::now() + moment; std::chrono::steady_clock::now() < until;) {
      std::this_thread::yield();
    }
    ++(Asleep() ? slept : awake);
    std::string insert = "INSERT INTO t VALUES (" + std::to_string(i) + ", 0)";
    if (random() % 4 == 0) insert = "BEGIN; " + insert + "; SELECT pg_sleep(0.005); COMMIT";
    Run(writer, insert);
    AwaitRows(i);
  }
  EXPECT_GT(slept, 10) << "of 250";
  EXPECT_GT(awake, 10) << "of 250";
}

TEST_F(Worker, TakesANewConfigurationAndPassword) {
  auto worker = StartWorker();
  Await("ready", [&] { return Page("/readyz") == "200 ok\n"; });
  Run("INSERT INTO t VALUES (1, 1)");
  AwaitRows(1);
  // A wrong file changes nothing.
  folder_.Write("worker.json", "{");
  Await("complaint", [&] { return Log().find("the one before stays") != std::string::npos; });
  Run("INSERT INTO t VALUES (2, 1)");
  AwaitRows(2);
  // The password rotates: the role's, then the file; the sessions of before are ended.
  Configure(R"(, "batch": {"rows": 7})");
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'other'");
  folder_.Write("password", "other");
  Run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgtier_shadow_notify'");
  Run("INSERT INTO t SELECT i, 1 FROM generate_series(10, 59) AS i");
  AwaitRows(52);
  Await("batches of seven", [&] {
    return Page("/metrics").find("pgtier_shadow_batch_rows_bucket{le=\"10\"}") != std::string::npos &&
           Read("SELECT count(*) FROM pgtier.outbox_1") == "0\n";
  });
  EXPECT_EQ(Read("SELECT count(DISTINCT xmin::text) >= 8 FROM t_history WHERE id >= 10"), "t\n");
  EXPECT_EQ(Terminate(*worker), 0);
}

TEST_F(Worker, SeveralShareTheShardsAndOneTakesOver) {
  std::vector<std::unique_ptr<test::ChildProcess>> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(StartWorker());
  Await("three", [&] {
    return Read("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgtier-notify-%'") == "3\n";
  });
  std::atomic<bool> stop = false;
  std::atomic<int> written = 0;
  std::jthread writer([&] {
    auto connection = Open();
    for (int round = 1; !stop; ++round) {
      Run(connection, "INSERT INTO t SELECT i, 0 FROM generate_series(" + std::to_string(round * 1000) + "," +
                          std::to_string(round * 1000 + 299) + ") AS i");
      written += 300;
    }
  });
  Await("rows", [&] { return Read("SELECT count(*) > 3000 FROM t_history") == "t\n"; });
  workers[0]->Stop(SIGKILL);
  workers[1]->Stop(SIGKILL);
  stop = true;
  writer.join();
  AwaitRows(written);
  EXPECT_EQ(Read("SELECT count(DISTINCT position) FROM t_history"), std::to_string(written) + "\n");
  EXPECT_EQ(Terminate(*workers[2]), 0);
}

TEST_F(Worker, SaysWhatIsWrongAndTriesAgain) {
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'not yet'");
  auto worker = StartWorker();
  Await("refusal", [&] { return Log().find("password authentication failed") != std::string::npos; });
  EXPECT_EQ(Page("/readyz").substr(0, 3), "503");
  EXPECT_EQ(Page("/healthz"), "200 ok\n");  // a restart would not help
  EXPECT_EQ(Log().find("secret"), std::string::npos);
  Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'; INSERT INTO t VALUES (1, 1)");
  AwaitRows(1);
  EXPECT_EQ(Terminate(*worker), 0);
}

// Who holds one history keeps the worker from no other.
TEST_F(Worker, ALockedHistoryHoldsUpItsOwnRowsOnly) {
  Run("CREATE TABLE u (id integer)");
  Install(SpecOf({"t", "u"}));
  auto holder = Open();
  Run(holder, "BEGIN; LOCK TABLE t_history IN ACCESS EXCLUSIVE MODE");
  Run("INSERT INTO t VALUES (1, 1)");
  auto worker = StartWorker();
  for (int i = 1; i <= 3; ++i) {
    Run("INSERT INTO u VALUES (0)");
    Await("a row of the other table",
          [&] { return Read("SELECT count(*) FROM u_history") == std::to_string(i) + "\n"; });
  }
  Run(holder, "COMMIT");
  AwaitRows(1);
}

}  // namespace
}  // namespace pgtier
