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
  object["spec"]["partitioning"]["interval"] = "30m";
  Scene scene(object);
  scene.Settle();
  crds::Condition condition = scene.ConditionOf("NotAvailable");
  EXPECT_EQ(condition.status, "True");
  EXPECT_THAT(condition.message, HasSubstr("spec.partitioning.interval of less than 1h"));
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

TEST(ShadowConditions, ColumnsThatChangedWithoutAnEventTriggerAreNamed) {
  Scene scene;
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("DdlNotFollowed").status, "False");
  scene.seen.state->follows_ddl = false;
  scene.seen.database.admin.user = "rds_admin";
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("DdlNotFollowed").reason, "NoEventTriggers");
  EXPECT_THAT(scene.ConditionOf("DdlNotFollowed").message, HasSubstr("rds_admin is no superuser"));
  scene.seen.state->drifts = {{"public.customers", "phone added, fax dropped"}};
  scene.seen.state->tables[0].installed = false;
  EXPECT_THAT(scene.Pass(), testing::ElementsAre("install"));
  EXPECT_EQ(scene.ConditionOf("DdlNotFollowed").reason, "ColumnsChanged");
  EXPECT_THAT(scene.ConditionOf("DdlNotFollowed").message, HasSubstr("public.customers: phone added, fax dropped"));
  bool told = false;
  for (const Note& note : scene.notes) told = told || (note.warning && note.reason == "DdlNotFollowed");
  EXPECT_TRUE(told);
  scene.seen.state->drifts.clear();
  for (int i = 0; i < 3; ++i) scene.Pass();
  EXPECT_EQ(scene.ConditionOf("DdlNotFollowed").reason, "NoEventTriggers");
  EXPECT_THAT(scene.ConditionOf("DdlNotFollowed").message,
              testing::EndsWith("; last seen: public.customers: phone added, fax dropped"));
}

TEST(ShadowConditions, TheTableOfEventsIsMadeOnceAndWhatIsWrongWithItIsSaid) {
  Scene scene(TwoTables({{"spec", {{"auditEvents", {{"table", "public.events"}}}}}}));
  scene.seen.audit_events.emplace();
  scene.seen.audit_events->name = "public.events";
  scene.Pass();
  EXPECT_THAT(scene.Pass(), testing::ElementsAre("make audit events"));
  EXPECT_THAT(scene.Pass(), testing::IsEmpty());
  EXPECT_EQ(scene.policy.status.audit_events.table, "public.events");
  EXPECT_TRUE(scene.policy.status.audit_events.exists);
  scene.seen.audit_events->finding = "ColumnMissing: public.events has no column at_utc";
  EXPECT_THAT(scene.Pass(), testing::IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "AuditEventsNotFit");
  EXPECT_THAT(scene.policy.status.audit_events.finding, HasSubstr("ColumnMissing"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
}

TEST(ShadowMetrics, SayWhatTheAlertsAskFor) {
  Scene scene = InNotify();
  scene.seen.state->slot.exists = true;
  scene.seen.state->slot.retained_bytes = 5000;
  scene.seen.state->payload.gaps = 2;
  scene.resolved.spec.slot = "audit_slot";
  Metrics metrics;
  core::Decision decision;
  for (const core::Tier& tier : scene.resolved.ladder.tiers) {
    for (const core::Trigger& trigger : tier.triggers) decision.triggers[{tier.name, trigger.name}];
  }
  Outcome outcome{scene.policy, scene.resolved, scene.seen, decision, {}, "", false, false, scene.now};
  ExportMetrics(outcome, scene.policy.status, metrics);
  std::string text = metrics.Serialize();
  const std::string labels = R"({namespace="data",shadow_policy="audit")";
  for (const std::string& series :
       {"pgtier_shadow_ready" + labels + "} 1\n", "pgtier_shadow_workers_ready" + labels + "} 1\n",
        "pgtier_shadow_workers_wanted" + labels + "} 1\n", "pgtier_shadow_queue_rows" + labels + "} 0\n",
        "pgtier_shadow_queue_alert" + labels + "} 1000\n", "pgtier_shadow_dead_letters" + labels + "} 0\n",
        "pgtier_shadow_gaps" + labels + "} 2\n", "pgtier_stalled" + labels + "} 0\n",
        "pgtier_degraded" + labels + "} 0\n",
        "pgtier_shadow_slot_retained_bytes" + labels + R"(,slot="audit_slot"} 5000)" + "\n",
        "pgtier_shadow_slot_active" + labels + R"(,slot="audit_slot"} 0)" + "\n"}) {
    EXPECT_THAT(text, HasSubstr(series));
  }
  EXPECT_THAT(text, HasSubstr("pgtier_shadow_slot_limit_bytes"));
  // A slot that is gone leaves no series.
  scene.policy.status.slot.name = "audit_slot";
  scene.seen.state->slot = {};
  ExportMetrics(outcome, scene.policy.status, metrics);
  EXPECT_THAT(metrics.Serialize(), testing::Not(HasSubstr("audit_slot")));
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
