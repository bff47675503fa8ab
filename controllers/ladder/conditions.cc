#include "controllers/ladder/conditions.h"

#include <algorithm>
#include <cctype>

#include "controllers/ladder/approval.h"
#include "core/words.h"

namespace pgtier::controllers {

Saying SayIf(bool is, std::string reason, std::string message, const char* else_reason) {
  return is ? Saying{kTrue, std::move(reason), std::move(message)} : Saying{kFalse, else_reason, ""};
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

bool Moving(const LadderPass& pass, const crds::LadderStatus& status) {
  return pass.decision.verdict == core::Verdict::kMove && !status.target_tier.empty();
}

std::string Standing(const LadderPass& pass, const crds::LadderStatus& status) {
  const core::Decision& decision = pass.decision;
  if (pass.paused) return "Paused";
  if (Moving(pass, status)) return "Climbing";
  if (decision.reason != "Holding" && decision.reason != "LastTier" && decision.verdict != core::Verdict::kMove &&
      decision.verdict != core::Verdict::kStart) {
    return decision.reason;
  }
  for (const crds::TierStatus& tier : status.tiers) {
    if (tier.name == status.tier && !tier.reason.empty()) return tier.reason;
  }
  return "Holding";
}

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

bool Acts(const LadderPass& pass) {
  return !pass.ladder.observe_only && !pass.paused && pass.problems.empty() &&
         pass.limits.WholePolicyUnavailable().empty();
}

std::optional<Saying> SayUnserved(const LadderPass& pass) {
  if (std::string why = pass.limits.WholePolicyRefused(); !why.empty()) return Saying{kFalse, "SpecRefused", why};
  if (std::string why = pass.limits.WholePolicyUnavailable(); !why.empty()) {
    return Saying{kFalse, core::kNotAvailable, why};
  }
  if (!pass.problems.empty()) {
    return Saying{kUnknown, "InvalidSpec", "the stored object breaks rules of the schema; see the condition Stalled"};
  }
  return std::nullopt;
}

Saying SayObserving(const LadderPass& pass, const crds::LadderStatus& status) {
  // Where the ladder starts nothing is built; the first pass says what the next ones do, and need not be corrected.
  const core::Decision& decision = pass.decision;
  const std::vector<core::Tier>& tiers = pass.ladder.tiers;
  std::string says = decision.verdict == core::Verdict::kStart && tiers.size() > 1
                         ? core::DescribeWaiting(tiers[1], decision.triggers, pass.now)
                         : decision.message;
  return {kTrue, Standing(pass, status), "observing: nothing is created or changed. " + says};
}

Saying SayReconciling(const LadderPass& pass, const std::vector<crds::Condition>& conditions) {
  const crds::Condition* before = crds::FindCondition(conditions, "Reconciling");
  bool realised = before != nullptr && before->status == kFalse &&
                  before->observed_generation == pass.meta.generation && before->reason == "Realised";
  // What is not acted on is not under way; nor is it realised, or its end of waiting would pass for later trouble.
  if (!realised && pass.paused) return {kFalse, "Paused", ""};
  if (!pass.problems.empty() || !pass.limits.WholePolicyUnavailable().empty()) return {kFalse, "Stalled", ""};
  bool open = !realised && !pass.Complete() && !pass.ladder.observe_only;
  return SayIf(open, "InProgress", pass.Progress(), "Realised");
}

std::optional<Saying> SayRefused(const LadderPass& pass) {
  if (!pass.limits.refusals.empty()) {
    std::vector<std::string> refused;
    for (const Refusal& refusal : pass.limits.refusals) refused.push_back(refusal.why);
    return Saying{kTrue, "SpecRefused", Join(refused)};
  }
  if (std::string why = pass.limits.WholePolicyUnavailable(); !why.empty()) {
    return Saying{kTrue, core::kNotAvailable, why};
  }
  if (!pass.problems.empty()) return Saying{kTrue, "InvalidSpec", Join(pass.problems)};
  return std::nullopt;
}

Saying SayNeedsPerson(const LadderPass& pass) {
  if (!pass.needs_person) return {kFalse, "NothingToDo", ""};
  return {kTrue, ReasonIn(pass.failure, "ActionRefused"), WithoutReason(pass.failure)};
}

Saying SayClimbing(const LadderPass& pass, const crds::LadderStatus& status) {
  return SayIf(Moving(pass, status), "TierChange",
               pass.decision.from + " to " + status.target_tier + ": " + pass.Progress(), "NoTierChange");
}

Saying SayPaused(const LadderPass& pass) {
  return SayIf(pass.paused, "Annotated", "the annotation pgtier.dev/paused is set", "NotPaused");
}

Saying SayNotAvailable(const std::vector<std::string>& fields) {
  return SayIf(!fields.empty(), "FieldsNotAvailable",
               "this release takes these fields and does not act on them yet: " + Join(fields), "EverythingAvailable");
}

Saying SayApproval(const LadderPass& pass, const crds::LadderStatus& status, const std::string& resource) {
  if (pass.decision.reason != "ApprovalRequired") return {kFalse, "NoPlanWaits", ""};
  std::vector<Approval> given = ApprovalsOf(pass.meta, pass.spec);
  bool in_vain = std::any_of(given.begin(), given.end(),
                             [&](const Approval& approval) { return approval.hash != status.plan.hash; });
  return {kTrue, in_vain ? "OtherPlanApproved" : "PlanWaits",
          pass.decision.message + " of " + HowToApprove(resource, pass.meta, pass.spec, status.plan.hash)};
}

Saying SayMetrics(const LadderPass& pass, const crds::LadderStatus& status, const std::string& missing) {
  std::vector<std::string> unknown;
  std::optional<size_t> current = core::FindTier(pass.ladder, status.tier);
  // Those of the tier that runs decide something too, where it may be left.
  bool may_leave = pass.ladder.down != core::Down::kNever;
  for (size_t i = current.value_or(0) + (may_leave ? 0 : 1); i < pass.ladder.tiers.size(); ++i) {
    const core::Tier& tier = pass.ladder.tiers[i];
    for (const core::Trigger& trigger : tier.triggers) {
      const core::TriggerMemory& memory = pass.decision.triggers.at({tier.name, trigger.name});
      if (core::IsMissing(memory)) unknown.push_back(trigger.name + ": " + memory.unknown_reason);
    }
  }
  if (!missing.empty()) unknown.push_back(missing);
  if (unknown.empty()) return {kTrue, "AllRead", ""};
  return {kFalse, "ReadingsUnknown", Join(unknown)};
}

Saying SayTier(const LadderPass& pass, const crds::LadderStatus& status, const core::Tier& tier) {
  std::optional<size_t> current = core::FindTier(pass.ladder, status.tier);
  std::optional<size_t> own = core::FindTier(pass.ladder, tier.name);
  for (const crds::TierStatus& entered : status.tiers) {
    if (entered.name != tier.name) continue;
    if (current.has_value() && *own <= *current) {
      return {kTrue, entered.reason.empty() ? "Entered" : entered.reason, entered.message};
    }
    if (status.target_tier == tier.name) return {kFalse, "Climbing", "being entered: " + entered.message};
  }
  std::string waiting = core::DescribeWaiting(tier, pass.decision.triggers, pass.now);
  bool due = pass.decision.due == tier.name;
  bool approved = due && pass.decision.reason == tier.not_executed.reason;
  const core::Gate& gate = tier.blocked.reason.empty() && approved ? tier.not_executed : tier.blocked;
  if (gate.reason == "SpecRefused") return {kFalse, gate.reason, gate.message};
  if (gate.reason.empty()) return {kFalse, "NotReached", waiting};
  // What cannot be entered is decided all the same: that it is due, and why, is what a person has to know.
  return {kFalse, gate.reason, gate.message + (due ? "; it is due: " : "; ") + waiting};
}

std::vector<crds::Condition> DateConditions(const std::vector<std::pair<std::string, Saying>>& sayings,
                                            const crds::Meta& meta, WallTime now,
                                            const std::vector<crds::Condition>& before) {
  std::vector<crds::Condition> conditions;
  for (const auto& [type, saying] : sayings) {
    const crds::Condition* was = crds::FindCondition(before, type);
    bool same = was != nullptr && was->status == saying.status && was->last_transition.has_value();
    conditions.push_back(
        {type, saying.status, saying.reason, saying.message, meta.generation, same ? was->last_transition : now});
  }
  return conditions;
}

std::vector<crds::Condition> DateConditions(std::vector<std::pair<std::string, Saying>> sayings, const LadderPass& pass,
                                            const crds::LadderStatus& status,
                                            const std::vector<crds::Condition>& before) {
  for (const core::Tier& tier : pass.ladder.tiers) {
    sayings.emplace_back("tier.pgtier.dev/" + tier.name, SayTier(pass, status, tier));
  }
  return DateConditions(sayings, pass.meta, pass.now, before);
}

}  // namespace pgtier::controllers
