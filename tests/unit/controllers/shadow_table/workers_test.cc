#include "controllers/shadow_table/workers.h"

#include <gtest/gtest.h>

#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

// A queue of so many rows for so long, with a worker that is there; gives how many are wanted then.
int After(Duration span, int64_t queue, core::ScalingMemory& memory, WallTime& now) {
  Scene scene;
  Resolved resolved = Resolve(scene.policy);
  Seen& seen = scene.seen;
  seen.state->tier = shadow::Tier::kNotify;
  seen.state->queue_depth = queue;
  for (Duration passed{}; passed <= span; passed += resolved.interval, now += resolved.interval) {
    seen.worker = {true, memory.replicas, memory.replicas, true, ""};
    memory = DecideWorkers(resolved, seen, memory, now);
  }
  return memory.replicas;
}

TEST(ShadowWorkers, OneMoreWhenTheQueueStaysLongAndOneFewerWhenItStaysEmpty) {
  core::ScalingMemory memory;
  memory.replicas = 1;
  WallTime now{std::chrono::hours(1)};
  EXPECT_EQ(After(std::chrono::minutes(5), 100, memory, now), 1);
  EXPECT_EQ(After(std::chrono::seconds(15), 5000, memory, now), 1) << "the window is not full";
  EXPECT_GE(After(std::chrono::minutes(1), 5000, memory, now), 2);
  EXPECT_EQ(After(std::chrono::minutes(10), 5000, memory, now), 3) << "never above max";
  EXPECT_EQ(After(std::chrono::minutes(5), 0, memory, now), 3);
  EXPECT_LT(After(std::chrono::minutes(7), 0, memory, now), 3);
  EXPECT_EQ(After(std::chrono::hours(1), 0, memory, now), 1);
}

TEST(ShadowWorkers, NothingCountsOutsideOfNotify) {
  Scene scene;
  Resolved resolved = Resolve(scene.policy);
  scene.seen.state->queue_depth = 100000;
  core::ScalingMemory memory;
  for (int i = 0; i < 20; ++i) {
    memory = DecideWorkers(resolved, scene.seen, memory, scene.now);
    scene.now += std::chrono::seconds(15);
  }
  EXPECT_EQ(memory.replicas, 1);
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
