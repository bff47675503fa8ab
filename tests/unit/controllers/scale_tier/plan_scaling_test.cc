// Replicas that come and go with the load, within readReplicas.min and max.
#include <gmock/gmock.h>

#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Json Scaled(const Json& replicas = {{"min", 2}, {"max", 3}}, const Json& changes = Json::object()) {
  Json object = TwoTiers(changes);
  object["spec"]["tiers"][1]["readReplicas"] = replicas;
  return object;
}

// The policy in tier two, at rest, with two of at most three replicas.
class PlanScaling : public testing::Test {
 protected:
  void Start(const Json& object) {
    scene_ = Scene(object);
    Read(scene_, "by-hand", core::Reading::Of(1));
    scene_.Settle();
    ASSERT_EQ(scene_.policy.status.tier, "two");
    ASSERT_EQ(scene_.policy.status.summary.replicas, "2/2");
  }
  void SetUp() override { Start(Scaled()); }

  // Passes as the operator makes them, with pods that start between two; events are kept.
  void PassFor(Duration time, bool start_pods = true) {
    for (Duration passed{}; passed < time; passed += seconds(15)) {
      scene_.now += seconds(15);
      Pass();
      if (start_pods) scene_.StartPods();
    }
  }
  void Pass() {
    scene_.PoolerPod("ro").utilisation.pools = {{"app", "app", load_, 0, 60}};
    Scene::Pass pass = scene_.MakePass();
    writes_ += pass.written ? 1 : 0;
    for (const Note& note : pass.notes) events_.push_back(note.reason + ": " + note.message);
  }
  [[nodiscard]] const crds::ScalingStatus& scaling() const { return scene_.policy.status.scaling; }
  [[nodiscard]] size_t Instances() const { return scene_.seen.instances.size(); }

  Scene scene_;
  double load_ = 0;
  int writes_ = 0;
  std::vector<std::string> events_;
};

TEST_F(PlanScaling, GrowsUnderLoadAndShrinksAfterALongCalm) {
  load_ = 0.9;
  PassFor(minutes(2));
  EXPECT_EQ(scaling().replicas, 2);
  EXPECT_EQ(scaling().needed, 3);
  PassFor(seconds(15), false);
  EXPECT_EQ(scaling().replicas, 3);
  EXPECT_EQ(scaling().phase, "Growing");
  EXPECT_THAT(events_, Contains("ReplicasGrowing: 2 to 3: replicas-needed 3 > 2 since 16:00:21Z (2m)"))
      << scaling().message;
  PassFor(seconds(15), false);
  EXPECT_EQ(Instances(), 4U);
  EXPECT_EQ(scene_.policy.status.summary.replicas, "2/3");
  EXPECT_EQ(scene_.ConditionOf("Degraded").status, "False") << "one more is no trouble";
  EXPECT_EQ(scene_.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene_.RoutedTo("ro"), "kyoyu-2.data.svc,kyoyu-3.data.svc") << "not before it has caught up";
  PassFor(minutes(1));
  EXPECT_EQ(scene_.policy.status.summary.replicas, "3/3");
  EXPECT_EQ(scaling().phase, "Steady");
  EXPECT_EQ(scene_.RoutedTo("ro"), "kyoyu-2.data.svc,kyoyu-3.data.svc,kyoyu-4.data.svc");
  PassFor(minutes(10));
  EXPECT_EQ(scaling().replicas, 3) << "never beyond max";
  EXPECT_EQ(scaling().needed, 4);

  load_ = 0.1;
  events_.clear();
  PassFor(minutes(30));
  EXPECT_EQ(scaling().replicas, 3);
  PassFor(minutes(1));
  EXPECT_EQ(scaling().replicas, 2);
  EXPECT_THAT(events_, Contains(HasSubstr("ReplicasShrinking: 3 to 2: load-without-one 15% < 50% since ")));
  PassFor(minutes(2));
  EXPECT_EQ(Instances(), 3U);
  EXPECT_EQ(scene_.policy.status.summary.replicas, "2/2");
  EXPECT_THAT(scene_.seen.primary.slots, Not(Contains(testing::Key("pgtier_kyoyu_4"))));
  EXPECT_EQ(scene_.RoutedTo("ro"), "kyoyu-2.data.svc,kyoyu-3.data.svc");
  PassFor(minutes(5));
  writes_ = 0;
  PassFor(minutes(60));
  EXPECT_EQ(writes_, 0) << "at rest";
}

TEST_F(PlanScaling, NothingIsMeasuredWhileAReplicaIsOut) {
  load_ = 1;
  PassFor(minutes(1));
  scene_.Instance("kyoyu-3").lag = seconds(30);
  PassFor(minutes(10), false);
  EXPECT_EQ(scaling().replicas, 2);
  EXPECT_FALSE(scaling().grow_since.has_value());
  EXPECT_EQ(scene_.ConditionOf("MetricsAvailable").status, "True") << "nobody can mend it";
  scene_.Instance("kyoyu-3").lag = seconds(0);
  PassFor(minutes(2));
  EXPECT_EQ(scaling().replicas, 2) << "the window begins anew";
  PassFor(minutes(1));
  EXPECT_EQ(scaling().replicas, 3);
}

TEST_F(PlanScaling, NorWhileTheTierChangesOrThePolicyIsPaused) {
  load_ = 1;
  scene_.paused = true;
  PassFor(minutes(10));
  EXPECT_EQ(scaling().replicas, 2);
  EXPECT_FALSE(scaling().grow_since.has_value());
  scene_.paused = false;
  scene_.Edit(Scaled({{"min", 2}, {"max", 3}}, {{"pin", "one"}}));
  PassFor(minutes(3));
  EXPECT_EQ(scene_.policy.status.tier, "one");
  EXPECT_EQ(Instances(), 1U);
  EXPECT_EQ(scaling().replicas, 0);
}

TEST_F(PlanScaling, AReplicaThatCannotComeIsTrouble) {
  load_ = 1;
  PassFor(minutes(3), false);
  ASSERT_EQ(Instances(), 4U);
  EXPECT_EQ(scene_.ConditionOf("Degraded").status, "False");
  scene_.Instance("kyoyu-4").trouble = "Unschedulable: 0/1 nodes";
  Pass();
  EXPECT_EQ(scene_.ConditionOf("Degraded").status, "True");
  EXPECT_THAT(scene_.ConditionOf("Degraded").message, HasSubstr("2 of 3 replicas may take reads"));
  EXPECT_THAT(scene_.ConditionOf("Degraded").message, HasSubstr("Unschedulable"));
}

TEST_F(PlanScaling, AStatusThatWasLostRemovesNothing) {
  load_ = 0.6;
  scene_.Edit(Scaled({{"min", 3}, {"max", 4}}));
  PassFor(minutes(1));
  ASSERT_EQ(scene_.policy.status.summary.replicas, "3/3");
  scene_.Edit(Scaled({{"min", 2}, {"max", 4}}));
  PassFor(minutes(1));
  EXPECT_EQ(Instances(), 4U) << "only the load decides";
  scene_.policy.status.scaling = {};
  scene_.resolved = Resolve(scene_.policy);
  PassFor(minutes(5));
  EXPECT_EQ(Instances(), 4U);
  EXPECT_EQ(scaling().replicas, 3);
}

TEST_F(PlanScaling, BoundsThatWereEditedHoldAtOnce) {
  scene_.Edit(Scaled({{"min", 3}, {"max", 4}}));
  PassFor(minutes(1));
  EXPECT_EQ(scene_.policy.status.summary.replicas, "3/3");
  scene_.Edit(Scaled({{"min", 1}, {"max", 2}}));
  PassFor(minutes(2));
  EXPECT_EQ(scene_.policy.status.summary.replicas, "2/2");
  EXPECT_EQ(Instances(), 3U);
}

TEST_F(PlanScaling, ProcessorsCountWhereAQueryIsGiven) {
  Start(Scaled({{"min", 2}, {"max", 3}, {"growAfter", "30s"}, {"cpuQuery", "cpu"}}));
  load_ = 0.1;
  scene_.seen.replica_cpu = core::Reading::Unknown("PrometheusUnreachable: refused");
  PassFor(minutes(2));
  EXPECT_EQ(scene_.ConditionOf("MetricsAvailable").message, "readReplicas: PrometheusUnreachable: refused");
  EXPECT_EQ(scaling().replicas, 2);
  scene_.seen.replica_cpu = core::Reading::Of(37);
  PassFor(minutes(1));
  EXPECT_THAT(scene_.ConditionOf("MetricsAvailable").message, HasSubstr("NotARatio"));
  EXPECT_EQ(scaling().replicas, 2);
  scene_.seen.replica_cpu = core::Reading::Of(0.9);
  PassFor(minutes(1));
  EXPECT_EQ(scaling().replicas, 3);
  EXPECT_EQ(scene_.ConditionOf("MetricsAvailable").status, "True");
}

TEST_F(PlanScaling, APoolerThatIsSilentProvesNoCalm) {
  Start(Scaled({{"min", 2}, {"max", 3}, {"shrinkAfter", "1m"}}));
  scene_.Edit(Scaled({{"min", 3}, {"max", 3}}));
  PassFor(minutes(1));
  scene_.Edit(Scaled({{"min", 2}, {"max", 3}, {"shrinkAfter", "1m"}}));
  scene_.PoolerPod("ro").answered = false;
  scene_.PoolerPod("ro").error = "no route";
  PassFor(minutes(5), false);
  EXPECT_EQ(Instances(), 4U);
  EXPECT_THAT(scene_.ConditionOf("MetricsAvailable").message, HasSubstr("readReplicas: PoolerUnreachable"));
}

TEST_F(PlanScaling, PoolsOfThePrimaryDoNotCount) {
  scene_.PoolerPod("rw").utilisation.pools = {{"app", "app", 1, 60, 60}};
  scene_.PoolerPod("rw").utilisation.max_ratio = 1;
  PassFor(minutes(5));
  EXPECT_EQ(scaling().needed, 2);
}

TEST_F(PlanScaling, TheNextTierSeesTheNeedBeyondMax) {
  Json object = Scaled();
  object["spec"]["transitions"] = {{"cooldown", "0s"}};
  object["spec"]["tiers"].push_back(
      {{"name", "three"},
       {"approval", "Required"},
       {"enterWhen",
        {{"any",
          Json::array({{{"name", "replicas-needed"}, {"above", 3}, {"status", {{"field", "ReplicasNeeded"}}}}})}}},
       {"readReplicas", {{"min", 1}, {"max", 8}}}});
  Start(object);
  load_ = 0.9;
  PassFor(minutes(2));
  EXPECT_EQ(scene_.ConditionOf("ApprovalRequired").status, "False") << "three is not above three";
  EXPECT_EQ(scene_.policy.status.summary.closest, "replicas-needed 3/3");
  PassFor(minutes(3));
  EXPECT_EQ(scene_.policy.status.summary.replicas, "3/3");
  EXPECT_THAT(scene_.ConditionOf("ApprovalRequired").message, HasSubstr("replicas-needed 4 > 3"));
  scene_.policy.spec.approved_plan = scene_.policy.status.plan.hash;
  PassFor(minutes(2));
  EXPECT_EQ(scene_.policy.status.tier, "three");
  EXPECT_EQ(scene_.policy.status.summary.replicas.substr(0, 1), scene_.policy.status.summary.replicas.substr(2));
  EXPECT_GE(Instances(), 4U) << "it goes on with those that run";
}

TEST_F(PlanScaling, WithoutReplicasNoneAreNeeded) {
  Json object = Scaled();
  object["spec"]["tiers"][1]["enterWhen"]["any"].push_back(
      {{"name", "replicas-needed"}, {"above", 0}, {"status", {{"field", "ReplicasNeeded"}}}});
  Scene scene(object);
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.ConditionOf("MetricsAvailable").status, "True");
}

TEST_F(PlanScaling, WithRolloutStandbyTheCountStays) {
  Json object = Scaled({{"min", 2}, {"max", 3}}, {{"routing", {{"rollout", "Standby"}}}});
  scene_.Edit(object);
  load_ = 1;
  PassFor(minutes(10));
  EXPECT_EQ(scaling().replicas, 2);
  EXPECT_EQ(Instances(), 3U);
}

TEST_F(PlanScaling, StandbysOfAnotherAreCountedAndNotMade) {
  Json object = ExternalTiers();
  object["spec"]["tiers"][1]["readReplicas"] = {{"min", 1}};
  object["spec"]["tiers"][1]["enterWhen"] = {{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}};
  object["spec"]["tiers"].push_back(
      {{"name", "three"},
       {"enterWhen",
        {{"any",
          Json::array({{{"name", "replicas-needed"}, {"above", 2}, {"status", {{"field", "ReplicasNeeded"}}}}})}}},
       {"approval", "Required"}});
  scene_ = Scene(object);
  Read(scene_, "by-hand", core::Reading::Of(1));
  scene_.Settle();
  ASSERT_EQ(scene_.policy.status.tier, "two");
  load_ = 0.9;
  scene_.now += minutes(60);
  PassFor(minutes(1));
  EXPECT_THAT(scene_.ConditionOf("ApprovalRequired").message, HasSubstr("replicas-needed 3 > 2"));
  EXPECT_EQ(scaling().replicas, 0);
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
