#include "workers/progress.h"

#include <gtest/gtest.h>

#include <thread>

namespace pgtier::workers {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

TEST(Progress, UnhealthyOnlyWithWorkAndWithoutProgress) {
  Progress progress;
  EXPECT_TRUE(progress.Healthy(nanoseconds(1)));  // no work
  progress.Working();
  std::this_thread::sleep_for(milliseconds(2));
  progress.Working();  // saying it again does not begin the time anew
  EXPECT_FALSE(progress.Healthy(milliseconds(2)));
  EXPECT_TRUE(progress.Healthy(hours(1)));
  progress.Done();
  EXPECT_TRUE(progress.Healthy(hours(1)));
  std::this_thread::sleep_for(milliseconds(2));
  EXPECT_FALSE(progress.Healthy(milliseconds(2)));  // work goes on until Idle
  progress.Idle();
  EXPECT_TRUE(progress.Healthy(nanoseconds(1)));
}

TEST(Progress, ReadyIsAnotherMatter) {
  Progress progress;
  EXPECT_FALSE(progress.Ready());
  progress.SetReady(true);
  EXPECT_TRUE(progress.Ready());
}

}  // namespace
}  // namespace pgtier::workers
