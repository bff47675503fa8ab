#include "core/words.h"

#include <gtest/gtest.h>

#include "lib/base/time_format.h"

namespace pgtier::core {
namespace {

Trigger PoolUtilisation() {
  Trigger trigger;
  trigger.name = "pool-utilisation";
  trigger.threshold = 0.8;
  trigger.unit = Unit::kRatio;
  trigger.window = std::chrono::minutes(10);
  return trigger;
}

TEST(Words, ValuesReadAsPeopleWriteThem) {
  EXPECT_EQ(FormatValue(0.031, Unit::kSeconds), "31ms");
  EXPECT_EQ(FormatValue(1.5, Unit::kSeconds), "1.5s");
  EXPECT_EQ(FormatValue(0.87, Unit::kRatio), "87%");
  EXPECT_EQ(FormatValue(13421772800.0, Unit::kBytes), "12.5Gi");
  EXPECT_EQ(FormatValue(400, Unit::kPerSecond), "400/s");
  EXPECT_EQ(FormatValue(10000, Unit::kCount), "10000");
}

TEST(Words, ABreachNamesValueThresholdAndWindow) {
  TriggerMemory memory;
  memory.observed = 0.87;
  memory.breached_since = *ParseTime("2026-11-20T16:52:10Z");
  EXPECT_EQ(DescribeBreach(PoolUtilisation(), memory), "pool-utilisation 87% > 80% since 16:52:10Z (10m)");
}

TEST(Words, ReasonsArePascalCase) {
  EXPECT_EQ(TriggerReason(PoolUtilisation()), "PoolUtilisationAboveThreshold");
  Trigger demand;
  demand.name = "isolated-reads";
  demand.comparison = Comparison::kDemand;
  EXPECT_EQ(TriggerReason(demand), "IsolatedReadsDemanded");
}

TEST(Words, WaitingNamesTheNearestAndTheUnknown) {
  Tier tier{"high", Match::kAny, {PoolUtilisation()}, false, {}, {}};
  Trigger other = PoolUtilisation();
  other.name = "cpu";
  tier.triggers.push_back(other);
  std::map<TriggerKey, TriggerMemory> memories;
  memories[{"high", "pool-utilisation"}].observed = 0.62;
  memories[{"high", "pool-utilisation"}].state = TriggerState::kCalm;
  memories[{"high", "cpu"}].unknown_reason = "NoData: the query returned no series";
  EXPECT_EQ(DescribeWaiting(tier, memories, WallTime{}),
            "closest: pool-utilisation 62% of 80% (10m); cpu is unknown (NoData: the query returned no series)");
}

}  // namespace
}  // namespace pgtier::core
