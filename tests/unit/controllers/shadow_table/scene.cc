#include "tests/unit/controllers/shadow_table/scene.h"

#include "controllers/ladder/approval.h"
#include "controllers/ladder/memory.h"
#include "controllers/shadow_table/names.h"
#include "crds/shadow_table_policy_codec.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::shadow_table {

using Json = nlohmann::json;

Json TwoTables(const Json& changes) {
  Json object = Json::parse(R"({
    "metadata": {"namespace": "data", "name": "audit", "uid": "u1", "generation": 1, "resourceVersion": "1"},
    "spec": {
      "databaseRef": {"name": "kyoyu"},
      "tables": [{"name": "public.customers"}, {"name": "public.trades", "shadow": "public.trades_log"}],
      "actor": {"setting": "app.actor"},
      "metrics": {"interval": "15s"},
      "tiers": [
        {"name": "triggers"},
        {"name": "notify", "workers": {"min": 1, "max": 3}, "queueAlert": 1000,
         "enterWhen": {"any": [
           {"name": "insert-p99", "above": "0.05", "unit": "Seconds", "for": "10m", "leave": {"below": "0.02", "for": "10m"},
            "sql": {"query": "SELECT 0.01"}},
           {"name": "by-hand", "demand": {}}]}}],
      "transitions": {"cooldown": "0s", "down": "Automatic"}}})");
  object.merge_patch(changes);
  return object;
}

Scene::Scene(const Json& object) : now(*ParseTime("2026-11-20T16:00:00Z")) {
  Edit(object);
  seen.state.emplace();
  seen.state->version = shadow::InstalledVersion();
  seen.database.admin.database = "kyoyu";
  seen.database.worker = {"kyoyu-primary.data.svc", 5432, "verify-full", "CA", "pw-worker"};
}

void Scene::Edit(const Json& object) {
  crds::ShadowTablePolicy before = policy;
  policy = *crds::DecodeShadowTablePolicy(object);
  EXPECT_TRUE(policy.problems.empty()) << policy.problems.front();
  policy.status = before.status;
  policy.meta.finalizers = before.meta.finalizers;
  policy.meta.generation = before.meta.generation + 1;
}

void Scene::SetTables() {
  seen.state->tables.clear();
  for (const shadow::Table& table : resolved.spec.tables) {
    seen.state->tables.push_back(
        {table.source, table.history.empty() ? table.source + "_history" : table.history, true});
  }
}

std::string Scene::Do(const Action& action) {
  if (const auto* set = std::get_if<SetFinalizer>(&action)) {
    policy.meta.finalizers = set->present ? std::vector<std::string>{kFinalizer} : std::vector<std::string>{};
    finalized = !set->present;
    return set->present ? "set finalizer" : "remove finalizer";
  }
  if (std::holds_alternative<Install>(action)) {
    seen.state->installed = true;
    SetTables();
    return "install";
  }
  if (std::holds_alternative<Uninstall>(action)) {
    seen.state = shadow::State{};
    seen.state->version = shadow::InstalledVersion();
    return "uninstall";
  }
  if (std::holds_alternative<Retain>(action)) return "retain";
  if (const auto* password = std::get_if<SetWorkerPassword>(&action)) {
    return password->tier == shadow::Tier::kCdc ? "set password of cdc" : "set password";
  }
  if (std::holds_alternative<PrepareCdc>(action)) {
    seen.state->slot.exists = true;
    seen.state->slot.wal_status = "reserved";
    if (!seen.state->checkpoint.has_value()) seen.state->checkpoint.emplace();
    seen.state->checkpoint->slot = seen.held_slot = resolved.spec.slot;
    return "prepare cdc";
  }
  if (const auto* barrier = std::get_if<CrossBarrier>(&action)) {
    if (barrier->to == shadow::Tier::kCdc) {
      seen.state->draining = seen.state->tier == shadow::Tier::kNotify;
    } else {
      seen.state->checkpoint->ended = false;
    }
    seen.state->tier = barrier->to;
    seen.state->payload.sends = false;
    return "barrier to " + std::string(shadow::TierName(barrier->to));
  }
  if (std::holds_alternative<SettleCdc>(action)) {
    EXPECT_TRUE(!seen.state->slot.exists || seen.state->slot.wal_status == "lost");
    seen.state->checkpoint->ended = true;
    ++seen.state->dead_letters;
    return "settle cdc";
  }
  if (std::holds_alternative<DropCdc>(action)) {
    EXPECT_TRUE(seen.state->checkpoint->ended) << "its slot holds changes that no history has";
    EXPECT_FALSE(seen.cdc.exists) << "the slot is in use";
    seen.state->slot = {};
    seen.state->checkpoint->slot.clear();
    seen.held_slot.clear();
    return "drop cdc";
  }
  if (const auto* apply = std::get_if<ApplyObject>(&action)) {
    Json object = apply->object;
    std::string name = kube::KeyOf(object).name;
    object["metadata"]["uid"] = "uid of " + name;
    object["metadata"]["generation"] = 2;
    if (apply->resource.plural == kube::kDeployments.plural) {
      WorkerSeen& worker = name == CdcWorker("audit") ? seen.cdc : seen.worker;
      worker.exists = true;
      worker.wanted = object["spec"]["replicas"];
      worker.settled = false;
    }
    seen.objects[{std::string(apply->resource.plural), name}] = object;
    return "apply " + std::string(apply->resource.kind) + " " + name;
  }
  if (const auto* gone = std::get_if<DeleteObject>(&action)) {
    seen.objects.erase({std::string(gone->resource.plural), gone->name});
    (gone->name == CdcWorker("audit") ? seen.cdc : seen.worker) = {};
    return "delete " + std::string(gone->resource.kind) + " " + gone->name;
  }
  if (std::holds_alternative<MakeAuditEvents>(action)) {
    seen.audit_events->exists = seen.audit_events->readable = true;
    return "make audit events";
  }
  if (const auto* delivery = std::get_if<SetDelivery>(&action)) {
    EXPECT_EQ(seen.state->tier, shadow::Tier::kNotify);
    seen.state->payload.sends = delivery->payload;
    seen.state->payload.under_way = true;
    seen.state->draining = !delivery->payload;
    return delivery->payload ? "deliver by payload" : "deliver by queue";
  }
  if (const auto* swap = std::get_if<Swap>(&action)) {
    seen.state->tier = swap->to;
    seen.state->payload.sends = false;
    seen.state->draining = swap->to == shadow::Tier::kTriggers || seen.state->payload.under_way;
    return "swap to " + std::string(shadow::TierName(swap->to));
  }
  if (const auto* keep = std::get_if<KeepPartitionsAhead>(&action)) return "partitions ahead of " + keep->spec.table;
  if (const auto* drop = std::get_if<DropExpiredPartitions>(&action))
    return "drop old partitions of " + drop->spec.table;
  if (const auto* bound = std::get_if<ForgetPartitionBound>(&action)) return "forget the bound of " + bound->spec.table;
  if ((seen.state->queue_depth == 0 || seen.state->tier == shadow::Tier::kNotify) && !old_bodies) {
    seen.state->draining = seen.state->payload.under_way = false;
  }
  return "ask whether drained";
}

std::vector<std::string> Scene::Pass() {
  resolved = Resolve(policy);
  for (const core::Tier& tier : resolved.ladder.tiers) {
    for (const core::Trigger& trigger : tier.triggers) {
      seen.readings.try_emplace({tier.name, trigger.name}, core::Reading::Of(0));
    }
  }
  KeepHeldSlot(seen, resolved);
  FillPreflights(seen, resolved);
  RestAfterRetreat(policy.status, now, resolved);
  std::string tier = RunningTier(policy.status, resolved, seen);
  FillApprovals(policy, tier, resolved);
  PassMemory::Rules rules = JudgedBy(RulesIn(policy.spec.tiers));
  core::Decision decision = core::Decide(
      resolved.ladder, remembered_->memory.Recall(policy.meta, policy.status, resolved.ladder, tier, rules),
      seen.readings, now);
  remembered_->memory.Remember(policy.meta, decision, rules);
  Outcome outcome{policy, resolved, seen, decision, {}, failure, false, IsPaused(policy.meta), now};
  std::vector<std::string> done;
  const Seen before = seen;
  const std::string image = "pgtier:release";
  PlanContext context{policy, resolved, image, 1};
  outcome.plan = PlanFor(context, seen, decision, Acts(outcome.Ladder()));
  if (failure.empty()) {
    for (const Action& action : outcome.plan.actions) done.push_back(Do(action));
    outcome.failure = outcome.plan.refused;
  }
  outcome.needs_person = !outcome.plan.refused.empty();
  plan = outcome.plan;
  Outcome reported{policy,         resolved, before, decision, outcome.plan, outcome.failure, outcome.needs_person,
                   outcome.paused, now};
  crds::ShadowTablePolicyStatus status = MakeStatus(reported);
  written = MustWrite(policy.status, status, resolved, remembered_->memory.LastWrite(policy.meta), now);
  notes.clear();
  if (!written) return done;
  notes = MakeNotes(policy.status, status);
  remembered_->memory.NoteWrite(policy.meta, now);
  // As it is stored: in whole seconds.
  policy.status =
      crds::DecodeShadowTablePolicy({{"metadata", {{"name", "audit"}}}, {"status", crds::EncodeStatus(status)}})
          ->status;
  return done;
}

void Scene::Settle() {
  for (int i = 0; i < 20; ++i) {
    Pass();
    bool rest = plan.waiting_for.empty() && plan.refused.empty() && policy.status.target_tier.empty();
    StartPods();
    MoveRows();
    now += std::chrono::seconds(15);
    if (rest) return;
  }
  ADD_FAILURE() << "does not come to rest: " << plan.waiting_for << plan.refused;
}

void Scene::StartPods() {
  for (WorkerSeen* worker : {&seen.worker, &seen.cdc}) {
    if (!worker->exists) continue;
    worker->settled = true;
    worker->ready = worker->wanted;
  }
}

void Scene::MoveRows() {
  if (seen.worker.ready > 0 && seen.state.has_value()) seen.state->queue_depth = 0;
  if (seen.cdc.ready > 0 && seen.state.has_value() && seen.state->checkpoint.has_value()) {
    seen.state->checkpoint->ended = true;
  }
}

crds::Condition Scene::ConditionOf(const std::string& type) const {
  const crds::Condition* found = crds::FindCondition(policy.status.conditions, type);
  return found == nullptr ? crds::Condition{} : *found;
}

Scene InNotify(const Json& changes) {
  Scene scene(TwoTables(changes));
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "notify");
  return scene;
}

void Read(Scene& scene, const std::string& trigger, core::Reading reading) {
  scene.seen.readings[{"notify", trigger}] = std::move(reading);
}

}  // namespace pgtier::controllers::shadow_table
