#include <algorithm>

#include "controllers/scale_tier/report.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::scale_tier {
namespace {

void NoteReplicas(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after,
                  std::vector<Note>& notes) {
  for (const crds::ReplicaStatus& replica : after.replicas) {
    auto was = std::find_if(before.replicas.begin(), before.replicas.end(),
                            [&](const crds::ReplicaStatus& each) { return each.name == replica.name; });
    bool routed = was != before.replicas.end() && was->routed;
    if (replica.routed && !routed) notes.push_back({false, "ReplicaRouted", replica.name + " takes reads"});
    if (!replica.routed && routed) notes.push_back({true, "ReplicaUnrouted", replica.name + " takes no reads now"});
  }
  if (before.tier != after.tier || !after.target_tier.empty() || after.replicas.empty()) return;
  bool on_replicas = std::any_of(after.replicas.begin(), after.replicas.end(), [](const auto& r) { return r.routed; });
  bool were = std::any_of(before.replicas.begin(), before.replicas.end(), [](const auto& r) { return r.routed; });
  const crds::Condition* degraded = crds::FindCondition(before.conditions, "Degraded");
  if (were && !on_replicas) {
    notes.push_back({true, "ReadsOnPrimary", "no replica may take reads; they go to the primary"});
  } else if (on_replicas && degraded != nullptr && degraded->reason == "ReadsOnPrimary") {
    notes.push_back({false, "ReadsOnReplicas", "replicas take reads again"});
  }
}

}  // namespace

std::vector<Note> MakeNotes(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after) {
  std::vector<Note> notes;
  NoteTiers(before, after, notes);
  if (const crds::PromotionStatus& promotion = after.promotion;
      promotion.phase != before.promotion.phase || promotion.request != before.promotion.request) {
    bool warns = promotion.phase == "Refused" || promotion.phase == "Returning" || promotion.phase == "Returned";
    std::string text = promotion.message.empty() ? promotion.to + " in place of " + promotion.from : promotion.message;
    if (!promotion.phase.empty()) notes.push_back({warns, "Promotion" + promotion.phase, text});
  }
  const crds::Rotation& certificates = after.rotations.certificates;
  if (certificates.request != before.rotations.certificates.request) {
    notes.push_back({false, "CertificatesRotated",
                     "a new authority and new certificates, as asked for by " + certificates.request});
  }
  const crds::Rotation& passwords = after.rotations.passwords;
  if (passwords.request != before.rotations.passwords.request) {
    notes.push_back({false, "PasswordsRotated",
                     "new passwords, as asked for by " + passwords.request +
                         "; applications may log in by the former " +
                         (passwords.former_until.has_value() ? "until " + FormatTime(*passwords.former_until)
                                                             : std::string("no more"))});
  } else if (before.rotations.passwords.former_until.has_value() && !passwords.former_until.has_value()) {
    notes.push_back({false, "FormerPasswordsEnded", "nobody can log in by the passwords of before any more"});
  }
  NoteConditions(before, after, notes);
  NoteReplicas(before, after, notes);
  if (const crds::ScalingStatus& scaling = after.scaling;
      scaling.changed_at.has_value() && scaling.changed_at != before.scaling.changed_at) {
    notes.push_back({false, "Replicas" + scaling.phase, scaling.message});
  }
  if (after.closed_clients > before.closed_clients) {
    notes.push_back({true, "ClientsClosed",
                     std::to_string(after.closed_clients - before.closed_clients) +
                         " clients of the former pooler were closed: they had not finished within drainTimeout"});
  }
  return notes;
}

void ExportMetrics(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status, Metrics& metrics) {
  const crds::Meta& meta = outcome.policy.meta;
  // Tiers and triggers that an edit removed, and replicas that are gone, leave no series behind.
  if (outcome.policy.status.observed_generation != meta.generation ||
      outcome.policy.status.replicas.size() != status.replicas.size()) {
    metrics.Forget({{"namespace", meta.namespace_}, {"policy", meta.name}});
  }
  Labels policy = {{"namespace", meta.namespace_}, {"policy", meta.name}};
  auto with = [&](const std::string& name, const std::string& value) {
    Labels labels = policy;
    labels[name] = value;
    return labels;
  };
  ExportLadder(outcome.Ladder(), status, policy, metrics);
  const crds::Condition* ready = crds::FindCondition(status.conditions, "Ready");
  metrics.Set("pgtier_ready", "1 while the policy's database serves as specified.", policy,
              ready != nullptr && ready->status == "True" ? 1 : 0);
  metrics.Set("pgtier_climbing", "1 during a tier change.", policy, status.target_tier.empty() ? 0 : 1);
  metrics.Set("pgtier_pooler_clients_closed", "Idle clients closed when the pooler's engine changed, so far.", policy,
              static_cast<double>(status.closed_clients));
  for (const InstanceSeen& instance : outcome.seen.instances) {
    // The last lag of a replica that does not stream would look like health.
    if (!instance.streaming) {
      metrics.Forget(with("replica", instance.name));
      continue;
    }
    double seconds = std::chrono::duration<double>(instance.lag.value_or(Duration::zero())).count();
    metrics.Set("pgtier_replica_lag_seconds", "How far a replica is behind, by its heartbeat.",
                with("replica", instance.name), seconds);
  }
  if (status.scaling.replicas > 0) {
    metrics.Set("pgtier_replicas_needed", "Replicas that the load asks for, also beyond readReplicas.max.", policy,
                static_cast<double>(status.scaling.needed));
  }
  bool routed = false;
  for (const crds::ReplicaStatus& replica : status.replicas) {
    routed = routed || replica.routed;
    metrics.Set("pgtier_replica_routed", "1 while a replica takes reads.", with("replica", replica.name),
                replica.routed ? 1 : 0);
  }
  const TierSettings* tier = outcome.resolved.Find(status.tier);
  bool meant = tier != nullptr && tier->replicas > 0 && tier->UsesReplicas();
  metrics.Set("pgtier_reads_on_primary", "1 while reads go to the primary because no replica may take them.", policy,
              meant && !routed ? 1 : 0);
}

}  // namespace pgtier::controllers::scale_tier
