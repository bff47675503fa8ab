// A promotion from beginning to end, on a small world of servers that only obeys; killed at every point; and refused.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/promotion_world.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Promotion, TakesAReplicaToThePrimarysPlaceAndTheOldOneBackAsAReplica) {
  World world;
  world.Ask("kyoyu-2/1");
  EXPECT_THAT(InWords(world.Pass()), ElementsAre("apply Service kyoyu-primary"));
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kFencing);
  EXPECT_THAT(InWords(world.Pass()), ElementsAre("demote kyoyu-1"));
  EXPECT_THAT(InWords(world.Pass()), ElementsAre("hold clients of kyoyu-pooler-rw-0", "apply StatefulSet kyoyu-1"));
  EXPECT_THAT(InWords(world.Pass()),
              ElementsAre("promote kyoyu-2", "apply ConfigMap kyoyu-postgres", "sync kyoyu-2-0",
                          "apply Service kyoyu-primary", "let clients go on of kyoyu-pooler-rw-0"));
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.scene.seen.primary_ordinal, 2);
  EXPECT_EQ(world.scene.seen.term, 1);
  world.scene.seen.primary.slots = {{"pgtier_kyoyu_1", false}, {"pgtier_kyoyu_3", true}};
  Plan rejoin = world.Pass();
  EXPECT_THAT(InWords(rejoin), Contains("apply StatefulSet kyoyu-1"));
  Plan settled = world.Pass();
  EXPECT_THAT(settled.routed, ElementsAre("kyoyu-1", "kyoyu-3"));
  EXPECT_EQ(world.Writable(), "kyoyu-2");
  const Json* set = world.scene.seen.Object(kube::kStatefulSets, "kyoyu-1");
  Json environment = set->at(Json::json_pointer("/spec/template/spec/containers/0/env"));
  EXPECT_THAT(environment, Contains(Json{{"name", "PGTIER_BOOTSTRAP"}, {"value", "basebackup"}}));
  EXPECT_THAT(environment, Contains(Json{{"name", "PGTIER_TERM"}, {"value", "1"}}));
  EXPECT_EQ((*world.scene.seen.Object(kube::kConfigMaps, "kyoyu-postgres"))["data"]["primary"], "1 kyoyu-2");
}

TEST(Promotion, APrimaryWhoseSetIsBeingMadeAnewIsStoppedAllTheSame) {
  World world;
  world.scene.seen.objects.erase({std::string(kube::kStatefulSets.plural), "kyoyu-1"});
  world.Ask("kyoyu-2/1");
  world.Pass();
  world.scene.seen.objects.erase({std::string(kube::kStatefulSets.plural), "kyoyu-1"});
  EXPECT_THAT(InWords(world.Pass()), ElementsAre("demote kyoyu-1"));
  world.scene.seen.objects.erase({std::string(kube::kStatefulSets.plural), "kyoyu-1"});
  Plan stopping = world.Pass();
  ASSERT_THAT(InWords(stopping), ElementsAre("hold clients of kyoyu-pooler-rw-0", "apply StatefulSet kyoyu-1"));
  EXPECT_EQ(std::get<ApplyObject>(stopping.actions[1]).object["spec"]["replicas"], 0) << "it must not start again";
  world.Finish();
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

// Its template would differ, and that asks for a restart.
TEST(Promotion, ASetMadeAnewForALargerVolumeKeepsHowThePrimaryWasMade) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Finish();
  world.Pass();
  world.Pass();
  std::pair<std::string, std::string> key{kube::kStatefulSets.plural, "kyoyu-2"};
  Json before = world.scene.seen.objects[key];
  Json pod{{"metadata", {{"name", "kyoyu-2-0"}, {"labels", Json::object()}}},
           {"spec", before.at(Json::json_pointer("/spec/template/spec"))}};
  world.scene.seen.objects[{std::string(kube::kPods.plural), "kyoyu-2-0"}] = pod;
  world.scene.seen.objects.erase(key);
  Plan plan = world.scene.PlanFor("two", "two");
  world.scene.Carry(plan);
  EXPECT_EQ(world.scene.seen.objects[key]["spec"]["template"], before["spec"]["template"]);
}

TEST(Promotion, TheNewPrimarysPodIsNotAskedToRestart) {
  World world;
  Json before = *world.scene.seen.Object(kube::kStatefulSets, "kyoyu-2");
  world.Ask("kyoyu-2/1");
  world.Finish();
  world.Pass();
  EXPECT_EQ((*world.scene.seen.Object(kube::kStatefulSets, "kyoyu-2"))["spec"], before["spec"]);
}

TEST(Promotion, ClientsOfThePrimaryAreHeldAndThoseOfReplicasAreNot) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Pass();
  world.Pass();
  EXPECT_FALSE(AnyoneIsHeld(world)) << "before there is need";
  world.Pass();
  EXPECT_TRUE(AnyoneIsHeld(world));
  EXPECT_FALSE(world.scene.PoolerPod("ro").databases[0].paused) << "replicas take reads all the while";
  world.Finish();
  EXPECT_FALSE(AnyoneIsHeld(world));
}

TEST(Promotion, ReadsThatAreOnThePrimaryAreHeldToo) {
  World world;
  for (InstanceSeen& each : world.scene.seen.instances) each.lag = std::chrono::seconds(9);
  core::Decision hold;
  hold.from = hold.to = "two";
  world.scene.Carry(*MakePlan(world.scene.context(), world.scene.seen, hold, world.scene.credentials));
  ASSERT_EQ(world.scene.RoutedTo("ro"), kPrimaryHost);
  world.Ask("kyoyu-2/1");
  for (int i = 0; i < 3; ++i) world.Pass();
  EXPECT_TRUE(world.scene.PoolerPod("ro").databases[0].paused);
  world.Finish();
  EXPECT_FALSE(AnyoneIsHeld(world));
}

TEST(Promotion, WhomAnOperatorHeldThatDiedTheNextLetsGoOn) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Finish();
  world.scene.PoolerPod("rw").databases[0].paused = true;
  EXPECT_THAT(InWords(world.Pass()), Contains("let clients go on of kyoyu-pooler-rw-0"));
  EXPECT_FALSE(AnyoneIsHeld(world));
}

TEST(Promotion, BackAgainIsAPromotionLikeAnyOther) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Finish();
  for (int i = 0; i < 4; ++i) world.Pass();
  world.Ask("kyoyu-1/2");
  world.Finish();
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_EQ(world.scene.seen.term, 2);
  for (int i = 0; i < 4; ++i) world.Pass();
  EXPECT_THAT(world.Pass().routed, ElementsAre("kyoyu-2", "kyoyu-3"));
}

// Killed after any number of actions of any pass, twice over: the next process finishes it.
TEST(Promotion, KilledAtAnyPointItIsFinishedByTheNext) {
  World before;
  before.Ask("kyoyu-2/1");
  for (size_t pass = 0; pass < 6; ++pass, before.Pass()) {
    World probe = before;
    size_t most = probe.Pass().actions.size();
    for (size_t actions = 0; actions <= most; ++actions) {
      SCOPED_TRACE("killed in pass " + std::to_string(pass) + " after " + std::to_string(actions) + " actions");
      World world = before;
      world.Pass(actions);
      world.Pass(actions);
      world.Finish();
      EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
      EXPECT_EQ(world.Writable(), "kyoyu-2");
      EXPECT_EQ(world.scene.seen.primary_ordinal, 2);
      EXPECT_EQ(world.scene.seen.term, 1);
      world.Pass();
      EXPECT_FALSE(AnyoneIsHeld(world)) << "clients wait for ever";
    }
  }
}

TEST(Promotion, ItIsCarriedOutOnce) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Finish();
  for (int i = 0; i < 4; ++i) world.Pass();
  Plan plan = world.Pass();
  EXPECT_THAT(InWords(plan), Not(Contains("apply Service kyoyu-primary")));
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(Promotion, TheRoleGoesBackWhereTheHeirDoesNotHoldEverything) {
  World world;
  world.receives_everything = false;
  world.Ask("kyoyu-2/1");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kReturned);
  EXPECT_THAT(world.promotion().message, HasSubstr("kyoyu-2 does not hold the end of what kyoyu-1 wrote"));
  EXPECT_FALSE(AnyoneIsHeld(world));
  EXPECT_EQ(world.Writable(), "kyoyu-1");
  EXPECT_EQ(world.scene.seen.primary_ordinal, 1);
}

TEST(Promotion, OfADeadPrimaryIsRefusedUnlessItsLossIsAccepted) {
  World world;
  world.primary_is_dead = true;
  world.Pass();
  world.Ask("kyoyu-2/1");
  world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kRefused);
  EXPECT_THAT(world.promotion().message, HasSubstr("kubectl pgtier promote kyoyu kyoyu-2 --force"));
  world.Ask("kyoyu-2/2/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_THAT(world.promotion().message, HasSubstr("what it had not received is lost"));
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(Promotion, APrimaryThatDiesWhileItIsFencedIsWaitedForUntilItsLossIsAccepted) {
  World world;
  world.Ask("kyoyu-2/1");
  world.Pass();
  world.primary_is_dead = true;
  for (int i = 0; i < 10; ++i) world.Pass();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kFencing);
  world.Ask("kyoyu-2/2/accept-data-loss");
  world.Finish();
  EXPECT_EQ(world.promotion().phase, PromotionPhase::kDone);
  EXPECT_EQ(world.Writable(), "kyoyu-2");
}

TEST(Promotion, WithLossTheNewestStandbyOnly) {
  World world;
  world.primary_is_dead = true;
  world.Pass();
  world.Ask("kyoyu-2/1/accept-data-loss");
  world.scene.seen.positions["kyoyu-3"].received.value = 5000;
  core::Decision decision;
  decision.from = decision.to = "two";
  Plan plan = *MakePlan(world.scene.context(), world.scene.seen, decision, world.scene.credentials);
  EXPECT_EQ(plan.promotion.phase, PromotionPhase::kRefused);
  EXPECT_EQ(plan.promotion.message, "kyoyu-3 has received more than kyoyu-2: promote that one");
}

TEST(Promotion, IsRefusedWithWhatIsInTheWay) {
  struct Case {
    const char* request;
    std::function<void(Seen&)> change;
    const char* says;
  };
  for (const Case& each : std::initializer_list<Case>{
           {"kyoyu-2", [](Seen&) {}, "must be <instance>/<id>"},
           {"kyoyu-9/1", [](Seen&) {}, "there is no replica kyoyu-9; there are: kyoyu-2, kyoyu-3"},
           {"kyoyu-1/1", [](Seen&) {}, "kyoyu-1 is the primary already"},
           {"kyoyu-2/1", [](Seen& seen) { seen.positions.erase("kyoyu-2"); }, "kyoyu-2 does not answer"},
           {"kyoyu-2/1", [](Seen& seen) { seen.positions["kyoyu-2"].timeline = 3; }, "another timeline"},
           {"kyoyu-2/1", [](Seen& seen) { seen.positions["kyoyu-2"].system_identifier = "8"; }, "another database"},
           {"kyoyu-2/1", [](Seen& seen) { seen.primary.wal.value = 1U << 30; }, "bytes behind"},
           {"kyoyu-2/1", [](Seen& seen) { seen.instances[1].replay_paused = true; }, "its replay is paused"},
           {"kyoyu-2/1", [](Seen& seen) { seen.instances[1].streaming = false; }, "does not stream from kyoyu-1"}}) {
    SCOPED_TRACE(each.says);
    World world;
    world.Ask(each.request);
    each.change(world.scene.seen);
    core::Decision decision;
    decision.from = decision.to = "two";
    Plan plan = *MakePlan(world.scene.context(), world.scene.seen, decision, world.scene.credentials);
    EXPECT_FALSE(plan.promotion.Runs());
    EXPECT_THAT(plan.promotion.message, HasSubstr(each.says));
    EXPECT_THAT(InWords(plan), ElementsAre("apply Service kyoyu-primary")) << "only the refusal is noted";
  }
}

TEST(Promotion, WaitsForNoTierChangeButRefuses) {
  World world;
  world.Ask("kyoyu-2/1");
  EXPECT_THAT(world.scene.PlanFor("one", "two").promotion.message, HasSubstr("the tier changes just now"));
}

TEST(Promotion, ALostStatusInTheMiddleDoesNotStartTheOldPrimaryAgain) {
  World world;
  world.Ask("kyoyu-2/1");
  for (int i = 0; i < 3; ++i) world.Pass();
  Plan plan = MakeRecoveryPlan(world.scene.context(), world.scene.seen, world.scene.credentials);
  EXPECT_THAT(InWords(plan), Not(Contains("apply StatefulSet kyoyu-1")));
  EXPECT_THAT(InWords(plan), Contains("promote kyoyu-2"));
}

TEST(Promotion, SurvivesTheWayThroughItsAnnotation) {
  Promotion promotion{"kyoyu-2/1", PromotionPhase::kFencing, "kyoyu-1", "kyoyu-2", true, {77}, "words \"quoted\""};
  Promotion read = DecodePromotion(EncodePromotion(promotion));
  EXPECT_EQ(EncodePromotion(read), EncodePromotion(promotion));
  EXPECT_EQ(read.fence.value, 77U);
  EXPECT_TRUE(read.force);
  EXPECT_FALSE(DecodePromotion("").Runs());
  EXPECT_FALSE(DecodePromotion("{\"phase\": 7}").Runs());
  EXPECT_EQ(EncodePromotion({}), "");
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
