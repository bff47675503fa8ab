#include "lib/observe/pooler_reading.h"

#include <gtest/gtest.h>

namespace pgtier::observe {
namespace {

core::Trigger AboveEighty() {
  core::Trigger trigger;
  trigger.threshold = 0.8;
  return trigger;
}

poolers::Utilisation Pod(double ratio, int64_t waiting, int64_t maxwait_us) {
  poolers::Utilisation pod;
  pod.max_ratio = ratio;
  pod.cl_waiting = waiting;
  pod.maxwait_us = maxwait_us;
  return pod;
}

TEST(PoolerReading, TakesTheFullestTheSumAndTheLongest) {
  std::vector<poolers::Utilisation> pods = {Pod(0.3, 2, 1'000'000), Pod(0.9, 3, 2'500'000)};
  EXPECT_DOUBLE_EQ(*ReadPoolers("Utilisation", pods, 0, AboveEighty()).value, 0.9);
  EXPECT_DOUBLE_EQ(*ReadPoolers("ClientsWaiting", pods, 0, AboveEighty()).value, 5);
  EXPECT_DOUBLE_EQ(*ReadPoolers("MaxWait", pods, 0, AboveEighty()).value, 2.5);
}

TEST(PoolerReading, NobodyAnsweringIsUnknown) {
  EXPECT_FALSE(ReadPoolers("Utilisation", {}, 2, AboveEighty()).value.has_value());
}

TEST(PoolerReading, ALowReadingWithASilentPodProvesNothing) {
  EXPECT_FALSE(ReadPoolers("Utilisation", {Pod(0.3, 0, 0)}, 1, AboveEighty()).value.has_value());
  EXPECT_TRUE(ReadPoolers("Utilisation", {Pod(0.9, 0, 0)}, 1, AboveEighty()).value.has_value());
}

}  // namespace
}  // namespace pgtier::observe
