#include "cli/why.h"

#include <algorithm>

#include "cli/policy.h"
#include "controllers/ladder/names.h"
#include "controllers/scale_tier/resolve.h"
#include "controllers/shadow_table/resolve.h"
#include "core/words.h"
#include "lib/base/time_format.h"

namespace pgtier::cli {
namespace {

// What both kinds of policies have.
struct Subject {
  const crds::Meta& meta;
  const crds::LadderSpec& spec;
  const crds::LadderStatus& status;
  const core::Ladder& ladder;
  std::string name;  // As commands take it.
};

std::string ThresholdInWords(const core::Trigger& trigger) {
  switch (trigger.comparison) {
    case core::Comparison::kAbove:
      return "> " + core::FormatValue(trigger.threshold, trigger.unit);
    case core::Comparison::kAtLeast:
      return ">= " + core::FormatValue(trigger.threshold, trigger.unit);
    case core::Comparison::kBelow:
      return "< " + core::FormatValue(trigger.threshold, trigger.unit);
    case core::Comparison::kDemand:
      break;
  }
  return "";
}

std::string Seconds(Duration duration) { return FormatDuration(std::chrono::ceil<std::chrono::seconds>(duration)); }

const crds::Observation* FindObservation(const crds::LadderStatus& status, const std::string& tier,
                                         const std::string& trigger) {
  for (const crds::TierStatus& each : status.tiers) {
    if (each.name != tier) continue;
    for (const crds::Observation& seen : each.observations) {
      if (seen.name == trigger) return &seen;
    }
  }
  return nullptr;
}

TriggerReport ExplainDemand(const Subject& policy, const core::Trigger& trigger) {
  TriggerReport report;
  report.name = trigger.name;
  report.source = trigger.source;
  const std::vector<std::string>& demands = policy.spec.demands;
  bool on = std::find(demands.begin(), demands.end(), trigger.name) != demands.end();
  report.state = on ? "On" : "Off";
  if (!on) report.missing = "kubectl pgtier demand " + policy.name + " " + trigger.name;
  return report;
}

// What an open or shut window still lacks.
std::string Missing(const TriggerReport& report, const core::Trigger& trigger, const core::TriggerMemory& memory,
                    WallTime now) {
  std::string hold = trigger.window > Duration::zero() ? " for " + FormatDuration(trigger.window) : "";
  if (report.state == "Unknown") {
    std::string text = "a reading: " + report.unknown_reason;
    if (report.so_far.has_value()) text += " (the window is kept for " + FormatDuration(trigger.gap) + " of silence)";
    return text;
  }
  if (report.state == "Calm" && report.so_far.has_value() && memory.calm_since.has_value()) {
    auto left = trigger.dip - (now - *memory.calm_since);
    return "a reading " + report.threshold + " within " + Seconds(std::max<Duration>(left, Duration::zero())) +
           ", or its window closes";
  }
  if (report.state == "Calm") return "a reading " + report.threshold + hold;
  if (!report.so_far.has_value() || *report.so_far >= trigger.window) return "";
  auto fires = *memory.breached_since + std::chrono::duration_cast<WallTime::duration>(trigger.window);
  return Seconds(trigger.window - *report.so_far) + " more of it (fires at " + FormatClockTime(fires) + " if it holds)";
}

TriggerReport ExplainTrigger(const Subject& policy, const std::string& tier, const core::Trigger& trigger,
                             WallTime now) {
  if (trigger.comparison == core::Comparison::kDemand) return ExplainDemand(policy, trigger);
  TriggerReport report;
  report.name = trigger.name;
  report.source = trigger.source;
  report.threshold = ThresholdInWords(trigger);
  report.window = trigger.window;
  const crds::Observation* seen = FindObservation(policy.status, tier, trigger.name);
  // What was judged by another threshold says nothing of this one.
  bool same = seen != nullptr && seen->threshold == core::FormatValue(trigger.threshold, trigger.unit);
  if (!same) {
    report.state = "Unknown";
    report.unknown_reason = "the operator has not read it yet";
    report.missing = "a reading: " + report.unknown_reason;
    return report;
  }
  const core::TriggerMemory& memory = seen->memory;
  report.value = seen->observed;
  report.observed_at = memory.observed_at;
  report.breached_since = memory.breached_since;
  if (memory.breached_since.has_value()) {
    report.so_far = std::max<Duration>(now - *memory.breached_since, Duration::zero());
  }
  switch (memory.state) {
    case core::TriggerState::kCalm:
      report.state = "Calm";
      break;
    case core::TriggerState::kBreached:
      report.state = report.so_far.has_value() && *report.so_far >= trigger.window ? "Firing" : "Breached";
      break;
    case core::TriggerState::kUnknown:
      report.state = "Unknown";
      report.unknown_reason = memory.unknown_reason.empty() ? "no reading" : memory.unknown_reason;
      break;
  }
  report.missing = Missing(report, trigger, memory, now);
  return report;
}

// When one of the windows opens next, or nothing within eight days.
std::optional<WallTime> NextOpening(const std::vector<core::MaintenanceWindow>& windows, WallTime now) {
  WallTime minute = std::chrono::ceil<std::chrono::minutes>(now);
  for (WallTime end = now + std::chrono::days(8); minute < end; minute += std::chrono::minutes(1)) {
    for (const core::MaintenanceWindow& window : windows) {
      if (core::IsOpen(window, minute)) return minute;
    }
  }
  return std::nullopt;
}

GateReport CooldownGate(const Subject& policy, WallTime now) {
  const core::Ladder& ladder = policy.ladder;
  GateReport gate{"cooldown", true, FormatDuration(ladder.cooldown) + " after a tier change"};
  if (policy.status.history.empty() || !policy.status.history.front().at.has_value()) return gate;
  auto end = *policy.status.history.front().at + std::chrono::duration_cast<WallTime::duration>(ladder.cooldown);
  if (end <= now) return gate;
  gate.open = false;
  gate.message = "until " + FormatTime(end) + " (" + Seconds(end - now) + " more)";
  return gate;
}

GateReport WindowGate(const core::Ladder& ladder, const std::vector<std::string>& written, WallTime now) {
  GateReport gate{"maintenance-window", true, "none is set: any time"};
  if (ladder.windows.empty()) return gate;
  gate.message.clear();
  for (const std::string& window : written) gate.message += (gate.message.empty() ? "" : ", ") + window;
  gate.open = std::any_of(ladder.windows.begin(), ladder.windows.end(),
                          [&](const core::MaintenanceWindow& window) { return core::IsOpen(window, now); });
  if (gate.open) return gate;
  std::optional<WallTime> opens = NextOpening(ladder.windows, now);
  gate.message += opens.has_value() ? "; opens at " + FormatTime(*opens) : "; never opens";
  return gate;
}

GateReport ApprovalGate(const Subject& policy, const core::Tier& next) {
  GateReport gate{"approval", true, "not required for " + next.name};
  if (!next.approval_required) return gate;
  const crds::PlanStatus& plan = policy.status.plan;
  bool of_next = plan.to == next.name && !plan.hash.empty();
  bool approved = of_next && !plan.approved_by.empty();
  gate.open = approved || policy.status.target_tier == next.name;
  gate.message = approved    ? "given by " + plan.approved_by + " for plan " + plan.hash
                 : gate.open ? "given: the change is under way"
                             : "required for " + next.name + ": kubectl pgtier plan " + policy.name +
                                   ", then kubectl pgtier approve " + policy.name + (of_next ? " " + plan.hash : "");
  return gate;
}

std::vector<GateReport> ExplainGates(const Subject& policy, std::optional<size_t> current, WallTime now) {
  std::vector<GateReport> gates;
  const core::Ladder& ladder = policy.ladder;
  auto paused = policy.meta.annotations.find(controllers::kPausedAnnotation);
  bool is_paused = paused != policy.meta.annotations.end() && paused->second != "false";
  gates.push_back({"pause", !is_paused, is_paused ? "paused: kubectl pgtier resume " + policy.name : "not paused"});
  gates.push_back({"mode", !ladder.observe_only,
                   ladder.observe_only ? "Observe: it decides and records, and changes nothing" : "Enforce"});
  gates.push_back(
      {"pin", ladder.pin.empty(), ladder.pin.empty() ? "not pinned" : "spec.pin holds it at " + ladder.pin});
  gates.push_back(CooldownGate(policy, now));
  gates.push_back(WindowGate(ladder, policy.spec.maintenance_windows, now));
  if (!current.has_value() || *current + 1 >= ladder.tiers.size()) return gates;
  const core::Tier& next = ladder.tiers[*current + 1];
  gates.push_back(ApprovalGate(policy, next));
  core::Gate shut = next.blocked.reason.empty() ? next.not_executed : next.blocked;
  // What the catalogue says is known to the operator alone.
  const crds::Condition* condition = crds::FindCondition(policy.status.conditions, "tier.pgtier.dev/" + next.name);
  if (condition != nullptr && condition->reason.starts_with("Preflight"))
    shut = {condition->reason, condition->message};
  gates.push_back(
      {"available", shut.reason.empty(), shut.reason.empty() ? "this release can enter " + next.name : shut.message});
  return gates;
}

std::string StandingOf(const crds::LadderStatus& status, const std::string& tier, size_t index,
                       std::optional<size_t> current) {
  if (status.tier == tier) return "Current";
  if (status.target_tier == tier) return "Entering";
  if (!current.has_value()) return index == 0 ? "Next" : "Later";
  if (index < *current) return "Entered";
  return index == *current + 1 ? "Next" : "Later";
}

WhyReport ExplainLadder(const Subject& policy, const std::vector<std::string>& problems, WallTime now) {
  const crds::LadderStatus& status = policy.status;
  const core::Ladder& ladder = policy.ladder;
  WhyReport report;
  report.name = policy.meta.name;
  report.namespace_ = policy.meta.namespace_;
  report.tier = status.tier;
  report.tier_since = status.tier_since;
  report.next_tier = status.next_tier;
  report.target_tier = status.target_tier;
  report.status_is_old = status.observed_generation != policy.meta.generation;
  report.problems = problems;
  for (const crds::Condition& condition : status.conditions) {
    bool says =
        condition.type == "Ready" ||
        ((condition.type == "MetricsAvailable" || condition.type == "Lossless") && condition.status != "True") ||
        (condition.status == "True" && !condition.type.starts_with("tier.") && condition.type != "MetricsAvailable" &&
         condition.type != "Ready");
    if (says) report.conditions.push_back({condition.type, condition.status, condition.reason, condition.message});
  }
  std::optional<size_t> current = core::FindTier(ladder, status.tier);
  for (size_t i = 0; i < ladder.tiers.size(); ++i) {
    const core::Tier& tier = ladder.tiers[i];
    TierReport each;
    each.name = tier.name;
    each.standing = StandingOf(status, tier.name, i, current);
    each.match = tier.match == core::Match::kAll ? "all" : "any";
    for (const crds::TierStatus& seen : status.tiers) {
      if (seen.name != tier.name) continue;
      each.entered_at = seen.entered_at;
      each.message = seen.message;
    }
    for (const core::Trigger& trigger : tier.triggers) {
      each.triggers.push_back(ExplainTrigger(policy, tier.name, trigger, now));
    }
    report.tiers.push_back(std::move(each));
  }
  report.gates = ExplainGates(policy, current, now);
  return report;
}

}  // namespace

WhyReport Explain(const crds::ScaleTierPolicy& policy, WallTime now) {
  controllers::scale_tier::Resolved resolved = controllers::scale_tier::Resolve(policy);
  return ExplainLadder({policy.meta, policy.spec, policy.status, resolved.ladder, policy.meta.name}, policy.problems,
                       now);
}

WhyReport Explain(const crds::ShadowTablePolicy& policy, WallTime now) {
  controllers::shadow_table::Resolved resolved = controllers::shadow_table::Resolve(policy);
  const crds::ShadowTablePolicyStatus& status = policy.status;
  WhyReport report =
      ExplainLadder({policy.meta, policy.spec, status, resolved.ladder, NameFor(Kind::kShadowTable, policy.meta.name)},
                    policy.problems, now);
  ShadowReport& shadow = report.shadow.emplace();
  shadow.queue = status.summary.queue;
  shadow.lag = status.summary.lag;
  shadow.workers = status.summary.workers;
  shadow.epoch = status.epoch;
  shadow.queue_alert = resolved.workers.queue_alert;
  shadow.database = status.database;
  shadow.audit_events = status.audit_events;
  shadow.slot = status.slot;
  shadow.tables = status.tables;
  return report;
}

}  // namespace pgtier::cli
