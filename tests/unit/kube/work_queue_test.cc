#include "lib/kube/work_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "tests/fake/manual_clock.h"

namespace pgtier::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Priority = WorkQueue::Priority;

class WorkQueueTest : public testing::Test {
 protected:
  std::string Next() {
    auto key = queue_.TryGet();
    return key.has_value() ? key->name : "";
  }
  static ObjectKey Key(const std::string& name) { return {"ns", name}; }

  fake::ManualClock clock_;
  WorkQueue queue_{&clock_};
};

TEST_F(WorkQueueTest, AKeyIsInTheQueueOnce) {
  queue_.Add(Key("a"));
  queue_.Add(Key("b"));
  queue_.Add(Key("a"));
  EXPECT_EQ(queue_.depth(), 2U);
  EXPECT_EQ(Next(), "a");
  EXPECT_EQ(Next(), "b");
  EXPECT_EQ(Next(), "");
}

TEST_F(WorkQueueTest, AnAddDuringAPassRunsAgainAfterIt) {
  queue_.Add(Key("a"));
  EXPECT_EQ(Next(), "a");
  queue_.Add(Key("a"));
  queue_.Add(Key("a"));
  EXPECT_EQ(Next(), "") << "two workers on one key";
  EXPECT_EQ(queue_.depth(), 0U);
  queue_.Done(Key("a"));
  EXPECT_EQ(Next(), "a");
  queue_.Done(Key("a"));
  EXPECT_EQ(Next(), "");
}

TEST_F(WorkQueueTest, ChangesOvertakeTheFirstList) {
  queue_.Add(Key("old1"), Priority::kLow);
  queue_.Add(Key("old2"), Priority::kLow);
  queue_.Add(Key("new"));
  queue_.Add(Key("old2"));                 // rises
  queue_.Add(Key("new"), Priority::kLow);  // does not sink
  EXPECT_EQ(queue_.depth(), 3U);
  EXPECT_EQ(Next(), "new");
  EXPECT_EQ(Next(), "old2");
  EXPECT_EQ(Next(), "old1");
  EXPECT_EQ(Next(), "");
}

// However many looks are due, neither a change nor what came first of all waits for them.
TEST_F(WorkQueueTest, WhatIsOnlyDueComesLast) {
  for (const char* name : {"due1", "due2", "risen"}) queue_.AddAfter(Key(name), seconds(1), Priority::kDue);
  queue_.AddAfter(Key("retry"), seconds(1));
  clock_.Advance(seconds(2));
  queue_.Add(Key("listed"), Priority::kLow);
  queue_.Add(Key("changed"));
  queue_.Add(Key("risen"));
  std::string order;
  for (std::string name = Next(); !name.empty(); name = Next()) order += name + " ";
  EXPECT_EQ(order, "changed risen retry listed due1 due2 ");
}

TEST_F(WorkQueueTest, WaitsForAKeyKeepTheHighestPriority) {
  queue_.AddAfter(Key("a"), seconds(1), Priority::kDue);
  queue_.AddAfter(Key("a"), seconds(5));  // later: the time stays, the priority rises
  queue_.AddAfter(Key("b"), seconds(5));  // earlier, next: the time changes, the priority stays
  queue_.AddAfter(Key("b"), seconds(1), Priority::kDue);
  clock_.Advance(seconds(2));
  queue_.Add(Key("listed"), Priority::kLow);
  std::string order;
  for (std::string name = Next(); !name.empty(); name = Next()) order += name + " ";
  EXPECT_EQ(order, "a b listed ");
}

TEST_F(WorkQueueTest, APlaceThatARisenKeyLeftIsVoid) {
  queue_.Add(Key("a"), Priority::kLow);
  queue_.Add(Key("a"));
  EXPECT_EQ(Next(), "a");
  queue_.Add(Key("a"), Priority::kLow);  // while in hand; the old place in the low lane is still there
  EXPECT_EQ(Next(), "");
  queue_.Done(Key("a"));
  EXPECT_EQ(Next(), "a");
  EXPECT_EQ(Next(), "");
}

TEST_F(WorkQueueTest, ADelayedKeyComesWhenDueTheEarliestCounts) {
  queue_.AddAfter(Key("a"), seconds(10));
  queue_.AddAfter(Key("a"), seconds(5));
  queue_.AddAfter(Key("a"), seconds(20));
  queue_.AddAfter(Key("b"), seconds(5));
  EXPECT_EQ(Next(), "");
  clock_.Advance(seconds(5));
  EXPECT_EQ(Next(), "a");
  EXPECT_EQ(Next(), "b");
  queue_.Done(Key("a"));
  clock_.Advance(seconds(60));
  EXPECT_EQ(Next(), "") << "one of the other two waits survived";
  queue_.AddAfter(Key("c"), Duration::zero());
  EXPECT_EQ(Next(), "c");
}

TEST_F(WorkQueueTest, FailuresDoubleTheDelayUpTo1000Seconds) {
  EXPECT_EQ(queue_.AddRateLimited(Key("a")), milliseconds(5));
  EXPECT_EQ(queue_.AddRateLimited(Key("a")), milliseconds(10));
  EXPECT_EQ(queue_.AddRateLimited(Key("a")), milliseconds(20));
  EXPECT_EQ(queue_.AddRateLimited(Key("b")), milliseconds(5));
  for (int i = 0; i < 40; ++i) queue_.AddRateLimited(Key("a"));
  EXPECT_EQ(queue_.AddRateLimited(Key("a")), seconds(1000));
  EXPECT_EQ(queue_.Failures(Key("a")), 44);
  queue_.Forget(Key("a"));
  EXPECT_EQ(queue_.Failures(Key("a")), 0);
  EXPECT_EQ(queue_.AddRateLimited(Key("a")), milliseconds(5));
}

TEST_F(WorkQueueTest, AllKeysTogetherGetTenASecondAfterABurstOfAHundred) {
  for (int i = 0; i < 100; ++i) EXPECT_EQ(queue_.AddRateLimited(Key(std::to_string(i))), milliseconds(5));
  auto near = [](Duration actual, Duration expected) { return std::chrono::abs(actual - expected) < milliseconds(1); };
  EXPECT_TRUE(near(queue_.AddRateLimited(Key("x")), milliseconds(100)));
  EXPECT_TRUE(near(queue_.AddRateLimited(Key("y")), milliseconds(200)));
  clock_.Advance(seconds(60));
  EXPECT_EQ(queue_.AddRateLimited(Key("z")), milliseconds(5));
}

TEST_F(WorkQueueTest, ShutDownDropsWhatWaitsAndDrainWaitsForTheRest) {
  queue_.Add(Key("a"));
  queue_.Add(Key("b"));
  EXPECT_EQ(Next(), "a");
  queue_.ShutDown();
  EXPECT_EQ(Next(), "");
  queue_.Add(Key("c"));
  EXPECT_EQ(queue_.depth(), 0U);
  EXPECT_FALSE(queue_.Drain(Deadline::After(milliseconds(20))));
  queue_.Done(Key("a"));
  EXPECT_TRUE(queue_.Drain(Deadline::After(milliseconds(20))));
  EXPECT_EQ(queue_.processing(), 0U);
}

TEST(WorkQueueRealTimeTest, GetBlocksUntilAKeyAStopOrTheEnd) {
  SystemClock clock;
  WorkQueue queue(&clock);
  queue.AddAfter({"", "late"}, milliseconds(50));
  EXPECT_EQ(queue.Get({})->name, "late");
  std::stop_source stop;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(milliseconds(20));
    stop.request_stop();
  });
  EXPECT_EQ(queue.Get(stop.get_token()), std::nullopt);
  std::jthread closer([&] {
    std::this_thread::sleep_for(milliseconds(20));
    queue.ShutDown();
  });
  EXPECT_EQ(queue.Get({}), std::nullopt);
}

// Many producers and workers: no key is ever in two hands, and none is lost.
TEST(WorkQueueRealTimeTest, Stress) {
  SystemClock clock;
  WorkQueue queue(&clock);
  constexpr int kKeys = 20;
  std::array<std::atomic<int>, kKeys> in_hand{};
  std::array<std::atomic<int>, kKeys> wanted{};
  std::array<std::atomic<int>, kKeys> seen{};
  std::atomic<bool> doubled = false;
  std::vector<std::jthread> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([&] {
      while (auto key = queue.Get({})) {
        const auto number = static_cast<size_t>(std::stoi(key->name));
        if (in_hand[number].fetch_add(1) != 0) doubled = true;
        seen[number] = wanted[number].load();
        std::this_thread::yield();
        in_hand[number].fetch_sub(1);
        queue.Done(*key);
      }
    });
  }
  {
    std::vector<std::jthread> producers;
    for (int i = 0; i < 3; ++i) {
      producers.emplace_back([&, i] {
        for (int j = 0; j < 3000; ++j) {
          const int number = (j * 7 + i) % kKeys;
          ++wanted[static_cast<size_t>(number)];
          const ObjectKey key{"", std::to_string(number)};
          if (j % 3 == 0) {
            queue.AddAfter(key, std::chrono::microseconds(j % 100));
          } else {
            queue.Add(key, j % 3 == 1 ? Priority::kLow : Priority::kHigh);
          }
        }
      });
    }
  }
  auto settled = [&] {
    for (size_t i = 0; i < kKeys; ++i) {
      if (seen[i] != wanted[i]) return false;
    }
    return true;
  };
  for (int i = 0; i < 500 && !settled(); ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(settled()) << "a key's last change was never worked on";
  EXPECT_FALSE(doubled);
  queue.ShutDown();
}

}  // namespace
}  // namespace pgtier::kube
