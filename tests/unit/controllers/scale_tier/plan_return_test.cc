// The old primary's way back into its role, and what is left of a promotion whose notes are lost.
#include <gmock/gmock.h>

#include "tests/unit/controllers/scale_tier/promotion_world.h"

namespace pgtier::controllers::scale_tier {
namespace {

using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

core::Decision Stay() {
  core::Decision decision;
  decision.from = decision.to = "two";
  return decision;
}

Plan PlanOf(const World& world) {
  return *MakePlan(world.scene.context(), world.scene.seen, Stay(), world.scene.credentials);
}

std::string ToldPrimary(World& world) {
  return (*world.scene.seen.Object(kube::kConfigMaps, "kyoyu-postgres"))["data"]["primary"];
}

// What a pass of the reconciler would have left.
void WriteStatus(World& world) {
  const Promotion& promotion = world.promotion();
  world.scene.policy.status.promotion = {promotion.request, NameOf(promotion.phase), promotion.from, promotion.to,
                                         promotion.message};
}

TEST(Return, AnHeirThatHasTakenTheRoleKeepsIt) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Fail();
  world.PromoteByHand("kyoyu-2");
  world.Finish();  // The world looks at each pass that two never take writes.
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_THAT(world.promotion().message, HasSubstr("it took writes before kyoyu-1 had its role back"));
  EXPECT_EQ(world.Writable(), "kyoyu-2");
  EXPECT_EQ(world.scene.seen.primary_ordinal, 2);
  EXPECT_EQ(world.scene.seen.term, 1);
}

TEST(Return, AlsoWhereTheOldPrimaryRunsAsAStandbyAlready) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Fail();
  world.silent = {"kyoyu-2"};
  for (int i = 0; i < 3; ++i) world.Pass();
  world.PromoteByHand("kyoyu-2");
  world.silent.clear();
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(Return, WaitsForAnHeirThatDoesNotAnswer) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Fail();
  world.silent = {"kyoyu-2"};
  Plan plan;
  for (int i = 0; i < 10; ++i) plan = world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
  EXPECT_EQ(world.Writable(), "") << "it may be the primary";
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2 does not answer, and may have become the primary"));
  EXPECT_THAT(plan.waiting_for, HasSubstr("kubectl scale statefulset kyoyu-2 -n data --replicas=0"));
  world.silent.clear();
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
}

TEST(Return, AnHeirThatAPersonHasStoppedIsNotWaitedFor) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Fail();
  world.silent = {"kyoyu-2"};
  for (int i = 0; i < 3; ++i) world.Pass();
  world.Set("kyoyu-2")["spec"]["replicas"] = 0;
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_EQ(world.Writable(), "kyoyu-1");
}

TEST(Return, WhoAcceptsTheLossGoesForwardAgain) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Fail();
  world.primary_is_dead = true;
  for (int i = 0; i < 3; ++i) world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturning);
  world.Ask("kyoyu-2/2/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(Return, OfTwoThatTakeWritesAPersonChooses) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Pass();
  ASSERT_EQ(world.promotion().phase, PromotionPhase::kFencing);
  world.scene.seen.positions["kyoyu-2"].in_recovery = false;
  Plan plan = PlanOf(world);
  EXPECT_THAT(InWords(plan), Not(Contains("demote kyoyu-1")));
  EXPECT_THAT(plan.refused, HasSubstr("TwoPrimaries: kyoyu-1, which Service kyoyu-primary selects, and kyoyu-2 both"));
  world.promotion().phase = PromotionPhase::kReturning;
  EXPECT_THAT(PlanOf(world).refused, HasSubstr("TwoPrimaries"));
  world.promotion().force = true;
  world.promotion().phase = PromotionPhase::kFencing;
  EXPECT_THAT(InWords(PlanOf(world)), Contains("demote kyoyu-1"));
}

TEST(Return, AReplicaThatTakesWritesIsNamed) {
  World world;
  world.scene.Instance("kyoyu-2").takes_writes = true;
  Plan plan = PlanOf(world);
  EXPECT_THAT(plan.refused, HasSubstr("ReplicaTakesWrites: kyoyu-2"));
  EXPECT_THAT(plan.refused, HasSubstr("kubectl delete pod kyoyu-2-0 -n data"));
  EXPECT_THAT(plan.routed, Not(Contains("kyoyu-2")));
}

TEST(Return, WhatASecondWriterAloneHasIsThrownAwayByNobody) {
  World world;
  world.scene.Instance("kyoyu-2").takes_writes = true;
  world.scene.seen.primary.lost_slots.insert(SlotName("kyoyu-2"));
  Plan plan = PlanOf(world);
  EXPECT_THAT(InWords(plan), Not(Contains(HasSubstr("delete"))));
  EXPECT_THAT(plan.refused, HasSubstr("ReplicaTakesWrites: kyoyu-2"));
  // Nor does one go that merely did not answer this time.
  world.scene.Instance("kyoyu-2").takes_writes = false;
  world.scene.Instance("kyoyu-2").answered = false;
  EXPECT_THAT(InWords(PlanOf(world)), Not(Contains(HasSubstr("delete"))));
  // Nor where fewer are wanted.
  world.scene.Instance("kyoyu-3").takes_writes = true;
  world.scene.seen.primary.lost_slots.clear();
  world.scene.Instance("kyoyu-2").answered = true;
  plan = world.scene.PlanFor("two", "one");
  EXPECT_THAT(InWords(plan), Not(Contains(HasSubstr("delete"))));
}

TEST(Return, ReplayMayStandStillForAsLongAsQueriesMayHoldItUp) {
  EXPECT_EQ(ReplayPatience({}), seconds(60));
  EXPECT_EQ(ReplayPatience({{"max_standby_archive_delay", "10min"}}), seconds(660));
  EXPECT_EQ(ReplayPatience({{"max_standby_archive_delay", "-1"}}), std::nullopt);
}

// Queries on the heir may hold up the replay of the record that proves for max_standby_streaming_delay.
TEST(Return, AProofIsTriedForLongerThanQueriesMayHoldUpReplay) {
  EXPECT_GT(ProofPatience({}), seconds(30)) << "PostgreSQL's default of the delay";
  EXPECT_EQ(ProofPatience({{"max_standby_streaming_delay", "1min"}}), seconds(75));
  EXPECT_EQ(ProofPatience({{"max_standby_streaming_delay", "60000"}}), seconds(75));
  EXPECT_EQ(ProofPatience({{"max_standby_streaming_delay", "40 s"}}), seconds(55));
  EXPECT_EQ(ProofPatience({{"max_standby_streaming_delay", "0"}}), seconds(30));
  for (const char* beyond : {"-1", "2h", "9223372036854775807", "99999999999999999999", "soon"}) {
    EXPECT_EQ(ProofPatience({{"max_standby_streaming_delay", beyond}}), seconds(100)) << beyond;
  }
  World world;
  world.receives_everything = false;
  world.Ask("kyoyu-2/1");
  int tried = 0;
  for (; tried < 7; ++tried) world.Pass();  // 5 s each, from the fourth on.
  for (; tried < 11; ++tried) {
    world.Pass();
    EXPECT_EQ(world.promotion().phase, PromotionPhase::kFencing) << tried;
  }
  world.receives_everything = true;
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
}

TEST(LostNotes, TheTermIsTheGreatestThatAnythingHolds) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Finish();
  for (int i = 0; i < 4; ++i) world.Pass();
  WriteStatus(world);
  world.Service()["metadata"].erase("annotations");
  world.Pass();
  EXPECT_EQ(ToldPrimary(world), "1 kyoyu-2") << "an older word would not be believed by who was told of term 1";
  EXPECT_EQ(world.Service()["metadata"]["annotations"][kTermAnnotation], "1");
  // Of all that, one StatefulSet is left.
  world.Service()["metadata"].erase("annotations");
  world.scene.seen.objects.erase({std::string(kube::kConfigMaps.plural), "kyoyu-postgres"});
  world.Pass();
  EXPECT_EQ(ToldPrimary(world), "1 kyoyu-2");
}

TEST(LostNotes, AnotherPrimaryThanInstancesWereToldOfIsOfANewTerm) {
  World world;
  world.Service()["spec"]["selector"][kInstanceLabel] = "kyoyu-2";
  world.PromoteByHand("kyoyu-2");
  Plan plan = PlanOf(world);
  world.scene.Carry(plan);
  EXPECT_EQ(ToldPrimary(world), "1 kyoyu-2");
}

TEST(LostNotes, ARequestThatStatusKnowsIsNotCarriedOutAgain) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Fail();
  world.Finish();
  ASSERT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  WriteStatus(world);
  world.receives_everything = true;
  world.Service()["metadata"].erase("annotations");
  for (int i = 0; i < 6; ++i) world.Pass();
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_FALSE(world.scene.seen.promotion_from_status) << "the Service has it again";
  EXPECT_EQ(world.promotion().request, "kyoyu-2/1");
}

// Of status and Service neither knows: it may have been carried out, refused or taken back, however long ago.
TEST(LostNotes, ARequestThatNobodyKnowsOfIsNotCarriedOutButAskedForAgain) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Finish();
  for (int i = 0; i < 4; ++i) world.Pass();
  world.Ask("kyoyu-1/2");
  world.Finish();
  for (int i = 0; i < 4; ++i) world.Pass();
  world.scene.policy.meta.annotations[kPromoteAnnotation] = "kyoyu-2/1";
  world.scene.policy.status = {};
  world.Service()["metadata"].erase("annotations");
  for (int i = 0; i < 6; ++i) world.Pass();
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kRefused);
  EXPECT_THAT(world.promotion().message, HasSubstr("may have been carried out before"));
  EXPECT_EQ(world.promotion().request, "kyoyu-2/1");
  EXPECT_FALSE(world.scene.seen.promotion_from_status) << "the Service has it";
  EXPECT_EQ(world.scene.seen.term, 2);
  world.Ask("kyoyu-2/3");
  world.Finish();
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(LostNotes, APromotionThatWasBrokenOffLeavesAStandbyThatAPersonGivesItsRoleBack) {
  World world;
  world.Ask("kyoyu-2/1");
  for (int i = 0; i < 3; ++i) world.Pass();
  ASSERT_EQ(world.promotion().phase, PromotionPhase::kFencing);
  ASSERT_NE(world.promotion().fence.value, 0U);
  WriteStatus(world);
  world.Service()["metadata"].erase("annotations");
  Plan plan;
  for (int i = 0; i < 4; ++i) plan = world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kRefused);
  EXPECT_THAT(world.promotion().message, HasSubstr("broken off"));
  EXPECT_EQ(world.Writable(), "");
  EXPECT_THAT(plan.refused, HasSubstr("PrimaryIsStandby: Service kyoyu-primary selects kyoyu-1, which is a standby"));
  EXPECT_THAT(plan.refused, HasSubstr("kubectl pgtier promote kyoyu kyoyu-1"));
  WriteStatus(world);
  world.Ask("kyoyu-1/2");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.promotion().message, "kyoyu-1 was a standby; kyoyu-1 is the primary again");
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  for (int i = 0; i < 3; ++i) plan = world.Pass();
  EXPECT_THAT(plan.refused, IsEmpty());
}

TEST(LostNotes, TheRoleIsGivenBackOnlyWhereNobodyElseMayHaveIt) {
  struct Case {
    std::function<void(Seen&)> change;
    const char* says;
  };
  for (const Case& each : std::initializer_list<Case>{
           {[](Seen& seen) { seen.positions["kyoyu-3"].in_recovery = false; }, "kyoyu-3 takes writes"},
           {[](Seen& seen) { seen.positions.erase("kyoyu-3"); }, "kyoyu-3 does not answer and may take writes"},
           {[](Seen& seen) { seen.positions["kyoyu-2"].received.value = 7000; }, "kyoyu-2 has received more"},
           {[](Seen& seen) { seen.positions.erase("kyoyu-1"); }, "kyoyu-1 does not answer"}}) {
    SCOPED_TRACE(each.says);
    World world;
    world.Ask("kyoyu-1/1");
    world.scene.seen.primary.answered = false;
    world.scene.seen.primary.is_standby = true;
    world.scene.seen.positions["kyoyu-1"].in_recovery = true;
    EXPECT_EQ(PlanOf(world).promotion.phase, PromotionPhase::kReturning);
    each.change(world.scene.seen);
    Plan plan = PlanOf(world);
    EXPECT_EQ(plan.promotion.phase, PromotionPhase::kRefused);
    EXPECT_THAT(plan.promotion.message, HasSubstr(each.says));
  }
}

TEST(LostNotes, WhoTakesWritesMeanwhileHoldsTheRoleBackUntilAPersonAsksForAnother) {
  World world;
  world.Ask("kyoyu-1/1");
  world.scene.seen.primary.answered = false;
  world.scene.seen.primary.is_standby = true;
  world.scene.seen.positions["kyoyu-1"].in_recovery = true;
  world.scene.seen.promotion = PlanOf(world).promotion;
  ASSERT_EQ(world.scene.seen.promotion.phase, PromotionPhase::kReturning);
  world.scene.seen.positions["kyoyu-3"].in_recovery = false;
  Plan plan = PlanOf(world);
  EXPECT_THAT(InWords(plan), Not(Contains(HasSubstr("promote"))));
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-3 takes writes"));
  world.scene.policy.meta.annotations[kPromoteAnnotation] = "kyoyu-3/2/accept-data-loss";
  EXPECT_EQ(PlanOf(world).promotion.phase, PromotionPhase::kRefused);
}

TEST(LostNotes, WordsOnThePrimaryAreReadAsTheyAreWritten) {
  for (const PrimaryWord& word : {PrimaryWord{0, "kyoyu-1"}, PrimaryWord{12, "kyoyu-3"}}) {
    EXPECT_EQ(DecodePrimary(EncodePrimary(word)).term, word.term);
    EXPECT_EQ(DecodePrimary(EncodePrimary(word)).instance, word.instance);
  }
  EXPECT_EQ(DecodePrimary("3 kyoyu-2\n").instance, "kyoyu-2");
  for (const char* broken : {"", "3", "3 ", "kyoyu-2", "-1 kyoyu-2", "x 3"}) {
    EXPECT_EQ(DecodePrimary(broken).instance, "") << broken;
    EXPECT_EQ(DecodePrimary(broken).term, 0) << broken;
  }
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
