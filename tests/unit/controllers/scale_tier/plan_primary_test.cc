// The primary is whichever instance the Service selects; its number means nothing.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

TEST(Primary, ReplicasAreTheLowestNumbersBesideIt) {
  EXPECT_THAT(ReplicaOrdinals(1, 2), ElementsAre(2, 3));
  EXPECT_THAT(ReplicaOrdinals(2, 2), ElementsAre(1, 3));
  EXPECT_THAT(ReplicaOrdinals(3, 2), ElementsAre(1, 2));
  EXPECT_THAT(ReplicaOrdinals(5, 1), ElementsAre(1));
  EXPECT_THAT(ReplicaOrdinals(2, 0), IsEmpty());
}

class SecondIsPrimary : public testing::Test {
 protected:
  // Tier two with kyoyu-2 as the primary, at rest.
  SecondIsPrimary() {
    scene.policy.spec.pin = "two";
    scene.resolved.ladder.pin = "two";
    scene.Settle();
    scene.Settle();
    scene.seen.primary_ordinal = 2;
    scene.seen.primary.slots = {{"pgtier_kyoyu_1", true}, {"pgtier_kyoyu_3", true}};
    InstanceSeen& first = scene.Instance("kyoyu-1");
    first.streaming = true;
    first.replayed = scene.seen.primary.wal;
    scene.Instance("kyoyu-2").streaming = false;
  }
  Scene scene;
};

TEST_F(SecondIsPrimary, TheServiceStaysAtItAndTheOthersAreReplicas) {
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(plan.routed, ElementsAre("kyoyu-1", "kyoyu-3"));
  scene.Carry(plan);
  const nlohmann::json* service = scene.seen.Object(kube::kServices, "kyoyu-primary");
  ASSERT_NE(service, nullptr);
  EXPECT_EQ((*service)["spec"]["selector"][kInstanceLabel], "kyoyu-2");
  EXPECT_THAT(InWords(plan), Not(Contains("drop slot pgtier_kyoyu_1")));
  for (const InstanceSeen& instance : scene.seen.instances) {
    if (instance.name == "kyoyu-2") continue;
    EXPECT_TRUE(scene.Instance(instance.name).streaming);
  }
}

TEST_F(SecondIsPrimary, TheFirstIsRemovedWhereNoReplicaIsWanted) {
  scene.Edit(TwoTiers({{"pin", "one"}}));
  for (int i = 0; i < 6; ++i) scene.MakePass();
  ASSERT_EQ(scene.seen.instances.size(), 1U);
  EXPECT_EQ(scene.seen.instances.front().name, "kyoyu-2");
}

TEST_F(SecondIsPrimary, NothingIsPlannedWhileNobodyCanTell) {
  scene.seen.primary_ordinal = 0;
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(plan.actions, IsEmpty());
  EXPECT_THAT(plan.waiting_for, testing::HasSubstr("Service kyoyu-primary is gone"));
  EXPECT_THAT(MakeRecoveryPlan(scene.context(), scene.seen, scene.credentials).actions, IsEmpty());
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
