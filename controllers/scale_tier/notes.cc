#include <algorithm>

#include "controllers/scale_tier/report.h"

namespace pgtier::controllers::scale_tier {
namespace {

// A condition whose change people are told of.
struct Watched {
  const char* type;
  const char* bad_status;  // The status that is a warning.
  const char* bad_reason;
  const char* good_reason;
  const char* good_words;
};

constexpr Watched kWatched[] = {
    {"Ready", "False", "NotReady", "Ready", "it serves as specified"},
    {"Stalled", "True", "Stalled", "Unstalled", "nobody needs to act any more"},
    {"MetricsAvailable", "False", "MetricsUnavailable", "MetricsAvailable", "every reading is there"},
    {"Degraded", "True", "Degraded", "Recovered", "it is as specified again"}};

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
  if (!after.target_tier.empty() && after.target_tier != before.target_tier) {
    std::string why;
    for (const crds::TierStatus& tier : after.tiers) {
      if (tier.name == after.target_tier) why = tier.message;
    }
    notes.push_back({false, "TierChangeStarted", after.tier + " to " + after.target_tier + ": " + why});
  }
  if (after.tier != before.tier && !after.tier.empty()) {
    std::string from = before.tier.empty() ? "" : " from " + before.tier;
    std::string why;
    for (const crds::TierStatus& tier : after.tiers) {
      if (tier.name == after.tier) why = tier.message;
    }
    notes.push_back({false, "TierEntered", "entered " + after.tier + from + ": " + why});
  }
  if (!after.plan.approved_by.empty() && (before.plan.approved_by.empty() || before.plan.hash != after.plan.hash)) {
    notes.push_back({false, "PlanApproved",
                     "plan " + after.plan.hash + ", " + after.plan.from + " to " + after.plan.to + ", approved by " +
                         after.plan.approved_by});
  }
  const crds::Condition* asks = crds::FindCondition(after.conditions, "ApprovalRequired");
  const crds::Condition* asked = crds::FindCondition(before.conditions, "ApprovalRequired");
  if (asks != nullptr && asks->status == "True" && (asked == nullptr || asked->status != "True")) {
    notes.push_back({false, "ApprovalRequired", asks->message});
  }
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
  const crds::Condition* ready_before = crds::FindCondition(before.conditions, "Ready");
  const crds::Condition* ready = crds::FindCondition(after.conditions, "Ready");
  if (ready != nullptr && ready->reason.starts_with("WouldEnter") &&
      (ready_before == nullptr || ready_before->reason != ready->reason)) {
    notes.push_back({false, ready->reason, ready->message});
  }
  for (const Watched& watched : kWatched) {
    const crds::Condition* was = crds::FindCondition(before.conditions, watched.type);
    const crds::Condition* is = crds::FindCondition(after.conditions, watched.type);
    if (is == nullptr) continue;
    bool bad = is->status == watched.bad_status;
    bool was_bad = was != nullptr && was->status == watched.bad_status;
    // A policy that has only just come is not ready yet: no news.
    bool first = was == nullptr && (std::string(watched.type) == "Ready" || !bad);
    if (bad == was_bad || first) continue;
    notes.push_back(
        {bad, bad ? watched.bad_reason : watched.good_reason, is->message.empty() ? watched.good_words : is->message});
  }
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
  for (const core::Tier& tier : outcome.resolved.ladder.tiers) {
    metrics.Set("pgtier_tier", "1 for the tier that runs, 0 for the others.", with("tier", tier.name),
                tier.name == status.tier ? 1 : 0);
    for (const core::Trigger& trigger : tier.triggers) {
      const core::TriggerMemory& memory = outcome.decision.triggers.at({tier.name, trigger.name});
      Labels labels = with("tier", tier.name);
      labels["trigger"] = trigger.name;
      if (memory.observed.has_value()) {
        metrics.Set("pgtier_trigger_value", "The last reading of a trigger, in its own unit.", labels,
                    *memory.observed);
      }
      metrics.Set("pgtier_trigger_threshold", "The threshold of a trigger, in its own unit.", labels,
                  trigger.threshold);
      metrics.Set("pgtier_trigger_unknown", "1 while a trigger has no reading.", labels,
                  memory.state == core::TriggerState::kUnknown ? 1 : 0);
    }
  }
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
  bool meant = tier != nullptr && tier->replicas > 0 && tier->route_reads;
  metrics.Set("pgtier_reads_on_primary", "1 while reads go to the primary because no replica may take them.", policy,
              meant && !routed ? 1 : 0);
}

}  // namespace pgtier::controllers::scale_tier
