// From triggers to notify and back: no table is ever without what writes its history.
#include <gmock/gmock.h>

#include "lib/base/time_format.h"
#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Words = std::vector<std::string>;

TEST(ShadowClimb, InstallsTriggersAndRests) {
  Scene scene;
  EXPECT_THAT(scene.Pass(), ElementsAre("set finalizer", "install"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "False");
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "triggers");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.policy.status.summary.tables, "2/2");
  scene.now += std::chrono::hours(1);
  scene.Pass();
  scene.now += std::chrono::hours(1);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_FALSE(scene.written) << "at rest nothing is written";
}

TEST(ShadowClimb, StartsTheWorkerBeforeTheQueueIsFilled) {
  Scene scene;
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  EXPECT_THAT(scene.Pass(), ElementsAre("set password", "apply Secret audit-notify", "apply ConfigMap audit-notify",
                                        "apply Deployment audit-notify"));
  EXPECT_THAT(scene.plan.waiting_for, HasSubstr("the worker audit-notify to be ready (0 of 1)"));
  EXPECT_THAT(scene.Pass(), ElementsAre("set password")) << "it is not ready yet";
  EXPECT_EQ(scene.policy.status.tier, "triggers");
  EXPECT_EQ(scene.policy.status.target_tier, "notify");
  EXPECT_EQ(scene.ConditionOf("Climbing").status, "True");
  scene.StartPods();
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to notify"));
  EXPECT_EQ(scene.policy.status.tier, "triggers") << "not read back yet";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "notify");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/notify").status, "True");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/notify").reason, "ByHandDemanded");
}

TEST(ShadowClimb, TheMetricThatTriggeredStaysInTheCondition) {
  Scene scene;
  scene.Settle();
  scene.now = *ParseTime("2026-11-20T16:52:10Z");
  for (int i = 0; i <= 41; ++i, scene.now += std::chrono::seconds(15)) {
    Read(scene, "insert-p99", core::Reading::Of(0.061));
    scene.Pass();
    scene.StartPods();
  }
  scene.Settle();
  Read(scene, "insert-p99", core::Reading::Of(0.03));
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/notify").reason, "InsertP99AboveThreshold");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/notify").message, "insert-p99 61ms > 50ms since 16:52:10Z (10m)");
}

TEST(ShadowClimb, KeepsTheWorkerUntilTheQueueIsEmptyAndOldBodiesHaveEnded) {
  Scene scene = InNotify();
  scene.seen.state->queue_depth = 7;
  scene.old_bodies = true;
  scene.policy.spec.pin = "triggers";
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to triggers"));
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_THAT(scene.plan.waiting_for, HasSubstr("7 rows"));
  scene.MoveRows();
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained")) << "a statement still fills the queue";
  scene.old_bodies = false;
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_THAT(scene.Pass(), ElementsAre("delete Deployment audit-notify"));
  EXPECT_EQ(scene.policy.status.tier, "notify") << "the worker has not ended yet";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "triggers");
}

TEST(ShadowClimb, AnotherPasswordIsSetBeforeTheWorkerGetsIt) {
  Scene scene = InNotify();
  EXPECT_THAT(scene.Pass(), IsEmpty());
  scene.seen.database.worker.password = "pw-other";
  EXPECT_THAT(scene.Pass(), ElementsAre("set password", "apply Secret audit-notify"));
}

TEST(ShadowClimb, RowsLeftInTheQueueKeepTheWorkerEvenWhereNobodyDrains) {
  Scene scene;
  scene.Settle();
  scene.seen.state->queue_depth = 3;  // As after an operator that was killed half way.
  EXPECT_THAT(scene.Pass(), Contains("apply Deployment audit-notify"));
}

TEST(ShadowClimb, ATableThatIsGoneStopsNeitherTheWorkerNorChangesOfTier) {
  Scene scene = InNotify();
  scene.seen.state->tables.at(0).installed = false;
  scene.seen.preflights.emplace(
      "triggers", std::vector<shadow::Finding>{{"NoTable", "public.customers", "there is no table", "create it"}});
  scene.seen.objects.erase({std::string(kube::kDeployments.plural), "audit-notify"});
  scene.seen.worker = {};
  EXPECT_THAT(scene.Pass(), ElementsAre("set password", "apply Deployment audit-notify"));
  EXPECT_THAT(scene.plan.refused, HasSubstr("NoTable"));
  scene.StartPods();
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Ready").status, "False");
  scene.policy.spec.pin = "triggers";
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to triggers"));
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_THAT(scene.plan.refused, HasSubstr("NoTable"));
}

TEST(ShadowClimb, ATableThatIsToComeDoesNotStopTheWorker) {
  Scene scene = InNotify();
  scene.seen.state->tables.at(0).installed = false;
  scene.seen.objects.erase({std::string(kube::kDeployments.plural), "audit-notify"});
  scene.seen.worker = {};
  EXPECT_THAT(scene.Pass(), ElementsAre("set password", "apply Deployment audit-notify", "install"));
}

TEST(ShadowClimb, LeavesWhenWhatBroughtItIsOver) {
  Scene scene = InNotify();
  Read(scene, "by-hand", core::Reading::Of(0));
  for (int i = 0; i < 60; ++i, scene.now += std::chrono::seconds(15)) {
    Read(scene, "insert-p99", core::Reading::Of(0.01));
    scene.Pass();
    scene.StartPods();
  }
  EXPECT_EQ(scene.policy.status.tier, "triggers");
  EXPECT_FALSE(scene.seen.worker.exists);
}

TEST(ShadowClimb, ADatabaseThatDoesNotAnswerMovesNothing) {
  Scene scene = InNotify();
  shadow::State state = *scene.seen.state;
  scene.seen.state.reset();
  scene.seen.reason = "DatabaseUnreachable";
  scene.seen.error = "connection refused";
  scene.policy.spec.pin = "triggers";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_TRUE(scene.seen.worker.exists);
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "DatabaseUnreachable");
  scene.seen.state = state;
  scene.seen.reason.clear();
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "triggers");
}

TEST(ShadowClimb, AStatusThatWasLostIsRebuiltFromTheDatabase) {
  Scene scene = InNotify();
  scene.policy.status = {};
  Read(scene, "by-hand", core::Reading::Of(0));
  EXPECT_THAT(scene.Pass(), Not(Contains("swap to triggers")));
  EXPECT_EQ(scene.policy.status.tier, "notify");
}

TEST(ShadowClimb, ATableThatIsAddedIsInstalledInTheTierThatRuns) {
  Scene scene = InNotify();
  scene.seen.state->tables.push_back({"public.sessions", "", false});
  nlohmann::json more = TwoTables();
  more["spec"]["tables"].push_back({{"name", "public.sessions"}});
  scene.Edit(more);
  EXPECT_THAT(scene.Pass(), ElementsAre("install"));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "notify");
  EXPECT_EQ(scene.policy.status.summary.tables, "3/3");
}

TEST(ShadowClimb, APausedOrObservingPolicyDoesNothing) {
  Scene paused;
  paused.policy.meta.annotations["pgtier.dev/paused"] = "true";
  EXPECT_THAT(paused.Pass(), IsEmpty());
  Scene observing(TwoTables({{"spec", {{"mode", "Observe"}}}}));
  Read(observing, "by-hand", core::Reading::Of(1));
  observing.Pass();
  EXPECT_THAT(observing.Pass(), IsEmpty());
  EXPECT_EQ(observing.ConditionOf("Ready").reason, "WouldEnterNotify");
}

TEST(ShadowClimb, WaitsForAnApprovalWhereOneIsRequired) {
  nlohmann::json object = TwoTables();
  object["spec"]["tiers"][1]["approval"] = "Required";
  Scene scene(object);
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "True");
  EXPECT_THAT(scene.ConditionOf("ApprovalRequired").message, HasSubstr("kubectl annotate shadowtables audit -n data"));
  scene.policy.spec.approved_plan = scene.policy.status.plan.hash;
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "notify");
  EXPECT_THAT(scene.policy.status.history.front().reason, HasSubstr("by-hand"));
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
