#include "controllers/shadow_table/report.h"

namespace pgtier::controllers::shadow_table {

std::vector<Note> MakeNotes(const crds::ShadowTablePolicyStatus& before, const crds::ShadowTablePolicyStatus& after) {
  std::vector<Note> notes;
  NoteTiers(before, after, notes);
  NoteConditions(before, after, notes);
  const crds::Condition* ddl = crds::FindCondition(after.conditions, "DdlNotFollowed");
  const crds::Condition* ddl_before = crds::FindCondition(before.conditions, "DdlNotFollowed");
  bool told = ddl_before != nullptr && ddl != nullptr && ddl_before->message == ddl->message;
  if (ddl != nullptr && ddl->reason == "ColumnsChanged" && !told) {
    notes.push_back({true, "DdlNotFollowed", ddl->message});
  }
  // Each new gap, by the part of the message that names the last one.
  auto gaps = [](const crds::ShadowTablePolicyStatus& status) {
    const crds::Condition* lossless = crds::FindCondition(status.conditions, "Lossless");
    size_t at = lossless == nullptr ? std::string::npos : lossless->message.find("rows may be missing");
    return at == std::string::npos ? std::string() : lossless->message.substr(at);
  };
  if (std::string text = gaps(after); !text.empty() && text != gaps(before)) {
    notes.push_back({true, "PayloadGap", text});
  }
  for (const crds::ShadowTableStatus& table : after.tables) {
    bool was = false;
    for (const crds::ShadowTableStatus& each : before.tables) was = was || (each.name == table.name && each.installed);
    if (table.installed == was) continue;
    notes.push_back({!table.installed, table.installed ? "TableKept" : "TableNotKept",
                     table.installed ? "changes of " + table.name + " are kept in " + table.shadow
                                     : "changes of " + table.name + " are not kept as they should be"});
  }
  return notes;
}

namespace {

// Of the tier that runs, and of one that has something left to write.
void ExportWorkers(const Outcome& outcome, const Labels& policy, Metrics& metrics) {
  const shadow::State& state = *outcome.seen.state;
  const bool notify = state.tier == shadow::Tier::kNotify || state.draining || state.queue_depth > 0;
  const bool cdc = state.tier == shadow::Tier::kCdc || (state.checkpoint.has_value() && !state.checkpoint->ended);
  int ready = (notify ? outcome.seen.worker.ready : 0) + (cdc ? outcome.seen.cdc.ready : 0);
  int wanted = (notify ? outcome.workers : 0) + (cdc ? 1 : 0);
  metrics.Set("pgtier_shadow_workers_ready", "Workers that are ready, of those that are needed.", policy, ready);
  metrics.Set("pgtier_shadow_workers_wanted", "Workers that are needed.", policy, wanted);
}

void ExportSlot(const Outcome& outcome, const Labels& policy, Metrics& metrics) {
  const shadow::SlotState& slot = outcome.seen.state->slot;
  auto labels = [&](const std::string& name) {
    Labels own = policy;
    own["slot"] = name;
    return own;
  };
  // The last figures of a slot that is gone would look like one that is there.
  const std::string& before = outcome.policy.status.slot.name;
  if (!before.empty() && (!slot.exists || before != outcome.resolved.spec.slot)) metrics.Forget(labels(before));
  if (!slot.exists) return;
  const Labels series = labels(outcome.resolved.spec.slot);
  metrics.Set("pgtier_shadow_slot_retained_bytes", "WAL that the server keeps for the slot.", series,
              static_cast<double>(slot.retained_bytes));
  if (outcome.resolved.max_retained_wal.has_value()) {
    metrics.Set("pgtier_shadow_slot_limit_bytes", "WAL at which cdc is left: maxRetainedWAL.", series,
                *outcome.resolved.max_retained_wal);
  }
  metrics.Set("pgtier_shadow_slot_active", "1 while somebody reads the slot.", series, slot.active ? 1 : 0);
}

}  // namespace

Labels MetricLabels(const crds::Meta& policy) {
  return {{"namespace", policy.namespace_}, {"shadow_policy", policy.name}};
}

void ExportMetrics(const Outcome& outcome, const crds::ShadowTablePolicyStatus& status, Metrics& metrics) {
  const crds::Meta& meta = outcome.policy.meta;
  Labels policy = MetricLabels(meta);
  // Tiers, triggers and tables that an edit removed leave no series behind.
  if (outcome.policy.status.observed_generation != meta.generation) metrics.Forget(policy);
  ExportLadder(outcome.Ladder(), status, policy, metrics);
  const crds::Condition* ready = crds::FindCondition(status.conditions, "Ready");
  metrics.Set("pgtier_shadow_ready", "1 while every table's changes are kept as specified.", policy,
              ready != nullptr && ready->status == "True" ? 1 : 0);
  metrics.Set("pgtier_shadow_climbing", "1 during a tier change.", policy, status.target_tier.empty() ? 0 : 1);
  if (!outcome.seen.state.has_value()) return;
  const shadow::State& state = *outcome.seen.state;
  metrics.Set("pgtier_shadow_queue_rows", "Rows that wait in the queues of a policy's tables.", policy,
              static_cast<double>(state.queue_depth));
  metrics.Set("pgtier_shadow_queue_alert", "Rows in the queue beyond which the policy is degraded.", policy,
              static_cast<double>(outcome.resolved.workers.queue_alert));
  metrics.Set("pgtier_shadow_queue_oldest_seconds", "Age of the oldest row that waits.", policy,
              std::chrono::duration<double>(state.oldest).count());
  metrics.Set("pgtier_shadow_dead_letters", "Changes that could not be written into a history.", policy,
              static_cast<double>(state.dead_letters));
  metrics.Set("pgtier_shadow_gaps", "Times of which rows may be missing in histories: delivery Payload.", policy,
              static_cast<double>(state.payload.gaps));
  ExportWorkers(outcome, policy, metrics);
  ExportSlot(outcome, policy, metrics);
}

}  // namespace pgtier::controllers::shadow_table
