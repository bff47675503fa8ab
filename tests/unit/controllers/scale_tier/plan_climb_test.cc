// From nothing to the first tier, at rest, and up to the next one.
#include <gmock/gmock.h>

#include "controllers/scale_tier/planner.h"
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

constexpr char kReplicaHosts[] = "kyoyu-2.data.svc,kyoyu-3.data.svc";

size_t PlaceOf(const std::vector<std::string>& words, const std::string& word) {
  auto found = std::find(words.begin(), words.end(), word);
  EXPECT_NE(found, words.end()) << word << " is missing in " << testing::PrintToString(words);
  return static_cast<size_t>(found - words.begin());
}

// Names of Secrets and ConfigMaps that the pods of an object mount.
std::vector<std::string> Mounted(const Json& object) {
  std::vector<std::string> mounted;
  const Json& volumes = kube::At(object, {"spec", "template", "spec", "volumes"});
  for (const Json& volume : volumes) {
    if (volume.contains("secret")) mounted.push_back("Secret " + volume["secret"]["secretName"].get<std::string>());
    if (volume.contains("configMap")) mounted.push_back("ConfigMap " + volume["configMap"]["name"].get<std::string>());
  }
  return mounted;
}

TEST(PlanClimb, AFreshPolicyAppliesEverythingOnce) {
  Scene scene;
  Plan plan = scene.PlanFor("", "one");
  std::vector<std::string> words = InWords(plan);
  EXPECT_THAT(
      words, testing::UnorderedElementsAre(
                 "apply Secret kyoyu-ca", "apply Secret kyoyu-postgres-tls", "apply Secret kyoyu-pooler-tls",
                 "apply Secret kyoyu-app", "apply Secret kyoyu-internal", "apply ConfigMap kyoyu-postgres",
                 "apply Service kyoyu-primary", "apply PodDisruptionBudget kyoyu-postgres", "apply Service kyoyu-1",
                 "apply StatefulSet kyoyu-1", "apply Service kyoyu", "apply Service kyoyu-rw", "apply Service kyoyu-ro",
                 "apply Secret kyoyu-pooler-rw", "apply Deployment kyoyu-pooler-rw",
                 "apply PodDisruptionBudget kyoyu-pooler-rw", "apply Secret kyoyu-pooler-ro",
                 "apply Deployment kyoyu-pooler-ro", "apply PodDisruptionBudget kyoyu-pooler-ro"));
  EXPECT_EQ(plan.waiting_for, "kyoyu-1 to start");
  EXPECT_EQ(plan.image, "postgres:release");
}

TEST(PlanClimb, WhatIsMountedComesFirst) {
  Scene scene;
  Plan plan = scene.PlanFor("", "one");
  std::vector<std::string> words = InWords(plan);
  int mounts = 0;
  for (const Action& action : plan.actions) {
    const auto& object = std::get<ApplyObject>(action).object;
    for (const std::string& mounted : Mounted(object)) {
      ++mounts;
      EXPECT_LT(PlaceOf(words, "apply " + mounted), PlaceOf(words, InWords(action)));
    }
  }
  EXPECT_EQ(mounts, 7);
}

TEST(PlanClimb, ASecondPassOverTheSameObjectsAppliesNothing) {
  Scene scene;
  scene.Carry(scene.PlanFor("", "one"));
  EXPECT_THAT(InWords(scene.PlanFor("one", "one")), IsEmpty());
}

TEST(PlanClimb, TheFirstTierIsRecordedOnceAllReadsBackAsWanted) {
  Scene scene;
  scene.Carry(scene.PlanFor("", "one"));
  scene.StartPods();
  Plan bootstrap = scene.PlanFor("one", "one");
  EXPECT_THAT(InWords(bootstrap), Contains("bootstrap"));
  EXPECT_THAT(InWords(bootstrap), Not(Contains("record one")));
  EXPECT_EQ(bootstrap.waiting_for, "roles, database and extensions to be made");
  scene.Carry(bootstrap);
  scene.Carry(scene.PlanFor("one", "one"));  // The poolers take their configuration.
  Plan record = scene.PlanFor("one", "one");
  EXPECT_THAT(InWords(record), ElementsAre("record one"));
  EXPECT_EQ(record.waiting_for, "the tier to be recorded in the database");
  scene.Carry(record);
  Plan rest = scene.PlanFor("one", "one");
  EXPECT_THAT(InWords(rest), IsEmpty());
  EXPECT_EQ(rest.waiting_for, "");
  EXPECT_EQ(scene.RoutedTo("rw"), kPrimaryHost);
  EXPECT_EQ(scene.RoutedTo("ro"), kPrimaryHost);
}

TEST(PlanClimb, WhatBootstrapReadsRunsItAgain) {
  Scene scene;
  scene.Settle();
  EXPECT_THAT(InWords(scene.PlanFor("one", "one")), IsEmpty());
  Scene with_extension = scene;
  with_extension.policy.spec.managed->extensions = {"vector"};
  EXPECT_THAT(InWords(with_extension.PlanFor("one", "one")), Contains("bootstrap"));
  Scene other_password = scene;
  other_password.credentials.app = "another";
  EXPECT_THAT(InWords(other_password.PlanFor("one", "one")), Contains("bootstrap"));
}

TEST(PlanClimb, SlotsComeBeforeTheInstancesThatUseThem) {
  Scene scene;
  scene.Settle();
  Plan plan = scene.PlanFor("one", "two");
  EXPECT_EQ(plan.waiting_for, "kyoyu-2: base backup of the primary");
  for (const char* ordinal : {"2", "3"}) {
    std::vector<std::string> words = InWords(scene.PlanFor("one", "two"));
    EXPECT_LT(PlaceOf(words, std::string("slot pgtier_kyoyu_") + ordinal),
              PlaceOf(words, std::string("apply StatefulSet kyoyu-") + ordinal));
    scene.Carry(scene.PlanFor("one", "two"));
    scene.StartPods();
  }
  EXPECT_EQ(plan.waiting_for, "kyoyu-2: base backup of the primary");
}

TEST(PlanClimb, ReplicasAreClonedOneAfterTheOther) {
  Scene scene;
  scene.Settle();
  scene.Carry(scene.PlanFor("one", "two"));
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), IsEmpty()) << "a base backup runs";
  Scene broken = scene;
  broken.Instance("kyoyu-2").trouble = "Unschedulable: 0/1 nodes";
  EXPECT_THAT(InWords(broken.PlanFor("one", "two")), IsEmpty()) << "so says each pod whose volume is being made";
  broken.Instance("kyoyu-2").trouble_lasts = true;
  EXPECT_THAT(InWords(broken.PlanFor("one", "two")), Contains("apply StatefulSet kyoyu-3")) << "it may take for ever";
  scene.StartPods();
  scene.Instance("kyoyu-2").lag = std::chrono::hours(1);
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), Contains("apply StatefulSet kyoyu-3")) << "it only has to catch up";
}

TEST(PlanClimb, NoReplicaIsMadeBeforeThePrimaryHasItsRoles) {
  Scene scene;
  scene.Carry(scene.PlanFor("", "one"));
  scene.StartPods();
  ASSERT_EQ(scene.seen.primary.installed, "");
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), Not(Contains("apply StatefulSet kyoyu-2")));
}

TEST(PlanClimb, ReadsMoveWhenAllReplicasMayTakeThem) {
  Scene scene;
  scene.Settle();
  for (int replica = 0; replica < 2; ++replica) {
    scene.Carry(scene.PlanFor("one", "two"));
    scene.StartPods();
  }
  scene.Instance("kyoyu-3").lag = std::chrono::seconds(5);
  Plan waiting = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(waiting), IsEmpty()) << "one of two must not take reads";
  EXPECT_EQ(waiting.waiting_for, "kyoyu-3: to catch up with the primary");
  EXPECT_THAT(waiting.routed, IsEmpty());

  scene.Instance("kyoyu-3").lag = std::chrono::milliseconds(1);
  Plan moving = scene.PlanFor("one", "two");
  std::vector<std::string> words = InWords(moving);
  EXPECT_THAT(words, ElementsAre("apply Secret kyoyu-pooler-ro", "sync kyoyu-pooler-ro-0", "reload kyoyu-pooler-ro-0"));
  EXPECT_THAT(moving.waiting_for, HasSubstr("kyoyu-pooler-ro-0 to take its configuration"));
  EXPECT_THAT(moving.routed, ElementsAre("kyoyu-2", "kyoyu-3"));
  scene.Carry(moving);
  EXPECT_EQ(scene.RoutedTo("ro"), kReplicaHosts);
  EXPECT_EQ(scene.RoutedTo("rw"), kPrimaryHost);
}

TEST(PlanClimb, TheTierIsRecordedWhenThePoolersSayThatTheyRunIt) {
  Scene scene;
  scene.Settle();
  for (int replica = 0; replica < 2; ++replica) {
    scene.Carry(scene.PlanFor("one", "two"));
    scene.StartPods();
  }
  std::vector<poolers::DatabaseStats> before = scene.PoolerPod("ro").databases;
  scene.Carry(scene.PlanFor("one", "two"));
  std::vector<poolers::DatabaseStats> after = scene.PoolerPod("ro").databases;

  scene.PoolerPod("ro").databases = before;  // The reload did not reach it.
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), ElementsAre("sync kyoyu-pooler-ro-0", "reload kyoyu-pooler-ro-0"));
  scene.PoolerPod("ro").answered = false;
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), IsEmpty());
  scene.PoolerPod("ro").answered = true;
  scene.PoolerPod("ro").databases = after;
  scene.PoolerPod("ro").ready = false;
  Plan not_ready = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(not_ready), IsEmpty());
  EXPECT_EQ(not_ready.waiting_for, "pooler ro: 0 of 1 pods ready");
  scene.PoolerPod("ro").ready = true;
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), ElementsAre("record two"));
}

TEST(PlanClimb, MoreReplicasLeaveReadsWithTheOldOnesMeanwhile) {
  Json three = TwoTiers();
  three["spec"]["tiers"].push_back(Json::parse(
      R"({"name": "three", "enterWhen": {"any": [{"name": "more", "demand": {}}]}, "readReplicas": {"min": 3}})"));
  Scene scene(three);
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  ASSERT_EQ(scene.policy.status.tier, "two");
  Plan plan = scene.PlanFor("two", "three");
  EXPECT_THAT(InWords(plan), Contains("apply StatefulSet kyoyu-4"));
  scene.Carry(plan);
  EXPECT_EQ(scene.RoutedTo("ro"), kReplicaHosts) << "reads were taken from replicas that work";
  EXPECT_THAT(plan.routed, ElementsAre("kyoyu-2", "kyoyu-3"));
  scene.StartPods();
  scene.Carry(scene.PlanFor("two", "three"));
  EXPECT_EQ(scene.RoutedTo("ro"), std::string(kReplicaHosts) + ",kyoyu-4.data.svc");
}

TEST(PlanClimb, StandbyReplicasRunAndTakeNoReads) {
  Json object = TwoTiers();
  object["spec"]["tiers"][1]["routing"] = {{"rollout", "Standby"}};
  Scene scene(object);
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.Instance("kyoyu-3").streaming, true);
  EXPECT_EQ(scene.RoutedTo("ro"), kPrimaryHost);
}

TEST(PlanClimb, WeightsShareReadsOut) {
  Json object = TwoTiers();
  object["spec"]["tiers"][1]["routing"] = Json::parse(
      R"({"strategy": "Weighted", "weights": [{"name": "kyoyu-3", "weight": 2}, {"name": "kyoyu-9", "weight": 7}]})");
  Scene scene(object);
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  EXPECT_EQ(scene.RoutedTo("ro"), "kyoyu-3.data.svc,kyoyu-2.data.svc,kyoyu-3.data.svc");
  EXPECT_EQ(scene.RoutedTo("rw"), kPrimaryHost);

  object["spec"]["tiers"][1]["routing"]["weights"][0]["weight"] = 0;
  scene.Edit(object);
  scene.Settle();
  EXPECT_EQ(scene.RoutedTo("ro"), "kyoyu-2.data.svc");
  EXPECT_FALSE(IsRouted(scene.policy.status, "kyoyu-3"));

  // Nobody who may takes any: the primary does.
  scene.Instance("kyoyu-2").lag = std::chrono::seconds(5);
  scene.Carry(scene.PlanFor("two", "two"));
  EXPECT_EQ(scene.RoutedTo("ro"), kPrimaryHost);

  // Without the strategy they are only written down.
  object["spec"]["tiers"][1]["routing"]["strategy"] = "RoundRobin";
  scene.Instance("kyoyu-2").lag.reset();
  scene.Edit(object);
  scene.Settle();
  EXPECT_EQ(scene.RoutedTo("ro"), kReplicaHosts);
}

TEST(PlanClimb, ATierThatIsNotThereIsAnError) {
  Scene scene;
  core::Decision decision;
  decision.to = "none";
  Result<Plan> plan = MakePlan(scene.context(), scene.seen, decision, scene.credentials);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
