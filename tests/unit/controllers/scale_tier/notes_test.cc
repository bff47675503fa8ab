// What people are told of, as Events.
#include <gmock/gmock.h>

#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::vector<std::string> Reasons(const std::vector<Note>& notes) {
  std::vector<std::string> reasons;
  for (const Note& note : notes) reasons.push_back((note.warning ? "! " : "") + note.reason);
  return reasons;
}

TEST(Notes, AClimbIsToldOnceWithItsReason) {
  Scene scene;
  Scene::Pass first = scene.MakePass();
  EXPECT_THAT(Reasons(first.notes), ElementsAre("TierEntered")) << "a policy that has only just come is not ready yet";
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  std::vector<std::string> told;
  for (int i = 0; i < 12; ++i) {
    for (const Note& note : scene.MakePass().notes) {
      told.push_back(note.reason);
      if (note.reason == "TierChangeStarted") {
        EXPECT_EQ(note.message, "one to two: by-hand demanded in spec.demands");
      }
      if (note.reason == "TierEntered") {
        EXPECT_EQ(note.message, "entered two from one: by-hand demanded in spec.demands");
      }
      EXPECT_FALSE(note.warning) << note.reason;
    }
    scene.StartPods();
    scene.now += std::chrono::seconds(15);
  }
  EXPECT_THAT(told, ElementsAre("TierChangeStarted", "ReplicaRouted", "ReplicaRouted", "TierEntered"));
}

TEST(Notes, ReplicasThatLeaveAndComeBack) {
  Scene scene;
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  scene.Instance("kyoyu-2").lag = std::chrono::seconds(9);
  EXPECT_THAT(Reasons(scene.MakePass().notes), ElementsAre("! Degraded", "! ReplicaUnrouted"));
  EXPECT_THAT(Reasons(scene.MakePass().notes), IsEmpty());
  scene.Instance("kyoyu-2").lag.reset();
  EXPECT_THAT(Reasons(scene.MakePass().notes), ElementsAre("Recovered", "ReplicaRouted"));
}

TEST(Notes, WithNoReplicaLeftReadsGoToThePrimaryAndPeopleAreTold) {
  Scene scene;
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  for (const char* name : {"kyoyu-2", "kyoyu-3"}) scene.Instance(name).lag = std::chrono::seconds(12);
  Scene::Pass pass = scene.MakePass();
  EXPECT_THAT(Reasons(pass.notes),
              ElementsAre("! Degraded", "! ReplicaUnrouted", "! ReplicaUnrouted", "! ReadsOnPrimary"));
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "ReadsOnPrimary");
  EXPECT_THAT(scene.ConditionOf("Degraded").message,
              HasSubstr("0 of 2 replicas may take reads; reads go to the primary; waiting for kyoyu-2: lags 12s, over "
                        "maxLag 1s"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  scene.Instance("kyoyu-3").lag = std::chrono::seconds(0);
  pass = scene.MakePass();
  EXPECT_THAT(Reasons(pass.notes), ElementsAre("ReplicaRouted", "ReadsOnReplicas"));
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "ReplicaLagging");
}

TEST(Notes, ASilentPrimaryIsNoNewsOfReplicas) {
  Scene scene;
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  scene.seen.primary.answered = false;
  for (InstanceSeen& instance : scene.seen.instances) instance.streaming = false;
  Scene::Pass pass = scene.MakePass();
  EXPECT_THAT(Reasons(pass.notes), Contains("! NotReady"));
  EXPECT_THAT(Reasons(pass.notes), Not(Contains(HasSubstr("Replica"))));
  for (const crds::ReplicaStatus& replica : pass.status.replicas) EXPECT_TRUE(replica.routed) << replica.name;
}

TEST(Notes, TroubleAndItsEnd) {
  Scene scene;
  scene.Settle();
  Read(scene, "pool-utilisation", core::Reading::Unknown("Gone: away"));
  EXPECT_THAT(Reasons(scene.MakePass().notes), ElementsAre("! MetricsUnavailable"));
  Read(scene, "pool-utilisation", core::Reading::Of(0));
  EXPECT_THAT(Reasons(scene.MakePass().notes), ElementsAre("MetricsAvailable"));
  scene.failure = "no";
  scene.needs_person = true;
  EXPECT_THAT(Reasons(scene.MakePass().notes), ElementsAre("! Stalled"));
  scene.failure.clear();
  scene.needs_person = false;
  EXPECT_THAT(Reasons(scene.MakePass().notes), ElementsAre("Unstalled"));
}

TEST(Notes, NumbersAreNoNews) {
  Scene scene;
  scene.Settle();
  for (int i = 0; i < 30; ++i) {
    scene.now += std::chrono::minutes(5);
    Read(scene, "pool-utilisation", core::Reading::Of(0.01 * i));
    EXPECT_THAT(Reasons(scene.MakePass().notes), IsEmpty());
  }
}

TEST(Notes, MetricsFollowTheStatus) {
  Scene scene;
  scene.Settle();
  Scene::Pass pass = scene.MakePass();
  Outcome outcome{scene.policy, scene.resolved, scene.seen, pass.decision, pass.plan, "", false, false, scene.now};
  Metrics metrics;
  ExportMetrics(outcome, pass.status, metrics);
  std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr(R"(pgtier_tier{namespace="data",policy="kyoyu",tier="one"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(pgtier_tier{namespace="data",policy="kyoyu",tier="two"} 0)"));
  EXPECT_THAT(text, HasSubstr(R"(pgtier_ready{namespace="data",policy="kyoyu"} 1)"));
  EXPECT_THAT(text, HasSubstr("pgtier_trigger_threshold"));
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
