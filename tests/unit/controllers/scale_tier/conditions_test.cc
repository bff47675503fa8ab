// What the conditions say, and what they must not.
#include <gmock/gmock.h>

#include <regex>

#include "tests/support/yaml.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;

// Every condition that a condition may be in: well-formed by the CRD's own patterns.
void ExpectWellFormed(const crds::ScaleTierPolicy& policy) {
  static const Json kSchema = pgtier::tests::LoadYaml(
      "crds/scaletierpolicies.yaml")["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
                                    ["properties"]["conditions"]["items"]["properties"];
  static const std::regex kReason(kSchema["reason"]["pattern"].get<std::string>());
  static const std::regex kType(kSchema["type"]["pattern"].get<std::string>());
  EXPECT_GE(policy.status.conditions.size(), 9U);
  for (const crds::Condition& condition : policy.status.conditions) {
    SCOPED_TRACE(condition.type + " " + condition.status + " " + condition.reason + ": " + condition.message);
    EXPECT_TRUE(std::regex_match(condition.reason, kReason));
    EXPECT_TRUE(std::regex_match(condition.type, kType));
    EXPECT_THAT(condition.status, testing::AnyOf("True", "False", "Unknown"));
    EXPECT_EQ(condition.observed_generation, policy.meta.generation);
    EXPECT_TRUE(condition.last_transition.has_value());
  }
}

TEST(Conditions, AreWellFormedThroughAWholeClimbAndBack) {
  Scene scene;
  for (int i = 0; i < 40; ++i) {
    if (i == 10) Read(scene, "by-hand", core::Reading::Of(1));
    if (i == 15) Read(scene, "pool-utilisation", core::Reading::Unknown("PoolersSilent: 1"));
    if (i == 20) scene.Edit(TwoTiers({{"pin", "one"}}));
    if (i == 25) scene.Edit(TwoTiers({{"mode", "Observe"}}));
    if (i == 26) scene.Edit(TwoTiers({{"pooler", {{"engine", "PgCat"}}}}));
    if (i == 27) scene.Edit(TwoTiers());
    if (i == 28) scene.paused = true;
    if (i == 30) scene.policy.problems = {"spec.x: wrong"};
    if (i == 32) scene.policy.problems.clear();
    if (i == 33) scene.paused = false;
    if (i == 35) scene.failure = "refused";
    scene.MakePass();
    ExpectWellFormed(scene.policy);
    if (i % 2 == 1) scene.StartPods();
    scene.now += std::chrono::seconds(15);
  }
}

TEST(Conditions, TransitionTimesChangeWithTheStatusOnly) {
  Scene scene;
  scene.MakePass();
  WallTime begun = *scene.ConditionOf("Ready").last_transition;
  EXPECT_EQ(scene.ConditionOf("Ready").status, "False");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "PrimaryNotReady");
  scene.now += std::chrono::seconds(30);
  scene.StartPods();
  scene.MakePass();
  EXPECT_EQ(*scene.ConditionOf("Ready").last_transition, begun);
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  WallTime ready = *scene.ConditionOf("Ready").last_transition;
  EXPECT_GT(ready, begun);
  scene.now += std::chrono::hours(1);
  scene.Edit(TwoTiers());
  scene.MakePass();
  EXPECT_EQ(*scene.ConditionOf("Ready").last_transition, ready);
  EXPECT_EQ(scene.ConditionOf("Ready").observed_generation, scene.policy.meta.generation);
}

TEST(Conditions, ReadyStaysTrueWhileClimbing) {
  Scene scene;
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  int climbing = 0;
  for (int i = 0; i < 20; ++i) {
    scene.MakePass();
    EXPECT_EQ(scene.ConditionOf("Ready").status, "True") << scene.ConditionOf("Ready").message;
    EXPECT_EQ(scene.ConditionOf("Reconciling").status, "False") << "a tier change is no new generation";
    if (scene.ConditionOf("Climbing").status == "True") ++climbing;
    if (i == 3) {
      EXPECT_EQ(scene.ConditionOf("Climbing").message, "one to two: waiting for kyoyu-2: base backup of the primary");
      EXPECT_EQ(scene.ConditionOf("Ready").reason, "Climbing");
      EXPECT_EQ(scene.policy.status.tier, "one");
      EXPECT_EQ(scene.policy.status.target_tier, "two");
      EXPECT_THAT(scene.policy.status.plan.steps, testing::SizeIs(3));
    }
    if (i > 3) scene.StartPods();
    scene.now += std::chrono::seconds(15);
  }
  EXPECT_GT(climbing, 4);
  EXPECT_EQ(scene.ConditionOf("Climbing").status, "False");
  EXPECT_EQ(scene.ConditionOf("Degraded").status, "False");
  EXPECT_EQ(scene.policy.status.plan.hash, "") << "the last tier has no next change";
}

TEST(Conditions, ReconcilingEndsWithTheGenerationAndTroubleDoesNotBringItBack) {
  Scene scene;
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "True");
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "False");
  EXPECT_EQ(scene.ConditionOf("Reconciling").reason, "Realised");

  scene.Instance("kyoyu-2").pod_ready = scene.Instance("kyoyu-2").streaming = false;
  scene.now += std::chrono::minutes(1);
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "False");
  EXPECT_EQ(scene.ConditionOf("Degraded").status, "True");
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "ReplicasUnhealthy");
  EXPECT_THAT(scene.ConditionOf("Degraded").message, StartsWith("1 of 2 replicas may take reads"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");

  scene.seen.primary.answered = false;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "False");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "False");

  scene.Edit(TwoTiers());
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "True") << "a new generation is to be realised";
}

TEST(Conditions, WhatIsNotActedOnIsNotRealised) {
  Scene scene;
  scene.paused = true;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "False");
  EXPECT_EQ(scene.ConditionOf("Reconciling").reason, "Paused");
  scene.paused = false;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").status, "True") << "now it is being realised";

  Scene stalled;
  stalled.policy.problems = {"spec.tiers[0].x: wrong"};
  stalled.MakePass();
  EXPECT_EQ(stalled.ConditionOf("Reconciling").reason, "Stalled");
  EXPECT_EQ(stalled.ConditionOf("Stalled").message, "spec.tiers[0].x: wrong");
  EXPECT_EQ(stalled.ConditionOf("Stalled").status, "True");
  EXPECT_EQ(stalled.ConditionOf("Ready").status, "Unknown");
}

TEST(Conditions, ObserveCreatesNothingAndSaysWhatItWouldDo) {
  Scene scene(TwoTiers({{"mode", "Observe"}}));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  Read(scene, "by-hand", core::Reading::Of(1));
  Scene::Pass pass = scene.MakePass();
  EXPECT_THAT(scene.seen.objects, testing::IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.policy.status.target_tier, "");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "WouldEnterTwo");
  EXPECT_THAT(scene.ConditionOf("Ready").message, HasSubstr("would enter two: by-hand demanded"));
  EXPECT_EQ(scene.ConditionOf("Climbing").status, "False");
  ASSERT_EQ(pass.notes.size(), 1U);
  EXPECT_EQ(pass.notes[0].reason, "WouldEnterTwo");
}

TEST(Conditions, PausedActsOnNothingAndStaysReady) {
  Scene scene;
  scene.Settle();
  scene.paused = true;
  Read(scene, "by-hand", core::Reading::Of(1));
  Scene::Pass pass = scene.MakePass();
  EXPECT_TRUE(pass.plan.actions.empty());
  EXPECT_EQ(scene.policy.status.target_tier, "");
  EXPECT_EQ(scene.ConditionOf("Paused").status, "True");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "Paused");
  scene.paused = false;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Paused").status, "False");
  EXPECT_EQ(scene.policy.status.target_tier, "two");
}

TEST(Conditions, ApprovalLeavesReadyTrue) {
  Json object = TwoTiers();
  object["spec"]["tiers"][1]["approval"] = "Required";
  Scene scene(object);
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "True");
  EXPECT_THAT(scene.ConditionOf("ApprovalRequired").message, HasSubstr("two is due"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "ApprovalRequired");
  EXPECT_EQ(scene.policy.status.tier, "one");
}

TEST(Conditions, MissingMetricsLeaveReadyTrue) {
  Scene scene;
  scene.Settle();
  Read(scene, "pool-utilisation", core::Reading::Unknown("PrometheusUnreachable: connection refused"));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("MetricsAvailable").status, "False");
  EXPECT_EQ(scene.ConditionOf("MetricsAvailable").message,
            "pool-utilisation: PrometheusUnreachable: connection refused");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  Read(scene, "pool-utilisation", core::Reading::Unknown("NotAvailable: this release does not read sql"));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("MetricsAvailable").status, "True") << "what is not done yet is not missing";
}

TEST(Conditions, WhatIsNotAvailableIsListed) {
  Json object = TwoTiers();
  object["spec"]["tiers"][1]["sharding"] = Json::parse(R"({"external": {"host": "h", "adminSecret": {"name": "s"}}})");
  Scene scene(object);
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("NotAvailable").status, "True");
  EXPECT_THAT(scene.ConditionOf("NotAvailable").message, HasSubstr("yet: spec.tiers[1].sharding"));
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/two").reason, "NotAvailable");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.ConditionOf("Stalled").status, "False");
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "NotAvailable");

  Json base = TwoTiers(Json::parse(R"({"routing": {"strategy": "Random"}, "readReplicas": {"min": 1}})"));
  Scene several(base);
  several.MakePass();
  EXPECT_THAT(several.ConditionOf("NotAvailable").message,
              testing::EndsWith(
                  "yet: spec.routing.strategy: Random (PgBouncer does RoundRobin and Weighted; PgCat does Random)"));

  Json sharded = TwoTiers();
  sharded["spec"]["tiers"][0]["sharding"] = Json::parse(R"({"citus": {"workers": 3}})");
  Scene whole(sharded);
  whole.MakePass();
  EXPECT_EQ(whole.ConditionOf("Stalled").status, "True");
  EXPECT_EQ(whole.ConditionOf("Stalled").reason, "NotAvailable");
  EXPECT_EQ(whole.ConditionOf("Ready").status, "False");
  EXPECT_THAT(whole.ConditionOf("Ready").message, HasSubstr("spec.tiers[0].sharding"));
}

TEST(Conditions, AFailureIsSaidAndStallsOnlyWhereAPersonMustAct) {
  Scene scene;
  scene.failure = "apply Service kyoyu-rw: Service kyoyu-rw exists already and is not of this policy";
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Reconciling").message, scene.failure);
  EXPECT_EQ(scene.ConditionOf("Stalled").status, "False");
  EXPECT_EQ(scene.ConditionOf("Ready").message, scene.failure);
  scene.needs_person = true;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Stalled").status, "True");
  EXPECT_EQ(scene.ConditionOf("Stalled").message, scene.failure);
}

TEST(Conditions, ARefusedSuperuserIsNamed) {
  Scene scene;
  scene.Settle();
  scene.seen.primary = {};
  scene.seen.primary.bad_password = true;
  scene.seen.primary.error = "password authentication failed";
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "SuperuserPasswordRefused");
  EXPECT_THAT(scene.ConditionOf("Ready").message, HasSubstr("Secret kyoyu-internal"));
  EXPECT_EQ(scene.ConditionOf("Stalled").status, "True");
}

TEST(Conditions, WithoutAPoolerNobodyIsServed) {
  Scene scene;
  scene.Settle();
  scene.PoolerPod("ro").ready = false;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Ready").status, "False");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "PoolerNotReady");
  EXPECT_THAT(scene.ConditionOf("Ready").message, HasSubstr("kyoyu-ro"));
}

TEST(Conditions, SettingsThatWaitForARestartAreNamed) {
  Scene scene;
  scene.Settle();
  scene.Instance("kyoyu-1").restart_pending = true;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "RestartPending");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
