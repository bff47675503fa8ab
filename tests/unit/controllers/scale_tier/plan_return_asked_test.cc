// A promotion that a person turns: back to the old primary, or on to another heir; also where status is lost.
#include <gmock/gmock.h>

#include "tests/unit/controllers/scale_tier/promotion_world.h"

namespace pgtier::controllers::scale_tier {
namespace {

using testing::HasSubstr;

// The old primary is stopped, and its heir dies.
class HeirDies : public testing::Test {
 protected:
  HeirDies() {
    world.Ask("kyoyu-2/1");
    for (int i = 0; i < 3; ++i) world.Pass();
    world.dead = {"kyoyu-2"};
    world.Pass(0);
    for (int i = 0; i < 10; ++i) plan = world.Pass();
    EXPECT_EQ(world.promotion().phase, PromotionPhase::kFencing);
    EXPECT_EQ(world.Writable(), "");
  }
  void PassOften() {
    for (int i = 0; i < 10; ++i) plan = world.Pass();
  }
  [[nodiscard]] bool HasVolume(const std::string& instance) const {
    return world.scene.seen.Object(kube::kPersistentVolumeClaims, VolumeClaimName(instance)) != nullptr;
  }
  World world;
  Plan plan;
};

TEST_F(HeirDies, TheConditionNamesTheWayBack) {
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2 to answer, to be promoted"));
  EXPECT_THAT(plan.waiting_for, HasSubstr("kubectl pgtier promote kyoyu kyoyu-1 gives kyoyu-1 its role back"));
  world.Set("kyoyu-2")["spec"]["replicas"] = 0;
  EXPECT_THAT(world.Pass().waiting_for, HasSubstr("kubectl scale statefulset kyoyu-2 -n data --replicas=1"));
}

TEST_F(HeirDies, WhoAsksForTheOldPrimaryIsToldWhatTheHeirNeeds) {
  world.Ask("kyoyu-1/2");
  PassOften();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
  EXPECT_EQ(world.promotion().request, "kyoyu-1/2");
  EXPECT_EQ(world.Writable(), "") << "the heir may be the primary";
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2 does not answer, and may have become the primary"));
  EXPECT_THAT(plan.waiting_for, HasSubstr("kubectl pgtier promote kyoyu kyoyu-1 --force stops it too"));
  world.Set("kyoyu-2")["spec"]["replicas"] = 0;
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.promotion().message, "kyoyu-1 was asked for again; kyoyu-1 is the primary again");
  EXPECT_EQ(world.Writable(), "kyoyu-1");
}

TEST_F(HeirDies, AnHeirThatComesBackAsAStandbyLetsItReturn) {
  world.Ask("kyoyu-1/2");
  PassOften();
  world.dead.clear();
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_TRUE(HasVolume("kyoyu-2")) << "it said that it is a standby";
}

TEST_F(HeirDies, WithForceTheHeirIsStoppedFirst) {
  world.Ask("kyoyu-1/2");
  world.Pass();
  world.Ask("kyoyu-1/3/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_FALSE(HasVolume("kyoyu-2")) << "it may have been a primary of the same timeline";
  EXPECT_TRUE(HasVolume("kyoyu-3"));
  world.dead.clear();
  for (int i = 0; i < 6; ++i) plan = world.Pass();
  EXPECT_THAT(plan.routed, testing::ElementsAre("kyoyu-2", "kyoyu-3")) << "it is a replica again";
}

// Its pod stays where its node is off, and with it the doubt.
TEST_F(HeirDies, AnHeirWhosePodStaysHoldsTheRoleBackEvenWithForce) {
  world.scene.seen.objects[{std::string(kube::kPods.plural), "kyoyu-2-0"}] = {{"metadata", {{"name", "kyoyu-2-0"}}}};
  world.Ask("kyoyu-1/2/accept-data-loss");
  PassOften();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
  EXPECT_EQ(world.Writable(), "");
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2 to stop, before kyoyu-1 returns"));
  EXPECT_THAT(plan.waiting_for, HasSubstr("kubectl delete pod kyoyu-2-0 -n data --force"));
  world.scene.seen.objects.erase({std::string(kube::kPods.plural), "kyoyu-2-0"});
  world.Finish();
  EXPECT_EQ(world.Writable(), "kyoyu-1");
}

TEST_F(HeirDies, AThirdThatTakesWritesHoldsTheRoleBack) {
  world.Ask("kyoyu-1/2/accept-data-loss");
  world.Pass();
  world.PromoteByHand("kyoyu-3");
  PassOften();
  EXPECT_EQ(world.Writable(), "kyoyu-3");
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-3 takes writes: kubectl pgtier promote kyoyu kyoyu-3 --force"));
  world.Ask("kyoyu-3/3/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-3");
}

TEST_F(HeirDies, AnotherHeirIsTakenWithForceAndTheFormerOneStopped) {
  world.Ask("kyoyu-3/2");
  PassOften();
  EXPECT_EQ(world.promotion().to, "kyoyu-2") << "only with the loss accepted";
  world.primary_is_dead = true;
  world.Ask("kyoyu-3/3/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-3");
  EXPECT_EQ(world.scene.seen.primary_ordinal, 3);
}

// The one who is stopped for it may be the only one that has all that was acknowledged.
TEST(ReturnAsked, AnOlderOneIsNotTakenInPlaceOfAnHeirThatHasMore) {
  World world;
  world.received = {{"kyoyu-2", 9}, {"kyoyu-3", 5}};
  world.primary_is_dead = true;
  world.scene.seen.objects[{std::string(kube::kPods.plural), "kyoyu-1-0"}] = {{"metadata", {{"name", "kyoyu-1-0"}}}};
  world.Ask("kyoyu-2/1/accept-data-loss");
  for (int i = 0; i < 5; ++i) world.Pass();
  ASSERT_EQ(world.promotion().phase, PromotionPhase::kFencing);
  world.Ask("kyoyu-3/2/accept-data-loss");
  Plan plan = world.Pass();
  EXPECT_THAT(plan.waiting_for,
              HasSubstr("kyoyu-2 has received more than kyoyu-3: kubectl pgtier promote kyoyu kyoyu-2"));
  world.silent = {"kyoyu-3"};
  plan = world.Pass();
  EXPECT_THAT(plan.waiting_for, HasSubstr("instead of kyoyu-2: kyoyu-3 does not answer"));
  EXPECT_EQ(world.promotion().to, "kyoyu-2");
  EXPECT_NE(kube::IntAt(world.Set("kyoyu-2"), {"spec", "replicas"}, 1), 0) << "it is not stopped for that";
  world.received["kyoyu-3"] = 9;
  world.silent.clear();
  world.scene.seen.objects.erase({std::string(kube::kPods.plural), "kyoyu-1-0"});
  world.Finish();
  EXPECT_EQ(world.Writable(), "kyoyu-3");
}

// It does what it was told as soon as it has replayed all that it has, whatever became of the promotion.
TEST(ReturnAsked, AnHeirThatWasToldToTakeWritesIsStoppedBeforeTheOldPrimaryReturns) {
  World world;
  world.slow = {"kyoyu-2"};
  world.Ask("kyoyu-2/1/accept-data-loss");
  for (int i = 0; i < 20; ++i) world.Pass();
  ASSERT_EQ(world.Writable(), "");
  world.Ask("kyoyu-1/2");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_EQ(world.scene.seen.Object(kube::kPersistentVolumeClaims, VolumeClaimName("kyoyu-2")), nullptr);
}

TEST_F(HeirDies, AndNotBesideAnotherWriter) {
  world.PromoteByHand("kyoyu-3");
  world.dead.clear();
  PassOften();
  EXPECT_EQ(world.Writable(), "kyoyu-3");
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2 to be promoted: kyoyu-3 takes writes"));
}

// Its data directory may say already that it is a standby: it would come up as one some day.
TEST(ReturnAsked, APrimaryThatStillRunsIsStoppedBeforeItReturns) {
  for (int passes = 1; passes < 4; ++passes) {
    SCOPED_TRACE(passes);
    World world;
    world.Ask("kyoyu-2/1");
    for (int i = 0; i < passes; ++i) world.Pass();
    world.Ask("kyoyu-1/2");
    world.Finish();
    EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
    EXPECT_EQ(world.Writable(), "kyoyu-1");
    EXPECT_FALSE(world.IsToBeStandby("kyoyu-1"));
    EXPECT_FALSE(AnyoneIsHeld(world));
  }
}

// Not fenced, it would come up as a primary by itself: beside an heir that nobody can see.
TEST(ReturnAsked, APrimaryThatWasNeverFencedStartsOnlyWhenTheHeirIsStopped) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Pass(1);
  world.primary_is_dead = true;
  world.Set("kyoyu-1")["spec"]["replicas"] = 0;
  world.Pass(0);
  world.silent = {"kyoyu-2"};
  world.Pass();
  world.Pass();
  world.primary_is_dead = false;
  world.Ask("kyoyu-1/2");
  Plan plan;
  for (int i = 0; i < 10; ++i) plan = world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
  EXPECT_EQ(world.Writable(), "");
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2 to be stopped: kyoyu-1 was not fenced"));
  world.Ask("kyoyu-1/3/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
}

TEST(ReturnAsked, AnHeirThatTookWritesKeepsTheRoleUnlessForced) {
  for (bool force : {false, true}) {
    SCOPED_TRACE(force);
    World world;
    world.Ask("kyoyu-2/1");
    for (int i = 0; i < 3; ++i) world.Pass();
    world.PromoteByHand("kyoyu-2");
    world.Ask(force ? "kyoyu-1/2/accept-data-loss" : "kyoyu-1/2");
    world.Finish();
    EXPECT_EQ(world.promotion().phase, force ? PromotionPhase::kReturned : PromotionPhase::kDone);
    EXPECT_EQ(world.Writable(), force ? "kyoyu-1" : "kyoyu-2");
  }
}

// What the conditions tell people to run is heeded where the tier is not known either.
TEST(LostStatus, AStandbyInThePrimarysPlaceGetsItsRoleBack) {
  World world;
  world.Ask("kyoyu-2/1");
  for (int i = 0; i < 3; ++i) world.Pass();
  world.Service()["metadata"].erase("annotations");
  world.scene.policy.status.promotion = {"kyoyu-2/1", "Refused", "kyoyu-1", "kyoyu-2", "broken off"};
  world.status_is_lost = true;
  Plan plan;
  for (int i = 0; i < 4; ++i) plan = world.Pass();
  ASSERT_THAT(plan.refused, HasSubstr("PrimaryIsStandby"));
  ASSERT_THAT(plan.refused, HasSubstr("kubectl pgtier promote kyoyu kyoyu-1"));
  world.Ask("kyoyu-1/2");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
}

TEST(LostStatus, ADeadPrimaryIsReplacedWithForce) {
  World world;
  world.primary_is_dead = true;
  world.status_is_lost = true;
  world.Pass();
  world.Ask("kyoyu-2/1");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kRefused);
  world.Ask("kyoyu-2/2/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(LostStatus, AProofIsTriedForAsLongAsEver) {
  World world;
  world.Ask("kyoyu-2/1");
  world.receives_everything = false;
  for (int i = 0; i < 3; ++i) world.Pass();
  world.status_is_lost = true;
  for (int i = 0; i < 20 && world.promotion().phase == PromotionPhase::kFencing; ++i) world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
