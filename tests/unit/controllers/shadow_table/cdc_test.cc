// Into tier cdc and out of it: the slot is there before the barrier, and goes when nothing depends on it.
#include <gmock/gmock.h>

#include "controllers/shadow_table/names.h"
#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

nlohmann::json ThreeTiers() {
  nlohmann::json object = TwoTables();
  object["spec"]["tiers"].push_back(
      {{"name", "cdc"},
       {"slot", "audit_slot"},
       {"maxRetainedWAL", "1Gi"},
       {"enterWhen", {{"any", {{{"name", "large"}, {"demand", nlohmann::json::object()}}}}}}});
  return object;
}

Scene PinnedTo(const std::string& tier) {
  Scene scene(ThreeTiers());
  scene.Settle();
  scene.policy.spec.pin = tier;
  for (int i = 0; i < 3; ++i) scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, tier);
  return scene;
}

TEST(ShadowCdc, TheConsumerReadsTheLogBeforeTheBarrierAndTheQueueIsDrainedAfterIt) {
  Scene scene = PinnedTo("notify");
  scene.policy.spec.pin = "cdc";
  EXPECT_THAT(scene.Pass(), ElementsAre("prepare cdc"));
  EXPECT_THAT(scene.Pass(), ElementsAre("set password of cdc", "apply Secret audit-cdc", "apply ConfigMap audit-cdc",
                                        "apply Deployment audit-cdc"));
  EXPECT_THAT(scene.plan.waiting_for, HasSubstr("the worker audit-cdc to be ready (0 of 1)"));
  EXPECT_THAT(scene.Pass(), Not(Contains("barrier to cdc")));
  scene.StartPods();
  scene.seen.state->queue_depth = 5;
  EXPECT_THAT(scene.Pass(), ElementsAre("prepare cdc", "barrier to cdc"));
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_EQ(scene.policy.status.tier, "notify") << "rows wait in the queue";
  scene.MoveRows();
  scene.Pass();
  EXPECT_THAT(scene.Pass(), ElementsAre("delete Deployment audit-notify"));
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "cdc");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.policy.status.summary.lag, "<1MiB");
  EXPECT_EQ(scene.policy.status.summary.workers, "1/1");
}

TEST(ShadowCdc, TheSlotStaysUntilAllBeforeTheBarrierIsInTheHistories) {
  Scene scene = PinnedTo("cdc");
  scene.policy.spec.pin = "notify";
  EXPECT_THAT(scene.Pass(), Contains("apply Deployment audit-notify"));
  scene.seen.worker.settled = true;
  scene.seen.worker.ready = 1;
  EXPECT_THAT(scene.Pass(), ElementsAre("barrier to notify"));
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_THAT(scene.plan.waiting_for, HasSubstr("audit-cdc to write what was committed before the change"));
  EXPECT_EQ(scene.policy.status.tier, "cdc");
  scene.MoveRows();
  EXPECT_THAT(scene.Pass(), ElementsAre("delete Deployment audit-cdc"));
  EXPECT_THAT(scene.Pass(), ElementsAre("drop cdc"));
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "notify");
  EXPECT_FALSE(scene.seen.state->slot.exists);
}

TEST(ShadowCdc, ASlotInDangerIsLeftThroughTheBarrierBeforeItsLogIsLost) {
  for (int kind = 0; kind < 3; ++kind) {
    SCOPED_TRACE(kind);
    Scene scene = PinnedTo("cdc");
    EXPECT_THAT(scene.Pass(), IsEmpty());
    shadow::SlotState& slot = scene.seen.state->slot;
    slot.retained_bytes = int64_t{900} << 20;
    EXPECT_THAT(scene.Pass(), IsEmpty());
    if (kind == 0) slot.wal_status = "unreserved";
    if (kind == 1) slot.retained_bytes = int64_t{1100} << 20;
    if (kind == 2) slot.safe_wal_size = int64_t{200} << 20;
    EXPECT_THAT(scene.Pass(), Contains("barrier to triggers"));
    EXPECT_EQ(scene.ConditionOf("Degraded").reason, "SlotInDanger");
    EXPECT_TRUE(scene.seen.cdc.exists) << "what was written before the barrier is in the log alone";
  }
}

TEST(ShadowCdc, APausedPolicyLeavesASlotThatWouldFillTheDisk) {
  for (bool observes : {false, true}) {
    SCOPED_TRACE(observes);
    Scene scene = PinnedTo("cdc");
    if (observes) {
      scene.policy.spec.observe_only = true;
    } else {
      scene.policy.meta.annotations["pgtier.dev/paused"] = "true";
    }
    EXPECT_THAT(scene.Pass(), IsEmpty());
    EXPECT_EQ(scene.policy.status.tier, "cdc");
    scene.seen.state->slot.retained_bytes = int64_t{2} << 30;
    EXPECT_THAT(scene.Pass(), ElementsAre("barrier to triggers"));
    EXPECT_EQ(scene.policy.status.tier, "triggers");
    if (!observes) {
      EXPECT_THAT(scene.ConditionOf("Paused").message, HasSubstr("a slot must not fill the disk"));
    }
    EXPECT_THAT(scene.Pass(), IsEmpty()) << "the worker reads the log to its end";
    scene.MoveRows();
    EXPECT_THAT(scene.Pass(), ElementsAre("delete Deployment audit-cdc"));
    EXPECT_THAT(scene.Pass(), ElementsAre("drop cdc"));
    EXPECT_THAT(scene.Pass(), IsEmpty());
    EXPECT_FALSE(scene.seen.state->slot.exists);
  }
}

TEST(ShadowCdc, APauseOnTheWayIntoCdcKeepsItsSlotUntilThatIsInDanger) {
  Scene scene = PinnedTo("notify");
  scene.policy.spec.pin = "cdc";
  EXPECT_THAT(scene.Pass(), ElementsAre("prepare cdc"));
  scene.policy.meta.annotations["pgtier.dev/paused"] = "true";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  scene.seen.state->slot.retained_bytes = int64_t{2} << 30;
  EXPECT_THAT(scene.Pass(), ElementsAre("drop cdc"));
  scene.policy.meta.annotations.clear();
  EXPECT_THAT(scene.Pass(), ElementsAre("prepare cdc")) << "it goes on where it was";
}

TEST(ShadowCdc, ARetreatIsInTheHistoryAndACooldownCountsFromIt) {
  Scene scene = PinnedTo("cdc");
  scene.policy.spec.cooldown = std::chrono::minutes(30);
  const size_t changes = scene.policy.status.history.size();
  scene.seen.state->slot.retained_bytes = int64_t{2} << 30;
  EXPECT_THAT(scene.Pass(), Contains("barrier to triggers"));
  ASSERT_EQ(scene.policy.status.history.size(), changes + 1);
  const crds::Transition& retreat = scene.policy.status.history.front();
  EXPECT_EQ(retreat.from + " to " + retreat.to, "cdc to triggers");
  EXPECT_EQ(retreat.reason, "SlotInDanger: slot audit_slot keeps 2Gi of WAL, more than maxRetainedWAL, 1Gi");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/triggers").reason, "SlotInDanger");
  const WallTime left = scene.now;
  scene.seen.state->slot.retained_bytes = 0;
  bool again = false;
  for (int i = 0; i < 40 && !again; ++i) {
    std::vector<std::string> done = scene.Pass();
    again = std::find(done.begin(), done.end(), "prepare cdc") != done.end();
    scene.StartPods();
    scene.MoveRows();
    scene.now += std::chrono::minutes(1);
  }
  EXPECT_TRUE(again) << "the pin holds it at cdc";
  EXPECT_GE(scene.now - left, std::chrono::minutes(30));
}

TEST(ShadowCdc, ARetreatThatCouldNotBeWrittenDownIsFoundByTheNextPass) {
  Scene scene = PinnedTo("cdc");
  scene.seen.state->tier = shadow::Tier::kTriggers;
  scene.seen.state->checkpoint->ended = false;
  scene.Pass();
  EXPECT_EQ(scene.policy.status.tier, "triggers");
  EXPECT_EQ(scene.policy.status.history.front().reason, "SlotInDanger: as the database has it recorded");
}

TEST(ShadowCdc, ADeletedPolicyLeavesNoSlot) {
  Scene scene = PinnedTo("cdc");
  scene.policy.meta.deleting = true;
  std::vector<std::string> done;
  for (int i = 0; i < 8 && !scene.finalized; ++i) {
    for (const std::string& word : scene.Pass()) done.push_back(word);
    scene.MoveRows();
  }
  EXPECT_THAT(done, ElementsAre("barrier to triggers", "delete Deployment audit-cdc", "drop cdc", "retain",
                                "remove finalizer"));
  EXPECT_FALSE(scene.seen.state->slot.exists);
}

TEST(ShadowCdc, ASlotThatIsGoneLeavesARecordedGapAndNoDoubledRow) {
  for (bool lost : {false, true}) {
    SCOPED_TRACE(lost);
    Scene scene = PinnedTo("cdc");
    if (lost) {
      scene.seen.state->slot.wal_status = "lost";
    } else {
      scene.seen.state->slot = {};
    }
    EXPECT_THAT(scene.Pass(), ElementsAre("barrier to triggers"));
    EXPECT_THAT(scene.Pass(), ElementsAre("settle cdc"));
    scene.Pass();
    EXPECT_EQ(scene.ConditionOf("Degraded").reason, "DeadLetters");
    scene.policy.spec.pin = "triggers";
    for (int i = 0; i < 3; ++i) scene.Settle();
    EXPECT_EQ(scene.policy.status.tier, "triggers");
    EXPECT_EQ(scene.seen.held_slot, "");
  }
}

TEST(ShadowCdc, AfterARetreatTheLogIsReadToItsEndBeforeItIsEnteredAgain) {
  Scene scene = PinnedTo("cdc");
  scene.seen.state->slot.retained_bytes = int64_t{2} << 30;
  EXPECT_THAT(scene.Pass(), Contains("barrier to triggers"));
  for (int i = 0; i < 5; ++i, scene.now += std::chrono::seconds(15)) {
    EXPECT_THAT(scene.Pass(), Not(Contains("barrier to cdc")));
    scene.seen.worker.settled = true;
    scene.seen.worker.ready = scene.seen.worker.wanted;
  }
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "HistoryLags");
}

TEST(ShadowCdc, AnotherSlotInTheSpecCountsOnceCdcWasLeft) {
  Scene scene = PinnedTo("cdc");
  nlohmann::json object = ThreeTiers();
  object["spec"]["tiers"][2]["slot"] = "other";
  object["spec"]["pin"] = "cdc";
  scene.Edit(object);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.resolved.spec.slot, "audit_slot");
}

TEST(ShadowCdc, ATierThatIsTakenOutOfTheSpecIsLeftThroughTheBarrier) {
  Scene scene = PinnedTo("cdc");
  scene.Edit(TwoTables());
  std::vector<std::string> done;
  for (int i = 0; i < 8; ++i) {
    for (const std::string& word : scene.Pass()) done.push_back(word);
    scene.StartPods();
    scene.MoveRows();
  }
  EXPECT_THAT(done, Contains("drop cdc"));
  EXPECT_NE(scene.seen.state->tier, shadow::Tier::kCdc);
  EXPECT_EQ(scene.seen.held_slot, "");
}

TEST(ShadowCdc, ATableCannotKeepThePolicyInCdc) {
  Scene scene = PinnedTo("cdc");
  scene.seen.state->tables.push_back({"public.sessions", "", false});
  scene.policy.spec.pin = "triggers";
  scene.Pass();
  scene.seen.worker.settled = true;
  scene.seen.worker.ready = 1;
  EXPECT_THAT(scene.Pass(), ElementsAre("barrier to notify"));
  EXPECT_THAT(scene.Pass(), Not(Contains("install"))) << "the log still holds changes of the tables";
  scene.MoveRows();
  EXPECT_THAT(scene.Pass(), ElementsAre("install"));
}

TEST(ShadowCdc, AFindingOfThePreflightKeepsItOut) {
  Scene scene = PinnedTo("notify");
  scene.seen.preflights.emplace("cdc", std::vector<shadow::Finding>{{"UnloggedTable", "public.t", "is unlogged",
                                                                     "ALTER TABLE public.t SET LOGGED"}});
  scene.policy.spec.pin = "cdc";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "notify");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/cdc").reason, "PreflightFailed");
  EXPECT_THAT(scene.ConditionOf("tier.pgtier.dev/cdc").message, HasSubstr("SET LOGGED"));
}

TEST(ShadowCdc, ItsWorkerHasOneReplicaASpillFolderAndTheSlot) {
  Scene scene = PinnedTo("cdc");
  const nlohmann::json& deployment = *scene.seen.Object(kube::kDeployments, "audit-cdc");
  EXPECT_EQ(deployment["spec"]["strategy"]["type"], "Recreate");
  EXPECT_EQ(deployment["spec"]["replicas"], 1);
  EXPECT_EQ(deployment["spec"]["selector"]["matchLabels"][kWorkerLabel], "cdc");
  const nlohmann::json& config = *scene.seen.Object(kube::kConfigMaps, "audit-cdc");
  nlohmann::json file = nlohmann::json::parse(config["data"]["worker.json"].get<std::string>());
  EXPECT_EQ(file["mode"], "cdc");
  EXPECT_EQ(file["slot"], "audit_slot");
  EXPECT_EQ(file["publication"], "pgtier_audit_slot");
  EXPECT_EQ(file["database"]["user"], "pgtier_shadow_cdc");
  EXPECT_EQ(file["spill"]["directory"], "/var/spill");
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
