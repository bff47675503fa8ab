// The histories are what the application did, exactly, through every change of tier and whatever breaks meanwhile.
// Seeds run beside each other, each on a server of its own, for they mostly wait. PGTIER_LEDGER_SEEDS: how many (50);
// PGTIER_LEDGER_SEED: the first (1); PGTIER_LEDGER_MINUTES: for how long, instead of how many; PGTIER_LEDGER_BESIDE:
// how many at a time (4).
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/integration/ledger/seed.h"

namespace pgtier::testing {
namespace {

int Number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::atoi(text);
}

TEST(Ledger, HistoriesAreWhatTheApplicationDid) {
  if (std::string why = WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
  const int first = Number("PGTIER_LEDGER_SEED", 1), minutes = Number("PGTIER_LEDGER_MINUTES", 0);
  const int count = minutes > 0 ? 1'000'000 : Number("PGTIER_LEDGER_SEEDS", 50);
  const int beside = std::min(count, Number("PGTIER_LEDGER_BESIDE", 4));
  const Deadline end = Deadline::After(minutes > 0 ? std::chrono::minutes(minutes) : std::chrono::minutes(600));
  std::mutex mutex;
  std::map<std::string, int> counts;
  int done = 0, failed = 0;
  // Even and odd seeds want different servers: who is done with the one kind goes on with the other.
  std::atomic<int> next[2] = {0, 1};
  auto draw = [&](int kind) {
    int at = next[kind].fetch_add(2);
    return at < count ? at : next[1 - kind].fetch_add(2);
  };
  auto slot = [&](int kind) {
    std::unique_ptr<LocalPostgres> server;
    unsigned of = 0;
    for (int at = draw(kind); at < count && !end.Expired(); at = draw(kind)) {
      const auto seed = static_cast<unsigned>(first + at);
      if (server == nullptr || SeedServer(of).conf != SeedServer(seed).conf) {
        server.reset();
        auto started = LocalPostgres::Start(SeedServer(seed));
        if (!started.has_value()) {
          ADD_FAILURE() << started.error().message;
          return;
        }
        server = *std::move(started);
        of = seed;
      }
      SeedOutcome outcome = RunSeed(*server, seed);
      const std::lock_guard lock(mutex);
      ++done;
      for (const auto& [what, times] : outcome.counts) counts[what] += times;
      if (outcome.failure.empty()) {
        std::printf("seed %u: exact: %s\n", seed, outcome.summary.c_str());
      } else {
        ++failed;
        ADD_FAILURE() << "seed " << seed << ": " << outcome.failure;
        std::printf("seed %u: FAILED; again: make soak SEED=%u SEEDS=1\n", seed, seed);
        server.reset();
      }
      // A server dies with the thread that has started it: this one is not the seed's.
      if (server != nullptr && outcome.counts.contains(kServerKilled) && !server->Restart().has_value()) server.reset();
      std::fflush(stdout);
    }
  };
  {
    std::vector<std::jthread> slots;
    for (int i = 0; i < beside; ++i) slots.emplace_back(slot, i % 2);
  }
  std::printf("%d seeds, %d failed\n", done, failed);
  for (const auto& [what, times] : counts) std::printf("  %6d %s\n", times, what.c_str());
  EXPECT_GT(done, 0);
  if (done < 20) return;
  for (const char* what : {"kill -9 of a notify worker",
                           "kill -9 of the cdc worker",
                           "kill -9 of a server process",
                           kServerKilled,
                           "SIGSTOP of a notify worker",
                           "SIGSTOP of the cdc worker",
                           "SIGSTOP of a server process",
                           "network cut",
                           "network stalled",
                           "session ended",
                           "operator's session ended",
                           "second cdc worker",
                           "changes of columns",
                           "200 clients",
                           "COPY",
                           "PREPARE",
                           "TRUNCATE",
                           "ROLLBACK TO SAVEPOINT",
                           "long",
                           "move"}) {
    EXPECT_GT(counts[what], 0) << what << " never happened";
  }
}

}  // namespace
}  // namespace pgtier::testing
