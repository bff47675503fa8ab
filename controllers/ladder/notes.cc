#include "controllers/ladder/notes.h"

#include "lib/base/log.h"

namespace pgtier::controllers {
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

}  // namespace

void NoteTiers(const crds::LadderStatus& before, const crds::LadderStatus& after, std::vector<Note>& notes) {
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
}

void NoteConditions(const crds::LadderStatus& before, const crds::LadderStatus& after, std::vector<Note>& notes) {
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
}

Status Publish(const kube::Resource& resource, const crds::Meta& policy, const nlohmann::json& status,
               const std::vector<Note>& notes, kube::Client& client, kube::EventRecorder& events, Deadline deadline,
               const std::stop_token& stop) {
  nlohmann::json object{
      {"metadata",
       {{"namespace", policy.namespace_}, {"name", policy.name}, {"resourceVersion", policy.resource_version}}},
      {"status", status}};
  Result<nlohmann::json> written = client.ApplyStatus(resource, object, deadline, stop);
  if (!written.has_value()) return written.error().WithContext("write status");
  kube::ObjectReference regarding{resource.ApiVersion(), std::string(resource.kind), policy.namespace_, policy.name,
                                  policy.uid};
  for (const Note& note : notes) {
    log::Info(note.message, {{"event", note.reason}});
    events.Record({regarding, note.warning, note.reason, "Reconcile", note.message});
  }
  return {};
}

void ExportLadder(const LadderPass& pass, const crds::LadderStatus& status, const Labels& policy, Metrics& metrics) {
  auto with = [&](const std::string& name, const std::string& value) {
    Labels labels = policy;
    labels[name] = value;
    return labels;
  };
  auto holds = [&](const char* type) {
    const crds::Condition* condition = crds::FindCondition(status.conditions, type);
    return condition != nullptr && condition->status == "True" ? 1 : 0;
  };
  metrics.Set("pgtier_stalled", "1 while a person must act: the condition Stalled.", policy, holds("Stalled"));
  metrics.Set("pgtier_degraded", "1 while it serves, and not as it should: the condition Degraded.", policy,
              holds("Degraded"));
  metrics.Set("pgtier_paused", "1 while the policy is paused.", policy, pass.paused ? 1 : 0);
  for (const core::Tier& tier : pass.ladder.tiers) {
    metrics.Set("pgtier_tier", "1 for the tier that runs, 0 for the others.", with("tier", tier.name),
                tier.name == status.tier ? 1 : 0);
    for (const core::Trigger& trigger : tier.triggers) {
      const core::TriggerMemory& memory = pass.decision.triggers.at({tier.name, trigger.name});
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
}

}  // namespace pgtier::controllers
