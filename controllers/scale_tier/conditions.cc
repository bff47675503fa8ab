#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/report.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

std::vector<std::string> ListUnavailable(const Outcome& outcome) {
  std::vector<std::string> fields = outcome.resolved.Fields();
  fields.insert(fields.end(), outcome.plan.unavailable.begin(), outcome.plan.unavailable.end());
  return fields;
}

// Ready pods that answered, behind a Service.
long Answering(const Outcome& outcome, const Endpoint& behind) {
  const Seen& seen = outcome.seen;
  const nlohmann::json* service = seen.Object(kube::kServices, outcome.resolved.endpoint + behind.suffix);
  std::string endpoint = service == nullptr ? "" : kube::StringAt(*service, {"spec", "selector", kEndpointLabel});
  return std::count_if(seen.poolers.begin(), seen.poolers.end(),
                       [&](const PoolerPodSeen& pod) { return pod.endpoint == endpoint && pod.ready && pod.answered; });
}

Saying SayReady(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  const Seen& seen = outcome.seen;
  const LadderPass pass = outcome.Ladder();
  if (std::optional<Saying> unserved = SayUnserved(pass)) return *unserved;
  if (outcome.resolved.ladder.observe_only) return SayObserving(pass, status);
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
  return {kTrue, Standing(pass, status), outcome.decision.message};
}

Saying SayStalled(const Outcome& outcome) {
  const LadderPass pass = outcome.Ladder();
  if (std::optional<Saying> refused = SayRefused(pass)) return *refused;
  if (outcome.seen.primary.bad_password) return {kTrue, "SuperuserPasswordRefused", outcome.seen.primary.error};
  return SayNeedsPerson(pass);
}

Saying SayPromoting(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  const crds::PromotionStatus& promotion = status.promotion;
  if (promotion.phase.empty()) return {kFalse, "NoPromotion", ""};
  if (promotion.phase != "Fencing" && promotion.phase != "Returning") {
    return {kFalse, promotion.phase, promotion.message};
  }
  return {kTrue, promotion.phase, promotion.to + " in place of " + promotion.from + ": " + outcome.Ladder().Progress()};
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

// Which replicas do not replay; empty: none.
std::string ListPaused(const Outcome& outcome) {
  std::string list;
  for (const InstanceSeen& each : outcome.seen.instances) {
    if (!each.replay_paused) continue;
    list += (list.empty() ? "" : "; ") + PausedInWords(each, outcome.policy.meta.namespace_);
  }
  return list;
}

Saying SayDegraded(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  std::string trouble;
  std::string paused = ListPaused(outcome);
  const TierSettings* tier = outcome.resolved.Find(status.tier);
  if (tier != nullptr && !Moving(outcome.Ladder(), status)) {
    long healthy = std::count_if(status.replicas.begin(), status.replicas.end(),
                                 [](const crds::ReplicaStatus& replica) { return replica.healthy; });
    // One more that is on its way for the load's sake is no trouble, unless it has some of its own.
    const std::vector<InstanceSeen>& instances = outcome.seen.instances;
    bool in_trouble = std::any_of(instances.begin(), instances.end(), [](const auto& i) { return !i.trouble.empty(); });
    int expected = tier->replicas - (status.scaling.phase == "Growing" && !in_trouble ? 1 : 0);
    if (healthy < expected && outcome.seen.primary.answered) {
      trouble = std::to_string(healthy) + " of " + std::to_string(tier->replicas) + " replicas may take reads";
      bool on_primary = healthy == 0 && tier->UsesReplicas();
      if (on_primary) trouble += "; reads go to the primary";
      if (!paused.empty()) trouble += "; " + paused;
      bool is_named = paused.find(outcome.plan.waiting_for) != std::string::npos;
      if (!is_named) trouble += "; waiting for " + outcome.plan.waiting_for;
      bool lagging = std::any_of(outcome.seen.instances.begin(), outcome.seen.instances.end(), [&](const auto& each) {
        return each.streaming && each.lag.value_or(Duration::zero()) > tier->max_lag;
      });
      const char* why = !paused.empty() ? "ReplayPaused" : lagging ? "ReplicaLagging" : "ReplicasUnhealthy";
      return {kTrue, on_primary ? "ReadsOnPrimary" : why, trouble};
    }
  }
  if (!paused.empty()) return {kTrue, "ReplayPaused", paused};
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

// What of the materialized views is not refreshed as it should be, each by its name.
Saying SayMaterializedViews(const Outcome& outcome) {
  std::string failed;
  std::string overdue;
  auto add = [](std::string& list, const std::string& entry) { list += (list.empty() ? "" : "; ") + entry; };
  for (const auto& [name, view] : outcome.seen.primary.materialized_views) {
    if (!view.problem.empty()) add(failed, name + ": " + view.problem);
    // Three times, so that one that takes as long as its interval is not called late by turns.
    WallTime fresh = view.fresh.value_or(view.listed.value_or(outcome.now));
    if (view.problem.empty() && outcome.now - fresh > 3 * view.every + std::chrono::minutes(1)) {
      add(overdue, name + ": as of " + FormatTime(fresh) + ", and due every " + FormatDuration(view.every));
    }
  }
  if (!failed.empty()) return {kFalse, "RefreshFailed", failed};
  if (!overdue.empty()) return {kFalse, "RefreshOverdue", overdue};
  return {kTrue, "Refreshed", ""};
}

}  // namespace

std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status) {
  const LadderPass pass = outcome.Ladder();
  const std::vector<crds::Condition>& before = outcome.policy.status.conditions;
  const std::string& missing = outcome.scaling.missing;
  std::vector<std::pair<std::string, Saying>> sayings = {
      {"Ready", SayReady(outcome, status)},
      {"Reconciling", SayReconciling(pass, before)},
      {"Stalled", SayStalled(outcome)},
      {"Climbing", SayClimbing(pass, status)},
      {"Promoting", SayPromoting(outcome, status)},
      {"ApprovalRequired", SayApproval(pass, status, "scaletiers")},
      {"MetricsAvailable", SayMetrics(pass, status, missing.empty() ? "" : "readReplicas: " + missing)},
      {"Degraded", SayDegraded(outcome, status)},
      {"Paused", SayPaused(pass)},
      {core::kNotAvailable, SayNotAvailable(ListUnavailable(outcome))}};
  if (!outcome.seen.primary.materialized_views.empty()) {
    sayings.emplace_back("MaterializedViewsRefreshed", SayMaterializedViews(outcome));
  }
  return DateConditions(std::move(sayings), pass, status, before);
}

}  // namespace pgtier::controllers::scale_tier
