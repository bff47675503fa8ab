// A promotion from beginning to end, on a small world of servers that only obeys; killed at every point; and refused.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class World {
 public:
  World() {
    scene.policy.spec.pin = "two";
    scene.resolved.ladder.pin = "two";
    scene.Settle();
    scene.Settle();
    for (const InstanceSeen& each : scene.seen.instances) {
      Server& server = servers_[each.name];
      server.writable = server.running = true;
      if (each.name != "kyoyu-1") server.writable = false;
    }
    Look();
  }

  void Ask(const std::string& request) {
    scene.policy.meta.annotations[kPromoteAnnotation] = request;
    Look();
  }

  // One pass of which only the first `actions` are carried out; then pods do what is wanted of them.
  Plan Pass(size_t actions = SIZE_MAX) {
    Look();
    Waited waited{waited_, how_long_};
    core::Decision decision;
    decision.from = decision.to = scene.seen.primary.tier;
    Result<Plan> planned = MakePlan(scene.context(), scene.seen, decision, scene.credentials, waited);
    EXPECT_TRUE(planned.has_value());
    Plan plan = *planned;
    std::string failure;
    for (size_t i = 0; i < plan.actions.size() && i < actions && failure.empty(); ++i) Do(plan.actions[i], failure);
    const std::string& waits = failure.empty() ? plan.waiting_for : failure;
    how_long_ = waits == waited_ ? how_long_ + std::chrono::seconds(5) : Duration::zero();
    waited_ = waits;
    RunPods();
    long writable = std::count_if(servers_.begin(), servers_.end(),
                                  [](const auto& each) { return each.second.running && each.second.writable; });
    EXPECT_LE(writable, 1) << "two primaries";
    Look();
    return plan;
  }

  // Passes until the promotion has ended.
  void Finish() {
    for (int i = 0; i < 60; ++i) {
      Pass();
      if (!scene.seen.promotion.Runs() && scene.seen.promotion.phase != PromotionPhase::kNone) return;
    }
    ADD_FAILURE() << "the promotion does not end; waiting for " << waited_;
  }

  [[nodiscard]] std::string Writable() const {
    for (const auto& [name, server] : servers_) {
      if (server.running && server.writable) return name;
    }
    return "";
  }
  Promotion& promotion() { return scene.seen.promotion; }

  Scene scene;
  bool receives_everything = true;  // Whether the heir gets the end of a clean shutdown.
  bool primary_is_dead = false;

 private:
  struct Server {
    bool running = false;
    bool writable = false;
    bool signal = false;  // standby.signal: at its next start it is a standby.
  };

  Json& Service() { return scene.seen.objects[{std::string(kube::kServices.plural), "kyoyu-primary"}]; }

  void Do(const Action& action, std::string& failure) {
    if (const auto* demote = std::get_if<DemotePrimary>(&action)) {
      if (primary_is_dead) return void(failure = "no answer");
      servers_[demote->promotion.from].signal = true;
      Promotion promotion = demote->promotion;
      promotion.fence.value = 1000;
      Service()["metadata"]["annotations"][kPromotionAnnotation] = EncodePromotion(promotion);
    } else if (const auto* promote = std::get_if<PromoteInstance>(&action)) {
      bool beside = !promote->old.empty() && servers_[promote->old].running;
      EXPECT_FALSE(beside) << "promoted beside a running primary";
      Server& server = servers_[promote->instance];
      if (!server.writable && promote->proof && !receives_everything) {
        return void(failure = NotProven(promote->instance, promote->old));
      }
      EXPECT_TRUE(server.running);
      server.writable = true;
      server.signal = false;
    } else {
      if (const auto* drop = std::get_if<DropSlot>(&action)) {
        if (!scene.seen.primary.slots.contains(drop->slot)) return;
      }
      Plan one;
      one.actions = {action};
      scene.Carry(one);
    }
  }

  // What the StatefulSet controller and kubelets do.
  void RunPods() {
    for (auto& [name, server] : servers_) {
      Json& set = scene.seen.objects[{std::string(kube::kStatefulSets.plural), name}];
      bool wanted = kube::IntAt(set, {"spec", "replicas"}, 1) != 0;
      set["status"]["replicas"] = wanted ? 1 : 0;
      if (!wanted) server.running = false;
      if (wanted && !server.running && !(name == "kyoyu-1" && primary_is_dead)) {
        server.running = true;
        server.writable = !server.signal;
      }
    }
    if (primary_is_dead) servers_["kyoyu-1"].running = false;
  }

  // What Observe would read.
  void Look() {
    Seen& seen = scene.seen;
    seen.promotion = DecodePromotion(kube::StringAt(Service(), {"metadata", "annotations", kPromotionAnnotation}));
    seen.term = std::atoll(kube::StringAt(Service(), {"metadata", "annotations", kTermAnnotation}).c_str());
    std::string selected = kube::StringAt(Service(), {"spec", "selector", kInstanceLabel});
    seen.primary_ordinal = selected.back() - '0';
    seen.positions.clear();
    for (InstanceSeen& each : seen.instances) {
      const Server& server = servers_[each.name];
      each.pod_ready = each.answered = server.running;
      each.pod_ip = server.running ? "10.0.0." + std::to_string(each.ordinal) : "";
      bool standby = server.running && !server.writable;
      each.streaming = standby && servers_[selected].writable && servers_[selected].running;
      each.replayed = seen.primary.wal;
      if (seen.primary.slots.contains(SlotName(each.name))) seen.primary.slots[SlotName(each.name)] = each.streaming;
      if (!server.running) continue;
      postgres::WalPosition position;
      position.in_recovery = standby;
      position.system_identifier = "7";
      position.timeline = 1;
      seen.positions[each.name] = position;
    }
    seen.primary.answered = servers_[selected].running;
  }

  std::map<std::string, Server> servers_;
  std::string waited_;
  Duration how_long_{0};
};

bool AnyoneIsHeld(const World& world) {
  for (const PoolerPodSeen& pod : world.scene.seen.poolers) {
    for (const poolers::DatabaseStats& row : pod.databases) {
      if (row.paused) return true;
    }
  }
  return false;
}

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
  for (size_t pass = 0; pass < 6; ++pass) {
    for (size_t actions = 0; actions < 5; ++actions) {
      SCOPED_TRACE("killed in pass " + std::to_string(pass) + " after " + std::to_string(actions) + " actions");
      World world;
      world.Ask("kyoyu-2/1");
      for (size_t i = 0; i < pass; ++i) world.Pass();
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
