// The history is what the application did, exactly, through every change of tier and every kill. Each seed (their
// number: PGTIER_LEDGER_SEEDS) is a run of some seconds: 24 writers, triggers → notify → triggers → notify → triggers,
// workers killed all the time, Postgres once, and columns that come and go.
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "tests/integration/shadow/ledger_writer.h"
#include "tests/integration/shadow/shadow_fixture.h"
#include "tests/integration/shadow/worker_process.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::kLedgerTables;
using testing::Ledger;
using testing::LedgerWriter;
using testing::Soon;
using testing::WorkerProcess;

constexpr int kWriters = 24;
constexpr int kWorkers = 2;
constexpr Duration kPatience = std::chrono::seconds(120);

int Seeds() {
  const char* text = std::getenv("PGTIER_LEDGER_SEEDS");
  return text == nullptr ? 2 : std::max(1, std::atoi(text));
}

class LedgerTest : public testing::WithDatabase, public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    if (std::string why = testing::WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    testing::PostgresOptions options;
    options.conf = {"deadlock_timeout = 100ms", "max_connections = 60"};
    auto started = testing::LocalPostgres::Start(options);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    own_ = *std::move(started);
    Reconnect();
    Run(*own_admin_, testing::kLedgerSchema);
    for (const char* table : kLedgerTables) {
      Run(*own_admin_, std::string("INSERT INTO ") + table + " (id, uid, ver) SELECT i, i, 1 FROM generate_series(1, " +
                           std::to_string(testing::kLedgerHotRows) + ") AS i");
      spec_.tables.push_back({table, ""});
    }
    spec_.policy = "data/audit";
    spec_.channel = "audit_shadow_channel";
    auto installed = shadow::Install(*own_admin_, spec_, Soon());
    ASSERT_TRUE(installed.has_value()) << installed.error().message;
    Run(*own_admin_, "ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'");
    folder_.Write("password", "secret");
    auto worker = own_->Options();
    worker.user = "pgtier_shadow_notify";
    folder_.Write("worker.json", testing::WorkerConfig(folder_, worker, "notify"));
  }

  void Reconnect() {
    Deadline deadline = Deadline::After(kPatience);
    while (true) {
      auto connection = own_->Connect();
      if (connection.has_value()) {
        own_admin_.emplace(*std::move(connection));
        return;
      }
      ASSERT_FALSE(deadline.Expired()) << connection.error().message;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  // Again until it works: as the operator does, over a server that restarts.
  void To(Tier tier) {
    Deadline deadline = Deadline::After(kPatience);
    while (true) {
      auto swapped = shadow::SwapBodies(*own_admin_, spec_, tier, Soon());
      if (swapped.has_value()) return;
      ASSERT_FALSE(deadline.Expired()) << swapped.error().message;
      if (!own_admin_->Usable()) Reconnect();
    }
  }
  void AwaitDrained() {
    Deadline deadline = Deadline::After(kPatience);
    while (true) {
      auto drained = shadow::Drained(*own_admin_, spec_, Soon());
      if (drained.has_value() && *drained) return;
      ASSERT_FALSE(deadline.Expired()) << "not drained; workers: " << folder_.Read("log");
      if (!own_admin_->Usable()) Reconnect();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  std::unique_ptr<WorkerProcess> StartWorker() {
    return std::make_unique<WorkerProcess>(folder_.path() + "/worker.json", folder_.path() + "/log");
  }

  std::unique_ptr<testing::LocalPostgres> own_;
  std::optional<postgres::Connection> own_admin_;
  testing::ServerFolder folder_;
  shadow::Spec spec_;
};

// Lines of one that the other lacks, as a multiset; the first few.
std::string Difference(const std::vector<std::string>& one, const std::vector<std::string>& other) {
  std::vector<std::string> lacks;
  std::set_difference(one.begin(), one.end(), other.begin(), other.end(), std::back_inserter(lacks));
  std::string text = std::to_string(lacks.size());
  for (size_t i = 0; i < std::min<size_t>(5, lacks.size()); ++i) text += "\n  " + lacks[i];
  return text;
}

TEST_P(LedgerTest, HistoryIsWhatTheApplicationDid) {
  auto seed = static_cast<unsigned>(GetParam());
  std::mt19937 random(seed);
  auto pause = [&](int least_ms, int most_ms) {
    std::this_thread::sleep_for(
        std::chrono::milliseconds(std::uniform_int_distribution<int>(least_ms, most_ms)(random)));
  };
  Ledger ledger;
  std::atomic<bool> stop = false;
  std::atomic<bool> calm = false;
  std::vector<std::jthread> writers;
  for (int i = 0; i < kWriters; ++i) {
    writers.emplace_back(
        [&, i] { LedgerWriter(*own_, "postgres", ledger, seed * 1000 + static_cast<unsigned>(i), i + 1).Run(stop); });
  }
  std::atomic<int> kills = 0;
  std::jthread killer([&] {
    std::mt19937 own_random(seed + 77);
    std::vector<std::unique_ptr<WorkerProcess>> workers;
    for (int i = 0; i < kWorkers; ++i) workers.push_back(StartWorker());
    while (!calm) {
      std::this_thread::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution<int>(300, 900)(own_random)));
      if (calm) break;
      auto& victim = workers[std::uniform_int_distribution<size_t>(0, kWorkers - 1)(own_random)];
      victim->Kill();
      ++kills;
      victim = StartWorker();
    }
    while (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    AwaitDrained();
  });
  // Columns come, are renamed and go all the while: sessions hold plans of the triggers of before.
  std::atomic<int> changes = 0;
  std::jthread changer([&] {
    std::mt19937 own_random(seed + 99);
    for (int i = 0; !calm;) {
      auto connection = own_->Connect();
      for (; !calm && connection.has_value() && connection->Usable(); ++i) {
        std::string table = kLedgerTables[std::uniform_int_distribution<int>(0, 5)(own_random)];
        std::string n = std::to_string(i);
        for (const std::string& sql :
             {" ADD COLUMN extra_" + n + " text DEFAULT 'd'", " RENAME COLUMN extra_" + n + " TO other_" + n,
              " ALTER COLUMN other_" + n + " TYPE integer USING 1", " DROP COLUMN other_" + n}) {
          // Long transactions are in the way of most tries.
          while (!calm && connection->Usable() &&
                 !Fails(*connection, "SET lock_timeout = '600ms'; ALTER TABLE " + table + sql).empty()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
          }
          if (!calm) ++changes;
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  pause(500, 1000);
  To(Tier::kNotify);
  pause(1000, 2500);
  if (seed % 2 == 0) To(Tier::kTriggers), pause(200, 800), To(Tier::kNotify);  // sometimes before it is drained
  own_->Signal(SIGQUIT);  // as pg_ctl stop -m immediate: a crash for all that is in it
  ASSERT_TRUE(own_->Restart().has_value());
  Reconnect();
  pause(500, 1500);
  To(Tier::kTriggers);
  if (seed % 3 != 0) AwaitDrained();
  pause(100, 300);
  To(Tier::kNotify);
  pause(500, 1500);
  To(Tier::kTriggers);
  calm = true;
  pause(200, 500);
  stop = true;
  writers.clear();
  killer.join();
  changer.join();
  ASSERT_FALSE(HasFatalFailure());

  // What the server acknowledged is committed; of what it did not, the database knows.
  for (auto& [number, events] : ledger.unknown) {
    if (Read(*own_admin_, "SELECT count(*) FROM commits WHERE id = " + std::to_string(number)) == "0\n") continue;
    ledger.events.insert(ledger.events.end(), events.begin(), events.end());
  }
  std::vector<std::string> history;
  for (const char* table : kLedgerTables) {
    std::string lines = Read(*own_admin_, std::string("SELECT '") + table +
                                              "', operation, id, uid, ver, old_id, old_ver FROM " + table + "_history");
    for (size_t at = 0; at < lines.size();) {
      size_t end = lines.find('\n', at);
      history.push_back(lines.substr(at, end - at));
      at = end + 1;
    }
    // In the order of (epoch, position) each change of a row follows the one before. In the order of arrival too: the
    // worker never shows a later change first.
    std::string name(table);
    EXPECT_EQ(Read(*own_admin_,
                   "SELECT count(*) FROM (SELECT ver, operation, lag(ver) OVER w AS before, lag(operation)"
                   " OVER w AS did FROM " +
                       name +
                       "_history WINDOW w AS (PARTITION BY uid ORDER BY epoch, position)) AS h"
                       " WHERE before IS NOT NULL AND ver <> before + (operation <> 'DELETE')::int"),
              "0\n")
        << table;
    EXPECT_EQ(Read(*own_admin_, "SELECT count(*) - count(DISTINCT position) FROM " + name + "_history"), "0\n");
  }
  std::sort(history.begin(), history.end());
  std::sort(ledger.events.begin(), ledger.events.end());
  EXPECT_EQ(Difference(ledger.events, history), "0") << "missing in the history";
  EXPECT_EQ(Difference(history, ledger.events), "0") << "in the history, but never done";
  EXPECT_EQ(Read(*own_admin_, "SELECT count(*) FROM pgtier.shadow_dead_letters"), "0\n");
  EXPECT_GT(ledger.transactions, 50);
  EXPECT_GT(kills, 2);
  std::printf(
      "seed %u: %zu rows, %ld transactions, %ld failed, %zu unknown, %d workers killed, %d changes of columns\n", seed,
      history.size(), ledger.transactions.load(), ledger.failures.load(), ledger.unknown.size(), kills.load(),
      changes.load());
}

INSTANTIATE_TEST_SUITE_P(Seeds, LedgerTest, ::testing::Range(1, Seeds() + 1));

}  // namespace
}  // namespace pgtier
