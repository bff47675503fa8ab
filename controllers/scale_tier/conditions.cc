#include <algorithm>
#include <cctype>

#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/report.h"
#include "core/words.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

constexpr char kTrue[] = "True";
constexpr char kFalse[] = "False";
constexpr char kUnknown[] = "Unknown";

// What one condition says; times and generation are added for all alike.
struct Saying {
  std::string status, reason, message;
};

Saying SayIf(bool is, std::string reason, std::string message, const char* else_reason) {
  return is ? Saying{kTrue, std::move(reason), std::move(message)} : Saying{kFalse, else_reason, ""};
}

bool Moving(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  return outcome.decision.verdict == core::Verdict::kMove && !status.target_tier.empty();
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string ListUnavailable(const Outcome& outcome) {
  std::vector<std::string> fields;
  for (const Unavailable& gap : outcome.resolved.unavailable) {
    // A field of the base may stand in the way of several tiers.
    if (std::find(fields.begin(), fields.end(), gap.field) == fields.end()) fields.push_back(gap.field);
  }
  fields.insert(fields.end(), outcome.plan.unavailable.begin(), outcome.plan.unavailable.end());
  return Join(fields);
}

// Ready pods that answered, behind a Service.
long Answering(const Outcome& outcome, const Endpoint& behind) {
  const Seen& seen = outcome.seen;
  const nlohmann::json* service = seen.Object(kube::kServices, outcome.resolved.endpoint + behind.suffix);
  std::string endpoint = service == nullptr ? "" : kube::StringAt(*service, {"spec", "selector", kEndpointLabel});
  return std::count_if(seen.poolers.begin(), seen.poolers.end(),
                       [&](const PoolerPodSeen& pod) { return pod.endpoint == endpoint && pod.ready && pod.answered; });
}

// Why the ladder stands where it stands: the gate that is shut, else what brought it to its tier.
std::string Standing(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  const core::Decision& decision = outcome.decision;
  if (outcome.paused) return "Paused";
  if (Moving(outcome, status)) return "Climbing";
  if (decision.reason != "Holding" && decision.reason != "LastTier" && decision.verdict != core::Verdict::kMove &&
      decision.verdict != core::Verdict::kStart) {
    return decision.reason;
  }
  for (const crds::TierStatus& tier : status.tiers) {
    if (tier.name == status.tier && !tier.reason.empty()) return tier.reason;
  }
  return "Holding";
}

// The word before the colon of "SecretNotFound: there is no …", where a failure begins with one.
std::string ReasonIn(const std::string& failure, const char* otherwise) {
  size_t colon = failure.find(": ");
  bool word = colon != std::string::npos && colon > 3 && std::isupper(static_cast<unsigned char>(failure[0])) != 0 &&
              std::all_of(failure.begin(), failure.begin() + static_cast<std::ptrdiff_t>(colon),
                          [](unsigned char c) { return std::isalpha(c) != 0; });
  return word ? failure.substr(0, colon) : otherwise;
}

std::string WithoutReason(const std::string& failure) {
  return ReasonIn(failure, "").empty() ? failure : failure.substr(failure.find(": ") + 2);
}

Saying SayReady(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  const Seen& seen = outcome.seen;
  if (std::string why = outcome.resolved.WholePolicyRefused(); !why.empty()) return {kFalse, "SpecRefused", why};
  if (std::string why = outcome.resolved.WholePolicyUnavailable(); !why.empty()) return {kFalse, "NotAvailable", why};
  if (!outcome.policy.problems.empty()) {
    return {kUnknown, "InvalidSpec", "the stored object breaks rules of the schema; see the condition Stalled"};
  }
  std::string standing = Standing(outcome, status);
  if (outcome.resolved.ladder.observe_only) {
    // Where the ladder starts nothing is built; the first pass says what the next ones do, and need not be corrected.
    const core::Decision& decision = outcome.decision;
    const std::vector<core::Tier>& tiers = outcome.resolved.ladder.tiers;
    std::string says = decision.verdict == core::Verdict::kStart && tiers.size() > 1
                           ? core::DescribeWaiting(tiers[1], decision.triggers, outcome.now)
                           : decision.message;
    return {kTrue, standing, "observing: nothing is created or changed. " + says};
  }
  if (seen.primary.bad_password) {
    return {kFalse, "SuperuserPasswordRefused",
            "the primary refuses the superuser's password in Secret " + outcome.policy.meta.name +
                "-internal; restore the Secret, or set the role's password to the one in it"};
  }
  if (!seen.primary.answered && !seen.primary.reason.empty()) {
    return {kFalse, seen.primary.reason, seen.primary.error};
  }
  if (seen.primary.installed.empty() && !outcome.failure.empty()) {
    return {kFalse, ReasonIn(outcome.failure, "PrimaryNotReady"), WithoutReason(outcome.failure)};
  }
  if (!seen.primary.answered || seen.primary.installed.empty()) {
    return {kFalse, "PrimaryNotReady",
            outcome.failure.empty() ? "waiting for " + outcome.plan.waiting_for : outcome.failure};
  }
  for (const Endpoint& endpoint : kEndpoints) {
    if (Answering(outcome, endpoint) > 0) continue;
    return {kFalse, "PoolerNotReady",
            outcome.failure.empty() ? "no pooler of " + outcome.resolved.endpoint + endpoint.suffix + " answers"
                                    : outcome.failure};
  }
  return {kTrue, standing, outcome.decision.message};
}

// True until the current generation has been realised once; later trouble is Degraded, not Reconciling.
Saying SayReconciling(const Outcome& outcome) {
  const crds::Condition* before = crds::FindCondition(outcome.policy.status.conditions, "Reconciling");
  bool realised = before != nullptr && before->status == kFalse &&
                  before->observed_generation == outcome.policy.meta.generation && before->reason == "Realised";
  // What is not acted on is not under way; nor is it realised, or its end of waiting would pass for later trouble.
  if (!realised && outcome.paused) return {kFalse, "Paused", ""};
  if (!outcome.policy.problems.empty() || !outcome.resolved.WholePolicyUnavailable().empty()) {
    return {kFalse, "Stalled", ""};
  }
  bool open = !realised && !outcome.Complete() && !outcome.resolved.ladder.observe_only;
  return SayIf(open, "InProgress",
               outcome.failure.empty() ? "waiting for " + outcome.plan.waiting_for : outcome.failure, "Realised");
}

Saying SayStalled(const Outcome& outcome) {
  if (!outcome.resolved.refusals.empty()) {
    std::vector<std::string> refused;
    for (const Refusal& refusal : outcome.resolved.refusals) refused.push_back(refusal.why);
    return {kTrue, "SpecRefused", Join(refused)};
  }
  if (std::string why = outcome.resolved.WholePolicyUnavailable(); !why.empty()) return {kTrue, "NotAvailable", why};
  if (!outcome.policy.problems.empty()) return {kTrue, "InvalidSpec", Join(outcome.policy.problems)};
  if (outcome.seen.primary.bad_password) return {kTrue, "SuperuserPasswordRefused", outcome.seen.primary.error};
  if (!outcome.needs_person) return {kFalse, "NothingToDo", ""};
  return {kTrue, ReasonIn(outcome.failure, "ActionRefused"), WithoutReason(outcome.failure)};
}

Saying SayClimbing(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  std::string progress = outcome.failure.empty() ? "waiting for " + outcome.plan.waiting_for : outcome.failure;
  return SayIf(Moving(outcome, status), "TierChange",
               outcome.decision.from + " to " + status.target_tier + ": " + progress, "NoTierChange");
}

Saying SayApproval(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  if (outcome.decision.reason != "ApprovalRequired") return {kFalse, "NoPlanWaits", ""};
  std::vector<Approval> given = ApprovalsOf(outcome.policy);
  bool in_vain = std::any_of(given.begin(), given.end(),
                             [&](const Approval& approval) { return approval.hash != status.plan.hash; });
  return {kTrue, in_vain ? "OtherPlanApproved" : "PlanWaits",
          outcome.decision.message + " of " + HowToApprove(outcome.policy, status.plan.hash)};
}

Saying SayPromoting(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  const crds::PromotionStatus& promotion = status.promotion;
  if (promotion.phase.empty()) return {kFalse, "NoPromotion", ""};
  if (promotion.phase != "Fencing" && promotion.phase != "Returning") {
    return {kFalse, promotion.phase, promotion.message};
  }
  std::string progress = outcome.failure.empty() ? "waiting for " + outcome.plan.waiting_for : outcome.failure;
  return {kTrue, promotion.phase, promotion.to + " in place of " + promotion.from + ": " + progress};
}

Saying SayMetrics(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  std::string unknown;
  std::optional<size_t> current = core::FindTier(outcome.resolved.ladder, status.tier);
  // Those of the tier that runs decide something too, where it may be left.
  bool may_leave = outcome.resolved.ladder.down != core::Down::kNever;
  for (size_t i = current.value_or(0) + (may_leave ? 0 : 1); i < outcome.resolved.ladder.tiers.size(); ++i) {
    const core::Tier& tier = outcome.resolved.ladder.tiers[i];
    for (const core::Trigger& trigger : tier.triggers) {
      const core::TriggerMemory& memory = outcome.decision.triggers.at({tier.name, trigger.name});
      if (!core::IsMissing(memory)) continue;
      unknown += (unknown.empty() ? "" : "; ") + trigger.name + ": " + memory.unknown_reason;
    }
  }
  if (!outcome.scaling.missing.empty()) {
    unknown += std::string(unknown.empty() ? "" : "; ") + "readReplicas: " + outcome.scaling.missing;
  }
  if (unknown.empty()) return {kTrue, "AllRead", ""};
  return {kFalse, "ReadingsUnknown", unknown};
}

// Who restarts an instance that needs it, and when.
std::string WhenRestarted(const Outcome& outcome) {
  const std::vector<std::string>& windows = outcome.policy.spec.maintenance_windows;
  if (windows.empty()) return "delete its pod when it suits, replicas before the primary";
  std::string text = outcome.seen.maintenance ? "restarted in the maintenance window that is open, one at a time"
                                              : "restarted in the next maintenance window: ";
  if (outcome.seen.maintenance) return text;
  for (const std::string& window : windows) text += (window == windows.front() ? "" : ", ") + window;
  return text;
}

Saying SayDegraded(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  std::string trouble;
  const TierSettings* tier = outcome.resolved.Find(status.tier);
  if (tier != nullptr && !Moving(outcome, status)) {
    long healthy = std::count_if(status.replicas.begin(), status.replicas.end(),
                                 [](const crds::ReplicaStatus& replica) { return replica.healthy; });
    // One more that is on its way for the load's sake is no trouble, unless it has some of its own.
    const std::vector<InstanceSeen>& instances = outcome.seen.instances;
    bool in_trouble = std::any_of(instances.begin(), instances.end(), [](const auto& i) { return !i.trouble.empty(); });
    int expected = tier->replicas - (status.scaling.phase == "Growing" && !in_trouble ? 1 : 0);
    if (healthy < expected && outcome.seen.primary.answered) {
      trouble = std::to_string(healthy) + " of " + std::to_string(tier->replicas) + " replicas may take reads";
      bool on_primary = healthy == 0 && tier->route_reads;
      if (on_primary) trouble += "; reads go to the primary";
      if (!outcome.plan.waiting_for.empty()) trouble += "; waiting for " + outcome.plan.waiting_for;
      bool lagging = std::any_of(outcome.seen.instances.begin(), outcome.seen.instances.end(), [&](const auto& each) {
        return each.streaming && each.lag.value_or(Duration::zero()) > tier->max_lag;
      });
      return {kTrue, on_primary ? "ReadsOnPrimary" : lagging ? "ReplicaLagging" : "ReplicasUnhealthy", trouble};
    }
  }
  const VolumeNews& volumes = outcome.plan.volumes;
  if (!volumes.cannot.empty()) return {kTrue, "VolumeCannotGrow", volumes.cannot};
  if (!volumes.growing.empty()) return {kTrue, "VolumeGrows", volumes.growing};
  // Standbys first: one with fewer connections than its primary stops replaying.
  for (auto it = outcome.seen.instances.rbegin(); it != outcome.seen.instances.rend(); ++it) {
    const InstanceSeen& instance = *it;
    if (instance.NeedsRestart()) {
      return {kTrue, "RestartPending",
              instance.name + " runs with an older image, pod template or values of settings that take a restart; " +
                  WhenRestarted(outcome)};
    }
  }
  return {kFalse, "AsSpecified", ""};
}

Saying SayTier(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status, const core::Tier& tier) {
  const core::Ladder& ladder = outcome.resolved.ladder;
  std::optional<size_t> current = core::FindTier(ladder, status.tier);
  std::optional<size_t> own = core::FindTier(ladder, tier.name);
  for (const crds::TierStatus& entered : status.tiers) {
    if (entered.name != tier.name) continue;
    if (current.has_value() && *own <= *current) {
      return {kTrue, entered.reason.empty() ? "Entered" : entered.reason, entered.message};
    }
    if (status.target_tier == tier.name) return {kFalse, "Climbing", "being entered: " + entered.message};
  }
  std::string waiting = core::DescribeWaiting(tier, outcome.decision.triggers, outcome.now);
  bool due = outcome.decision.due == tier.name;
  bool approved = due && outcome.decision.reason == tier.not_executed.reason;
  const core::Gate& gate = tier.blocked.reason.empty() && approved ? tier.not_executed : tier.blocked;
  if (gate.reason == "SpecRefused") return {kFalse, gate.reason, gate.message};
  if (gate.reason.empty()) return {kFalse, "NotReached", waiting};
  // What cannot be entered is decided all the same: that it is due, and why, is what a person has to know.
  return {kFalse, gate.reason, gate.message + (due ? "; it is due: " : "; ") + waiting};
}

}  // namespace

std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  std::string unavailable = ListUnavailable(outcome);
  std::vector<std::pair<std::string, Saying>> sayings = {
      {"Ready", SayReady(outcome, status)},
      {"Reconciling", SayReconciling(outcome)},
      {"Stalled", SayStalled(outcome)},
      {"Climbing", SayClimbing(outcome, status)},
      {"Promoting", SayPromoting(outcome, status)},
      {"ApprovalRequired", SayApproval(outcome, status)},
      {"MetricsAvailable", SayMetrics(outcome, status)},
      {"Degraded", SayDegraded(outcome, status)},
      {"Paused", SayIf(outcome.paused, "Annotated", "the annotation pgtier.dev/paused is set", "NotPaused")},
      {"NotAvailable",
       SayIf(!unavailable.empty(), "FieldsNotAvailable",
             "this release takes these fields and does not act on them yet: " + unavailable, "EverythingAvailable")}};
  for (const core::Tier& tier : outcome.resolved.ladder.tiers) {
    sayings.emplace_back("tier.pgtier.dev/" + tier.name, SayTier(outcome, status, tier));
  }
  std::vector<crds::Condition> conditions;
  for (auto& [type, saying] : sayings) {
    const crds::Condition* before = crds::FindCondition(outcome.policy.status.conditions, type);
    bool same = before != nullptr && before->status == saying.status && before->last_transition.has_value();
    conditions.push_back({type, saying.status, saying.reason, saying.message, outcome.policy.meta.generation,
                          same ? before->last_transition : outcome.now});
  }
  return conditions;
}

}  // namespace pgtier::controllers::scale_tier
