// The exact counts of a run: what succeeded, what failed, how long anything stalled. Thread-safe.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "demo/load/latency.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::load {

enum class QueryType { kStructured, kTemporal, kSearch };
constexpr std::array<const char*, 3> kQueryTypeNames = {"structured", "temporal", "search"};
inline const char* Name(QueryType type) { return kQueryTypeNames[static_cast<size_t>(type)]; }

// Queries since the last window was taken.
struct Window {
  int64_t queries = 0;  // that answered
  int64_t failed = 0;
  Duration p50{0}, p95{0}, max{0};
  int64_t inflight = 0;  // now
  int64_t events = 0;    // acknowledged
};

// A connection that went without success for long.
struct Stall {
  WallTime began{};
  Duration took{0};
  std::string what;  // "query", "flush", "decision: begin 3, insert 840, commit 1210 ms"
};

struct Totals {
  int64_t queries = 0, queries_failed = 0;
  int64_t flushes = 0, flushes_failed = 0;
  int64_t decisions = 0, decisions_failed = 0;
  int64_t connects_failed = 0;
  int64_t events_acknowledged = 0;
  int64_t events_unknown = 0;  // of flushes that failed: may or may not be in the table
  int64_t decisions_unknown = 0;
  Duration longest_query{0}, longest_flush{0}, longest_gap{0};
  LatencyHistogram all;
  std::array<LatencyHistogram, 3> by_type;
  LatencyHistogram flush;
  std::map<std::string, int64_t> errors;  // by SQLSTATE or code
  std::vector<std::string> samples;       // the first few messages
  std::vector<Stall> stalls;              // the longest, longest first

  // Anything that the application would have seen fail.
  [[nodiscard]] int64_t Failed() const { return queries_failed + flushes_failed + decisions_failed + connects_failed; }
  [[nodiscard]] Duration LongestStall() const;
};

class Recorder {
 public:
  void QueryBegins();
  // `latency` from sending to the last row, of a failed one too.
  void QueryEnds(QueryType type, Duration latency, const Status& outcome);
  // `events` rows were in the batch.
  void FlushEnds(int64_t events, Duration latency, const Status& outcome);
  void DecisionEnds(Duration latency, const Status& outcome);
  void ConnectFailed(const Error& error);
  // How long a connection went without success: from the first attempt after one success to the next success (or the
  // run's end), which is now. `what` succeeded then.
  void Gap(Duration gap, const std::string& what);

  Window TakeWindow();
  [[nodiscard]] Totals totals() const;

 private:
  void Count(const Error& error);  // the lock is held
  mutable std::mutex mutex_;
  Totals totals_;
  LatencyHistogram window_;
  int64_t window_failed_ = 0;
  int64_t window_events_ = 0;
  int64_t inflight_ = 0;
};

// Watches one connection's attempts for the gap between successes.
class GapWatch {
 public:
  explicit GapWatch(Recorder& recorder) : recorder_(recorder) {}
  ~GapWatch();
  GapWatch(const GapWatch&) = delete;
  GapWatch& operator=(const GapWatch&) = delete;
  void AttemptAt(MonoTime now) {
    if (!waiting_) since_ = now;
    waiting_ = true;
  }
  // `what` is the work that succeeded.
  void SuccessAt(MonoTime now, const std::string& what) {
    if (waiting_) recorder_.Gap(now - since_, what);
    waiting_ = false;
  }

 private:
  Recorder& recorder_;
  MonoTime since_{};
  bool waiting_ = false;
};

}  // namespace pgtier::load
