// The way down, and what must never be removed.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

bool Removes(const Plan& plan) {
  return std::any_of(plan.actions.begin(), plan.actions.end(), [](const Action& action) {
    return std::holds_alternative<DeleteObject>(action) || std::holds_alternative<DropSlot>(action);
  });
}

class PlanRemoval : public testing::Test {
 protected:
  void SetUp() override {
    Read(scene_, "by-hand", core::Reading::Of(1));
    scene_.Settle();
    ASSERT_EQ(scene_.policy.status.tier, "two");
  }

  Plan Down() { return scene_.PlanFor("two", "one"); }

  Scene scene_;
};

TEST_F(PlanRemoval, RoutingFirstThenClientsThenInstancesThenSlots) {
  scene_.Instance("kyoyu-2").clients = 2;
  Plan routing = Down();
  EXPECT_FALSE(Removes(routing));
  EXPECT_THAT(InWords(routing), Contains("reload kyoyu-pooler-ro-0"));
  scene_.Carry(routing);
  EXPECT_EQ(scene_.RoutedTo("ro"), kPrimaryHost);

  Plan draining = Down();
  EXPECT_THAT(InWords(draining), IsEmpty());
  EXPECT_THAT(draining.waiting_for, testing::MatchesRegex("kyoyu-2: .* clients to finish"));
  scene_.Instance("kyoyu-2").clients = 0;

  Plan removing = Down();
  EXPECT_THAT(InWords(removing), testing::UnorderedElementsAre("delete StatefulSet kyoyu-2", "delete Service kyoyu-2",
                                                               "delete PersistentVolumeClaim data-kyoyu-2-0"));
  EXPECT_EQ(InWords(removing).back(), "delete StatefulSet kyoyu-2")
      << "an instance is known by its StatefulSet: what goes after it would be forgotten when a pass ends between";
  for (const Action& action : removing.actions) EXPECT_NE(std::get<DeleteObject>(action).uid, "");
  scene_.Carry(removing);
  EXPECT_THAT(InWords(Down()), Contains("delete StatefulSet kyoyu-3"));
  scene_.Carry(Down());

  scene_.seen.primary.slots["pgtier_kyoyu_2"] = true;  // Its walsender has not gone yet.
  Plan dropping = Down();
  EXPECT_THAT(InWords(dropping), Not(Contains("drop pgtier_kyoyu_2")));
  EXPECT_THAT(InWords(dropping), Not(Contains("record one")));
  scene_.seen.primary.slots["pgtier_kyoyu_2"] = false;
  while (!scene_.seen.primary.slots.empty()) {
    Plan drop = Down();
    ASSERT_THAT(InWords(drop), ElementsAre(StartsWith("drop pgtier_kyoyu_")));
    scene_.Carry(drop);
  }
  EXPECT_THAT(InWords(Down()), ElementsAre("record one"));
}

TEST_F(PlanRemoval, OnlyOnceThePoolersSayThatNothingRoutesThere) {
  auto before = scene_.PoolerPod("ro").databases;
  scene_.Carry(Down());
  scene_.PoolerPod("ro").databases = before;
  EXPECT_FALSE(Removes(Down()));
  scene_.PoolerPod("ro").answered = false;
  EXPECT_FALSE(Removes(Down()));
  scene_.PoolerPod("ro").answered = true;
  scene_.PoolerPod("ro").ready = false;
  EXPECT_FALSE(Removes(Down())) << "a pod that is not ready may still hold connections";
}

TEST_F(PlanRemoval, ADeletionUnderWayIsNotRepeated) {
  scene_.Carry(Down());
  for (auto& [key, object] : scene_.seen.objects) {
    if (key.second.find("kyoyu-2") != std::string::npos) object["metadata"]["deletionTimestamp"] = "now";
  }
  Plan plan = Down();
  EXPECT_THAT(InWords(plan), IsEmpty());
  EXPECT_EQ(plan.waiting_for, "kyoyu-2 to stop");
}

TEST_F(PlanRemoval, APlanAgainstTheDatabasesRecordRemovesNothing) {
  // Status says one; the database says two. Its poolers already say what tier one wants.
  ASSERT_EQ(scene_.seen.primary.tier, "two");
  scene_.Carry(scene_.PlanFor("one", "one"));
  ASSERT_EQ(scene_.RoutedTo("ro"), kPrimaryHost);
  EXPECT_FALSE(Removes(scene_.PlanFor("one", "one")));
  EXPECT_FALSE(Removes(scene_.PlanFor("", "one")));
  // Nor does one for a primary whose record could not be read.
  scene_.seen.primary.tier = "";
  EXPECT_FALSE(Removes(scene_.PlanFor("two", "one")));
}

TEST_F(PlanRemoval, AStatusThatWasLostOrIsOfThePastIsRebuiltFromTheDatabase) {
  for (const char* tier : {"", "one"}) {
    Scene scene = scene_;
    scene.policy.status = {};
    scene.policy.status.tier = tier;
    for (int i = 0; i < 10; ++i) {
      Scene::Pass pass = scene.MakePass();
      EXPECT_THAT(InWords(pass.plan), IsEmpty()) << "reads or replicas were taken away";
    }
    EXPECT_EQ(scene.policy.status.tier, "two");
    EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/two").status, "True");
    EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/two").reason, "Recovered");
  }
}

TEST_F(PlanRemoval, APinThatTurnsAfterTheRecordGoesBackInOrder) {
  // Recorded, and not yet in status: the pass between the two.
  scene_.policy.status.tier = "one";
  scene_.policy.status.target_tier = "two";
  scene_.Edit(TwoTiers({{"pin", "one"}}));
  scene_.Settle();
  EXPECT_EQ(scene_.policy.status.tier, "one");
  EXPECT_EQ(scene_.seen.primary.tier, "one");
  EXPECT_EQ(scene_.seen.instances.size(), 1U);
}

TEST_F(PlanRemoval, APinTakesTheLadderDownToItsEnd) {
  nlohmann::json pinned = TwoTiers({{"pin", "one"}});
  scene_.Edit(pinned);
  scene_.Settle();
  EXPECT_EQ(scene_.policy.status.tier, "one");
  EXPECT_EQ(scene_.seen.primary.tier, "one");
  EXPECT_EQ(scene_.seen.instances.size(), 1U);
  EXPECT_THAT(scene_.seen.primary.slots, IsEmpty());
  for (const auto& [key, object] : scene_.seen.objects) {
    EXPECT_THAT(key.second, Not(AnyOf(testing::HasSubstr("kyoyu-2"), testing::HasSubstr("kyoyu-3"))));
  }
  EXPECT_EQ(scene_.RoutedTo("ro"), kPrimaryHost);
}

TEST_F(PlanRemoval, ThePrimaryIsNeverRemoved) {
  nlohmann::json pinned = TwoTiers({{"pin", "one"}});
  scene_.Edit(pinned);
  for (int i = 0; i < 30; ++i) {
    Scene::Pass pass = scene_.MakePass();
    EXPECT_THAT(InWords(pass.plan), Not(Contains(testing::MatchesRegex("delete .*kyoyu-1(-0)?"))));
    scene_.StartPods();
  }
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
