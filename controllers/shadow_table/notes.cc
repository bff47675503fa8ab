#include "controllers/shadow_table/report.h"

namespace pgtier::controllers::shadow_table {

std::vector<Note> MakeNotes(const crds::ShadowTablePolicyStatus& before, const crds::ShadowTablePolicyStatus& after) {
  std::vector<Note> notes;
  NoteTiers(before, after, notes);
  NoteConditions(before, after, notes);
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
  metrics.Set("pgtier_shadow_workers_ready", "Workers that are ready.", policy, outcome.seen.worker.ready);
}

}  // namespace pgtier::controllers::shadow_table
