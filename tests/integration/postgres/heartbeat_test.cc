// A standby that lags takes itself out of reads, with nobody's help: real servers, a real pooler, no operator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <thread>

#include "tests/integration/postgres/replica_fleet.h"

namespace pgtier::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

bool Eventually(const std::function<bool()>& holds) {
  Deadline deadline = Deadline::After(seconds(60));
  while (!deadline.Expired()) {
    if (holds()) return true;
    std::this_thread::sleep_for(milliseconds(20));
  }
  return false;
}

class HeartbeatTest : public ::testing::Test {
 protected:
  // Generous: the machine may be at a fifth of its speed. The figures belong to `make bench`.
  static constexpr Duration kMaxLag = seconds(2);

  void SetUp() override {
    if (std::string why = WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    auto fleet = ReplicaFleet::Start(kMaxLag);
    ASSERT_TRUE(fleet.has_value()) << fleet.error().message;
    fleet_ = *std::move(fleet);
    ASSERT_TRUE(Eventually([&] { return first().service->taking() && second().service->taking(); })) << fleet_->Log();
  }
  void TearDown() override {
    if (HasFailure() && fleet_ != nullptr) std::fputs(fleet_->Log().c_str(), stderr);
  }

  ReplicaFleet::Standby& first() { return fleet_->standbys()[0]; }
  ReplicaFleet::Standby& second() { return fleet_->standbys()[1]; }

  std::unique_ptr<ReplicaFleet> fleet_;
};

TEST_F(HeartbeatTest, OneThatLagsLosesItsReadsAndNoQueryFails) {
  Readers readers(fleet_->Application(), 8);
  ASSERT_TRUE(Eventually([&] { return readers.AnswersOf("127.0.0.2") > 50 && readers.AnswersOf("127.0.0.3") > 50; }));
  EXPECT_FALSE(first().Out());

  MonoTime paused = std::chrono::steady_clock::now();
  ASSERT_TRUE(fleet_->PauseReplay(first(), true).has_value());
  ASSERT_TRUE(Eventually([&] { return first().Drained() && fleet_->ConnectionsTo(first()) == 0; }));
  Duration took = readers.LastAnswerOf("127.0.0.2") - paused - kMaxLag;
  std::printf("last read on it %ld ms after its lag passed the limit\n",
              static_cast<long>(std::chrono::duration_cast<milliseconds>(took).count()));
  EXPECT_LT(took, seconds(20));
  EXPECT_FALSE(second().Out());

  // It comes back when it holds, and its pooler's connections may stay.
  ASSERT_TRUE(fleet_->PauseReplay(first(), false).has_value());
  ASSERT_TRUE(Eventually([&] { return !first().Out() && !first().Drained() && first().service->taking(); }));
  int64_t before = readers.AnswersOf("127.0.0.2");
  // The pool is full of connections to the other: those go, one after the other, when that one lags.
  ASSERT_TRUE(fleet_->PauseReplay(second(), true).has_value());
  EXPECT_TRUE(Eventually([&] { return readers.AnswersOf("127.0.0.2") > before + 50; }));
  EXPECT_TRUE(Eventually([&] { return fleet_->ConnectionsTo(second()) == 0; }));
  readers.Stop();
  EXPECT_THAT(readers.errors(), ::testing::IsEmpty());
}

TEST_F(HeartbeatTest, TheLastOneKeepsTheConnectionsThatItHas) {
  Readers readers(fleet_->Application(), 4);
  ASSERT_TRUE(Eventually([&] { return readers.AnswersOf("127.0.0.2") > 50 && readers.AnswersOf("127.0.0.3") > 50; }));
  ASSERT_TRUE(fleet_->PauseReplay(first(), true).has_value());
  ASSERT_TRUE(Eventually([&] { return first().Drained() && fleet_->ConnectionsTo(first()) == 0; }));
  ASSERT_TRUE(fleet_->PauseReplay(second(), true).has_value());
  ASSERT_TRUE(Eventually([&] { return second().Out() && !second().service->taking(); }));
  // Longer than it takes one that is not the last.
  std::this_thread::sleep_for(seconds(4));
  EXPECT_FALSE(second().Drained());
  int64_t answers = readers.AnswersOf("127.0.0.3");
  EXPECT_TRUE(Eventually([&] { return readers.AnswersOf("127.0.0.3") > answers; }));
  readers.Stop();
  EXPECT_THAT(readers.errors(), ::testing::IsEmpty());
}

TEST_F(HeartbeatTest, APrimaryThatIsDownTakesNobodyOut) {
  ASSERT_TRUE(fleet_->primary().Stop().has_value());
  std::this_thread::sleep_for(kMaxLag + seconds(4));
  EXPECT_FALSE(first().Out());
  EXPECT_FALSE(second().Out());
  ASSERT_TRUE(fleet_->primary().Restart().has_value());
  // And it counts again once the primary is back.
  ASSERT_TRUE(fleet_->PauseReplay(first(), true).has_value());
  EXPECT_TRUE(Eventually([&] { return first().Out(); }));
}

}  // namespace
}  // namespace pgtier::testing
