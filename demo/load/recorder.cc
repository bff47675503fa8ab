#include "demo/load/recorder.h"

#include <algorithm>

#include "lib/postgres/sqlstate.h"

namespace pgtier::load {
namespace {

constexpr size_t kMaxSamples = 5;
// A summary names so many stalls, of those that a person would notice.
constexpr size_t kMaxStalls = 20;
constexpr Duration kStall = std::chrono::milliseconds(500);

}  // namespace

Duration Totals::LongestStall() const { return std::max({longest_query, longest_flush, longest_gap}); }

void Recorder::Count(const Error& error) {
  std::string_view state = postgres::SqlStateOf(error);
  ++totals_.errors[std::string(state.empty() ? CodeName(error.code) : state)];
  if (totals_.samples.size() < kMaxSamples) totals_.samples.push_back(error.message);
  ++window_failed_;
}

void Recorder::QueryBegins() {
  std::lock_guard lock(mutex_);
  ++inflight_;
}

void Recorder::QueryEnds(QueryType type, Duration latency, const Status& outcome) {
  std::lock_guard lock(mutex_);
  --inflight_;
  totals_.longest_query = std::max(totals_.longest_query, latency);
  if (!outcome.has_value()) {
    ++totals_.queries_failed;
    return Count(outcome.error());
  }
  ++totals_.queries;
  totals_.all.Add(latency);
  totals_.by_type[static_cast<size_t>(type)].Add(latency);
  window_.Add(latency);
}

void Recorder::FlushEnds(int64_t events, Duration latency, const Status& outcome) {
  std::lock_guard lock(mutex_);
  totals_.longest_flush = std::max(totals_.longest_flush, latency);
  if (!outcome.has_value()) {
    ++totals_.flushes_failed;
    totals_.events_unknown += events;
    return Count(outcome.error());
  }
  ++totals_.flushes;
  totals_.events_acknowledged += events;
  window_events_ += events;
  totals_.flush.Add(latency);
}

void Recorder::DecisionEnds(Duration latency, const Status& outcome) {
  std::lock_guard lock(mutex_);
  totals_.longest_flush = std::max(totals_.longest_flush, latency);
  if (outcome.has_value()) {
    ++totals_.decisions;
    return;
  }
  ++totals_.decisions_failed;
  ++totals_.decisions_unknown;
  Count(outcome.error());
}

void Recorder::ConnectFailed(const Error& error) {
  std::lock_guard lock(mutex_);
  ++totals_.connects_failed;
  Count(error);
}

void Recorder::Gap(Duration gap, const std::string& what) {
  std::lock_guard lock(mutex_);
  totals_.longest_gap = std::max(totals_.longest_gap, gap);
  std::vector<Stall>& stalls = totals_.stalls;
  if (gap < kStall || (stalls.size() == kMaxStalls && gap <= stalls.back().took)) return;
  if (stalls.size() == kMaxStalls) stalls.pop_back();
  auto shorter = [&](const Stall& stall) { return stall.took < gap; };
  auto at = std::find_if(stalls.begin(), stalls.end(), shorter);
  stalls.insert(
      at, Stall{std::chrono::system_clock::now() - std::chrono::duration_cast<WallTime::duration>(gap), gap, what});
}

Window Recorder::TakeWindow() {
  std::lock_guard lock(mutex_);
  Window window{window_.count(), window_failed_, window_.Quantile(0.5), window_.Quantile(0.95),
                window_.max(),   inflight_,      window_events_};
  window_.Clear();
  window_failed_ = 0;
  window_events_ = 0;
  return window;
}

Totals Recorder::totals() const {
  std::lock_guard lock(mutex_);
  return totals_;
}

GapWatch::~GapWatch() {
  if (waiting_) recorder_.Gap(std::chrono::steady_clock::now() - since_, "cut off by the run's end");
}

}  // namespace pgtier::load
