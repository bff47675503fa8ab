// A step of a migration, run as pgtier-migrate does, and killed as it may be.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "lib/postgres/sqlstate.h"
#include "shadow/partition/step.h"
#include "tests/integration/postgres/local_server.h"

namespace pgtier::testing {

inline shadow::PartitionSpec PartsOf(const std::string& table) {
  shadow::PartitionSpec spec;
  spec.table = table;
  return spec;
}

struct StepRun {
  int batches = 0, retries = 0, kills = 0;
  std::string error;     // of a step that stopped; empty: it is done
  std::string messages;  // what it said, a line a batch
};

// Runs the step to its end. With `kill` its session is ended by force at random points: until it has been done so
// `kill` times, or the step is done.
// `server` connects as LocalPostgres does.
inline StepRun RunStep(const auto& server, const std::string& database, const shadow::PartitionSpec& spec,
                       int kill = 0, unsigned seed = 1, Duration patience = std::chrono::seconds(120)) {
  StepRun run;
  std::mt19937 random(seed);
  auto step = shadow::MakePartitionStep(spec);
  Deadline until = Deadline::After(patience);
  while (!until.Expired()) {
    auto connection = server.Connect(database);
    if (!connection.has_value()) continue;
    std::jthread killer;
    if (run.kills < kill) {
      killer = std::jthread([&server, &database, pid = connection->BackendPid(),
                             after = std::chrono::milliseconds(random() % 60)](const std::stop_token& stop) {
        if (!SleepFor(after, stop)) return;
        auto other = server.Connect(database);
        if (other.has_value()) {
          std::ignore = other->Query("SELECT pg_terminate_backend($1::integer)", {std::to_string(pid)},
                                     Deadline::After(std::chrono::seconds(20)));
        }
      });
    }
    migrations::StepState state;  // what was saved last; nothing outlives a kill
    while (connection->Usable() && !until.Expired()) {
      auto save = [](const migrations::StepState&, const migrations::Progress&, Deadline) { return Status(); };
      auto progress = step->Advance(*connection, state, save, Deadline::After(std::chrono::seconds(30)));
      ++run.batches;
      if (progress.has_value()) {
        run.messages += progress->message + "\n";
        if (progress->done) return run;
        continue;
      }
      std::string_view code = postgres::SqlStateOf(progress.error());
      bool again = code == "55P03" || code == "40P01" || code == "40001" || !connection->Usable();
      if (!again && progress.error().code != Code::kDeadlineExceeded) {
        run.error = progress.error().message;
        return run;
      }
      ++run.retries;
      run.messages += progress.error().message + "\n";
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + random() % 300));
    }
    ++run.kills;
  }
  run.error = "out of patience; " + run.messages;
  return run;
}

// One session that inserts a row after the other and notes how long the longest statement took.
class StallProbe {
 public:
  StallProbe(const LocalPostgres& server, const std::string& database, const std::string& table)
      : thread_([this, &server, database, table](const std::stop_token& stop) {
          auto connection = server.Connect(database);
          while (connection.has_value() && !stop.stop_requested()) {
            auto begun = std::chrono::steady_clock::now();
            auto done = connection->Query("INSERT INTO " + table + " DEFAULT VALUES",
                                          Deadline::After(std::chrono::seconds(60)));
            if (!done.has_value()) {
              ++failures;
              continue;
            }
            ++rows;
            auto took = std::chrono::steady_clock::now() - begun;
            if (took > longest.load()) longest = took;
          }
        }) {}
  // Forgets what was measured.
  void Reset() { longest = Duration::zero(); }
  void Stop() {
    thread_.request_stop();
    thread_.join();
  }
  [[nodiscard]] double LongestMs() const { return std::chrono::duration<double, std::milli>(longest.load()).count(); }
  std::atomic<int64_t> rows = 0, failures = 0;
  std::atomic<Duration> longest = Duration::zero();

 private:
  std::jthread thread_;
};

}  // namespace pgtier::testing
