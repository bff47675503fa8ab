// The condition of a tier: here the user reads which metric triggered which tier.
#include <gmock/gmock.h>

#include "lib/base/time_format.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

using testing::HasSubstr;

constexpr char kTierTwo[] = "tier.pgtier.dev/two";
constexpr char kEntered[] = "pool-utilisation 87% > 80% since 16:52:10Z (10m)";

// At rest in tier one at 16:52:10, with a pool that is 87 % full from then on.
Scene Loaded() {
  Scene scene;
  scene.Settle();
  scene.now = *ParseTime("2026-11-20T16:52:10Z");
  Read(scene, "pool-utilisation", core::Reading::Of(0.87));
  return scene;
}

// Passes every 15 s for that long.
void Pass(Scene& scene, Duration span) {
  for (Duration passed{}; passed < span; passed += std::chrono::seconds(15)) {
    scene.MakePass();
    scene.StartPods();
    scene.now += std::chrono::seconds(15);
  }
}

TEST(TierCondition, SaysWhatIsNearestUntilItIsEntered) {
  Scene scene;
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/one").status, "True");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/one").reason, "Started");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).status, "False");
  Read(scene, "pool-utilisation", core::Reading::Of(0.62));
  scene.now += std::chrono::minutes(2);
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf(kTierTwo).reason, "NotReached");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).message, "closest: pool-utilisation 62% of 80% (10m)");
  EXPECT_EQ(scene.policy.status.summary.closest, "pool-utilisation 62%/80%");
  EXPECT_EQ(scene.policy.status.next_tier, "two");
}

TEST(TierCondition, NamesTheTriggerWithValueThresholdAndWindow) {
  Scene scene = Loaded();
  Pass(scene, std::chrono::minutes(10));
  EXPECT_EQ(scene.policy.status.target_tier, "") << "the window is not full";
  EXPECT_THAT(scene.ConditionOf(kTierTwo).message, HasSubstr("fires in "));
  Pass(scene, std::chrono::seconds(15));
  EXPECT_EQ(scene.policy.status.target_tier, "two");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).status, "False");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).message, std::string("being entered: ") + kEntered);
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).status, "True");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).reason, "PoolUtilisationAboveThreshold");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).message, kEntered);
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "PoolUtilisationAboveThreshold");
}

TEST(TierCondition, OutlivesTheMetrics) {
  Scene scene = Loaded();
  Pass(scene, std::chrono::minutes(11));
  scene.Settle();
  ASSERT_EQ(scene.policy.status.tier, "two");
  crds::Condition entered = scene.ConditionOf(kTierTwo);
  Read(scene, "pool-utilisation", core::Reading::Of(0.01));
  Pass(scene, std::chrono::minutes(5));
  Read(scene, "pool-utilisation", core::Reading::Unknown("Gone"));
  Pass(scene, std::chrono::hours(1));
  EXPECT_EQ(scene.ConditionOf(kTierTwo).message, kEntered);
  EXPECT_EQ(scene.ConditionOf(kTierTwo).reason, "PoolUtilisationAboveThreshold");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).last_transition, entered.last_transition);
}

TEST(TierCondition, StatusKeepsTheTriggerAndTheHistory) {
  Scene scene = Loaded();
  Pass(scene, std::chrono::minutes(11));
  scene.Settle();
  const crds::TierStatus& two = scene.policy.status.tiers[1];
  ASSERT_TRUE(two.trigger.has_value());
  EXPECT_EQ(two.trigger->name, "pool-utilisation");
  EXPECT_EQ(two.trigger->observed, "87%");
  EXPECT_EQ(two.trigger->threshold, "80%");
  EXPECT_EQ(two.trigger->window, "10m");
  EXPECT_EQ(FormatTime(*two.trigger->memory.breached_since), "2026-11-20T16:52:10Z");
  EXPECT_TRUE(two.entered_at.has_value());
  ASSERT_EQ(scene.policy.status.history.size(), 1U);
  EXPECT_EQ(scene.policy.status.history[0].from, "one");
  EXPECT_EQ(scene.policy.status.history[0].to, "two");
  EXPECT_EQ(scene.policy.status.history[0].reason, kEntered);
  EXPECT_EQ(scene.policy.status.tier_since, scene.policy.status.history[0].at);
}

TEST(TierCondition, HistoryHoldsTheLastTen) {
  Scene scene;
  scene.Settle();
  for (int i = 0; i < 13; ++i) {
    scene.Edit(TwoTiers({{"pin", i % 2 == 0 ? "two" : "one"}}));
    scene.Settle();
  }
  ASSERT_EQ(scene.policy.status.tier, "two");
  ASSERT_EQ(scene.policy.status.history.size(), 10U);
  EXPECT_EQ(scene.policy.status.history[0].to, "two");
  EXPECT_EQ(scene.policy.status.history[9].to, "one");
}

TEST(TierCondition, GoesBackWhenThePinDoes) {
  Scene scene = Loaded();
  Pass(scene, std::chrono::minutes(11));
  scene.Settle();
  scene.Edit(TwoTiers({{"pin", "one"}}));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.ConditionOf(kTierTwo).status, "False");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/one").status, "True");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "Pinned");
}

// A sharded tier above `two`, the ladder past its cooldown in `two`, and what the catalogue says.
Scene BeforeSharding() {
  Json object = TwoTiers();
  object["spec"]["tiers"].push_back(Json::parse(R"({"name": "sharded", "enterWhen": {"any": [
    {"name": "disk", "above": "0.8", "unit": "Ratio", "for": "15m", "pooler": {"metric": "Utilisation"}}]},
    "sharding": {"citus": {"workers": 3, "tables": [{"name": "events", "column": "agent_id"},
                                                    {"name": "notes", "column": "agent_id", "colocateWith": "events"}]}}})"));
  object["spec"]["pin"] = "two";
  Scene scene(object);
  scene.Settle();
  scene.Settle();
  object["spec"].erase("pin");
  scene.Edit(object);
  scene.now += std::chrono::hours(1);
  return scene;
}

void FillTheDisk(Scene& scene) {
  Read(scene, "disk", core::Reading::Of(0.85));
  for (int i = 0; i < 80; ++i) {
    scene.now += std::chrono::seconds(15);
    scene.MakePass();
  }
}

constexpr char kSharded[] = "tier.pgtier.dev/sharded";

TEST(Sharding, WhatTheCatalogueForbidsIsSaidBeforeAnybodyIsAsked) {
  Scene scene = BeforeSharding();
  scene.seen.preflights.emplace(
      "sharded", std::vector<Finding>{{"UniqueKeyLacksColumn", "unique key k of events (id) lacks agent_id", "drop it"},
                                      {"NoReplicaIdentity", "events has none", "give it one", false}});
  Read(scene, "disk", core::Reading::Of(0.62));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf(kSharded).reason, "PreflightFailed");
  EXPECT_EQ(scene.ConditionOf(kSharded).message,
            "UniqueKeyLacksColumn: unique key k of events (id) lacks agent_id (drop it); closest: disk 62% of 80% "
            "(15m)");
  FillTheDisk(scene);
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "PreflightFailed");
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "False");
  EXPECT_THAT(scene.ConditionOf(kSharded).message, testing::HasSubstr("; it is due: disk 85% > 80% since "));
}

TEST(Sharding, ACatalogueThatCannotBeReadShutsTheTier) {
  Scene scene = BeforeSharding();
  scene.seen.preflights.emplace("sharded", MakeError(Code::kUnavailable, "connection refused"));
  FillTheDisk(scene);
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.ConditionOf(kSharded).reason, "PreflightUnknown");
}

TEST(Sharding, IsPlannedApprovedAndNotCarriedOut) {
  Scene scene = BeforeSharding();
  scene.seen.preflights.emplace("sharded", std::vector<Finding>{});
  FillTheDisk(scene);
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "True");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  const crds::PlanStatus plan = scene.policy.status.plan;
  ASSERT_GE(plan.steps.size(), 3U);
  EXPECT_EQ(plan.steps.back().name, "distribute notes by agent_id, co-located with events, and verify its rows");
  EXPECT_FALSE(plan.steps.back().reversible);
  scene.policy.spec.approved_plan = plan.hash;
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.policy.status.target_tier, "");
  EXPECT_THAT(scene.policy.status.plan.approved_by, testing::StartsWith("Git at "));
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "NotAvailable");
  EXPECT_EQ(scene.ConditionOf(kSharded).reason, "NotAvailable");
  EXPECT_THAT(scene.ConditionOf(kSharded).message,
              testing::StartsWith("its plan is approved, and this release does not carry out sharding"));
}

// Another list of tables is another plan.
TEST(Sharding, AnApprovalIsOfTheTablesToo) {
  Scene scene = BeforeSharding();
  scene.seen.preflights.emplace("sharded", std::vector<Finding>{});
  FillTheDisk(scene);
  std::string hash = scene.policy.status.plan.hash;
  scene.policy.spec.approved_plan = hash;
  scene.policy.spec.tiers[2].citus->tables[1].column = "owner_id";
  scene.resolved = Resolve(scene.policy);
  scene.MakePass();
  EXPECT_NE(scene.policy.status.plan.hash, hash);
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").reason, "OtherPlanApproved");
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
