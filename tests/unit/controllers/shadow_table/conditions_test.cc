// What people are told.
#include <gmock/gmock.h>

#include "tests/support/yaml.h"
#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using testing::HasSubstr;

TEST(ShadowConditions, AFindingOfThePreflightIsNamedWithItsCure) {
  Scene scene;
  scene.seen.preflights.emplace("triggers",
                                std::vector<shadow::Finding>{{"UnloggedTable", "public.customers", "it is unlogged",
                                                              "ALTER TABLE public.customers SET LOGGED", true}});
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "UnloggedTable");
  EXPECT_EQ(scene.ConditionOf("Stalled").status, "True");
  EXPECT_THAT(scene.ConditionOf("Stalled").message, HasSubstr("SET LOGGED"));
  EXPECT_FALSE(scene.seen.state->installed);
  EXPECT_THAT(scene.policy.status.tables[0].finding, HasSubstr("UnloggedTable"));
}

TEST(ShadowConditions, APreflightThatFailsShutsTheNextTier) {
  Scene scene;
  scene.Settle();
  scene.seen.preflights.emplace(
      "notify", std::vector<shadow::Finding>{{"NoWakeUp", "max_prepared_transactions", "x", "y", true}});
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/notify").reason, "PreflightFailed");
  EXPECT_THAT(scene.ConditionOf("tier.pgtier.dev/notify").message, HasSubstr("it is due"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_FALSE(scene.seen.worker.exists);
}

TEST(ShadowConditions, AWorkerThatIsDownIsNotReadyAndLosesNothing) {
  Scene scene = InNotify();
  scene.seen.worker.ready = 0;
  scene.seen.worker.trouble = "CrashLoopBackOff: back-off";
  scene.seen.state->queue_depth = 42;
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "WorkerNotReady");
  EXPECT_THAT(scene.ConditionOf("Ready").message, HasSubstr("42 rows wait"));
  EXPECT_THAT(scene.ConditionOf("Ready").message, HasSubstr("CrashLoopBackOff"));
}

TEST(ShadowConditions, AQueueAboveItsAlertIsDegraded) {
  Scene scene = InNotify();
  scene.seen.state->queue_depth = 1001;
  scene.seen.state->oldest = std::chrono::seconds(12);
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "QueueAboveAlert");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.policy.status.summary.queue, "1001");
  EXPECT_EQ(scene.policy.status.summary.lag, "12s");
  bool told = false;
  for (const Note& note : scene.notes) told = told || (note.warning && note.reason == "Degraded");
  EXPECT_TRUE(told);
}

TEST(ShadowConditions, WhatThisReleaseDoesNotDoIsNamed) {
  nlohmann::json object = tests::LoadYaml("manifests/examples/kyoyu-audit.yaml");
  object["metadata"]["name"] = "audit";
  Scene scene(object);
  scene.Settle();
  crds::Condition condition = scene.ConditionOf("NotAvailable");
  EXPECT_EQ(condition.status, "True");
  EXPECT_THAT(condition.message, HasSubstr("spec.auditEvents"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
}

TEST(ShadowConditions, AReasonIsOneWordWhateverFails) {
  Scene scene;
  scene.failure = "connection lost: really";
  scene.Pass();
  for (const crds::Condition& condition : scene.policy.status.conditions) {
    EXPECT_EQ(condition.reason.find(' '), std::string::npos) << condition.reason;
    EXPECT_FALSE(condition.reason.empty()) << condition.type;
    EXPECT_EQ(condition.observed_generation, scene.policy.meta.generation);
  }
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
