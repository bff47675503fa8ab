#include "demo/load/recorder.h"

#include <gtest/gtest.h>

#include "lib/postgres/sqlstate.h"

namespace pgtier::load {
namespace {

using std::chrono::milliseconds;

TEST(Recorder, WindowsStartAnewAndTotalsDoNot) {
  Recorder recorder;
  recorder.QueryBegins();
  recorder.QueryEnds(QueryType::kSearch, milliseconds(10), {});
  recorder.QueryBegins();
  Window first = recorder.TakeWindow();
  EXPECT_EQ(first.queries, 1);
  EXPECT_EQ(first.inflight, 1);
  EXPECT_EQ(first.max, milliseconds(10));
  recorder.QueryEnds(QueryType::kSearch, milliseconds(20), {});
  Window second = recorder.TakeWindow();
  EXPECT_EQ(second.queries, 1);
  EXPECT_EQ(second.inflight, 0);
  EXPECT_EQ(second.p95, milliseconds(20));
  EXPECT_EQ(recorder.TakeWindow().queries, 0);
  EXPECT_EQ(recorder.totals().queries, 2);
  EXPECT_EQ(recorder.totals().by_type[static_cast<size_t>(QueryType::kSearch)].count(), 2);
}

TEST(Recorder, EveryFailureCounts) {
  Recorder recorder;
  Error lost = MakeError(Code::kUnavailable, "gone");
  recorder.QueryBegins();
  recorder.QueryEnds(QueryType::kStructured, milliseconds(900), lost);
  recorder.FlushEnds(700, milliseconds(5), postgres::MakeSqlError("53300", "too many clients"));
  recorder.FlushEnds(300, milliseconds(6), {});
  recorder.DecisionEnds(milliseconds(7), lost);
  recorder.ConnectFailed(lost);
  Totals totals = recorder.totals();
  EXPECT_EQ(totals.Failed(), 4);
  EXPECT_EQ(totals.events_acknowledged, 300);
  EXPECT_EQ(totals.events_unknown, 700);
  EXPECT_EQ(totals.decisions_unknown, 1);
  EXPECT_EQ(totals.errors, (std::map<std::string, int64_t>{{"53300", 1}, {"UNAVAILABLE", 3}}));
  // A failed query took its time too.
  EXPECT_EQ(totals.LongestStall(), milliseconds(900));
  EXPECT_EQ(recorder.TakeWindow().failed, 4);
}

TEST(GapWatch, MeasuresFromTheFirstAttemptToTheNextSuccess) {
  Recorder recorder;
  MonoTime zero{};
  {
    GapWatch watch(recorder);
    watch.AttemptAt(zero);
    watch.SuccessAt(zero + milliseconds(10), "flush");
    EXPECT_EQ(recorder.totals().longest_gap, milliseconds(10));
    // Thinking time between two attempts is no gap; two failed attempts are.
    watch.AttemptAt(zero + milliseconds(5000));
    watch.AttemptAt(zero + milliseconds(5200));
    watch.SuccessAt(zero + milliseconds(5300), "flush");
  }
  EXPECT_EQ(recorder.totals().longest_gap, milliseconds(300));
  EXPECT_EQ(recorder.totals().LongestStall(), milliseconds(300));
}

TEST(Recorder, KeepsTheLongestStallsOfThoseThatCount) {
  Recorder recorder;
  recorder.Gap(milliseconds(499), "too short");
  for (int i = 0; i < 30; ++i) recorder.Gap(milliseconds(500 + (i * 7) % 30), std::to_string((i * 7) % 30));
  std::vector<Stall> stalls = recorder.totals().stalls;
  ASSERT_EQ(stalls.size(), 20);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(stalls[i].what, std::to_string(29 - i));
  EXPECT_LT(stalls.front().began, std::chrono::system_clock::now() - milliseconds(500));
}

TEST(GapWatch, CountsAGapThatTheRunsEndCutsOff) {
  Recorder recorder;
  {
    GapWatch watch(recorder);
    watch.AttemptAt(std::chrono::steady_clock::now() - std::chrono::seconds(2));
  }
  EXPECT_GE(recorder.totals().longest_gap, std::chrono::seconds(2));
}

}  // namespace
}  // namespace pgtier::load
