#include "core/decide.h"

#include <algorithm>

#include "core/words.h"
#include "lib/base/time_format.h"

namespace pgtier::core {
namespace {

std::map<TriggerKey, TriggerMemory> AdvanceAll(const Ladder& ladder, const Memory& memory,
                                               const std::map<TriggerKey, Reading>& readings, WallTime now) {
  std::map<TriggerKey, TriggerMemory> after;
  for (const Tier& tier : ladder.tiers) {
    for (const Trigger& trigger : tier.triggers) {
      TriggerKey key{tier.name, trigger.name};
      auto before = memory.triggers.find(key);
      auto reading = readings.find(key);
      after[key] = Advance(trigger, before == memory.triggers.end() ? TriggerMemory{} : before->second,
                           reading == readings.end() ? Reading::Unknown("NoReading") : reading->second, now);
    }
  }
  return after;
}

// The first trigger of the tier that fires, if the tier's any/all rule holds; nullptr otherwise.
const Trigger* FiringTrigger(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories, WallTime now) {
  auto fires = [&](const Trigger& trigger) { return Fires(trigger, memories.at({tier.name, trigger.name}), now); };
  if (tier.triggers.empty()) return nullptr;
  if (tier.match == Match::kAll && !std::all_of(tier.triggers.begin(), tier.triggers.end(), fires)) return nullptr;
  auto first = std::find_if(tier.triggers.begin(), tier.triggers.end(), fires);
  return first == tier.triggers.end() ? nullptr : &*first;
}

bool AnyMissing(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories) {
  return std::any_of(tier.triggers.begin(), tier.triggers.end(), [&](const Trigger& trigger) {
    return IsMissing(memories.at({tier.name, trigger.name}));
  });
}

bool AnySuppressed(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories) {
  return std::any_of(tier.triggers.begin(), tier.triggers.end(), [&](const Trigger& trigger) {
    const TriggerMemory& memory = memories.at({tier.name, trigger.name});
    return memory.state == TriggerState::kUnknown && memory.unknown_reason.starts_with(kSuppressed);
  });
}

void Hold(Decision& decision, std::string reason, std::string message) {
  decision.verdict = Verdict::kHold;
  decision.to = decision.from;
  decision.reason = std::move(reason);
  decision.message = std::move(message);
}

// Moves to `next`, or holds and says which gate is shut. `asks` is whether this very change needs a person's approval.
void Move(Decision& decision, const Ladder& ladder, const Tier& next, bool asks, std::string reason,
          std::string message) {
  decision.due = next.name;
  auto hold_by = [&](const Gate& gate) { Hold(decision, gate.reason, "tier " + next.name + ": " + gate.message); };
  if (!next.blocked.reason.empty()) return hold_by(next.blocked);
  bool up = *FindTier(ladder, next.name) > *FindTier(ladder, decision.from);
  const std::string& plan = up ? ladder.plan_up : ladder.plan_down;
  if (asks && (plan.empty() || !ladder.approved.contains(plan))) {
    return Hold(decision, "ApprovalRequired", "tier " + next.name + " is due (" + message + ") and waits for approval");
  }
  if (!next.not_executed.reason.empty()) return hold_by(next.not_executed);
  decision.verdict = ladder.observe_only ? Verdict::kWouldMove : Verdict::kMove;
  decision.to = ladder.observe_only ? decision.from : next.name;
  decision.reason = ladder.observe_only ? "WouldEnter" + PascalCase(next.name) : std::move(reason);
  decision.message = ladder.observe_only ? "would enter " + next.name + ": " + message : std::move(message);
}

void DecidePinned(Decision& decision, const Ladder& ladder, size_t current, size_t pinned) {
  std::string message = "spec.pin holds the ladder at " + ladder.pin;
  if (pinned == current) return Hold(decision, "Pinned", message);
  const Tier& next = ladder.tiers[pinned > current ? current + 1 : current - 1];
  Move(decision, ladder, next, next.approval_required, "Pinned", message);
}

// Holds when the time for changes has not come.
bool IsTooEarly(Decision& decision, const Ladder& ladder, const Memory& memory, const Tier& next, WallTime now) {
  if (memory.last_change.has_value() && now - *memory.last_change < ladder.cooldown) {
    decision.due = next.name;
    Hold(decision, "Cooldown",
         "tier " + next.name + " is due, after the cooldown ends at " +
             FormatTime(*memory.last_change + std::chrono::duration_cast<WallTime::duration>(ladder.cooldown)));
    return true;
  }
  if (!ladder.windows.empty() && std::none_of(ladder.windows.begin(), ladder.windows.end(),
                                              [&](const MaintenanceWindow& window) { return IsOpen(window, now); })) {
    decision.due = next.name;
    Hold(decision, "OutsideMaintenanceWindow", "tier " + next.name + " is due and waits for a maintenance window");
    return true;
  }
  return false;
}

// Whether what brought the ladder to `tier` is over. A reading that is missing proves nothing.
bool IsOver(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories, WallTime now) {
  bool any = false;
  for (const Trigger& trigger : tier.triggers) {
    const TriggerMemory& memory = memories.at({tier.name, trigger.name});
    if (memory.state != TriggerState::kCalm) return false;
    if (trigger.leave.has_value() && !Leaves(trigger, memory, now)) return false;
    any = any || trigger.leave.has_value();
  }
  return any;
}

// The way up: the first tier above whose triggers fire asks for the next rung. False: none does.
bool DecideUp(Decision& decision, const Ladder& ladder, const Memory& memory, size_t current, WallTime now) {
  const Tier* asking = nullptr;
  const Trigger* firing = nullptr;
  for (size_t i = current + 1; i < ladder.tiers.size() && firing == nullptr; ++i) {
    asking = &ladder.tiers[i];
    firing = FiringTrigger(*asking, decision.triggers, now);
  }
  if (firing == nullptr) return false;
  const Tier& next = ladder.tiers[current + 1];
  if (IsTooEarly(decision, ladder, memory, next, now)) return true;
  TriggerKey key{asking->name, firing->name};
  Move(decision, ladder, next, next.approval_required, TriggerReason(*firing),
       DescribeBreach(*firing, decision.triggers.at(key)));
  if (decision.verdict != Verdict::kHold) decision.trigger = key;
  return true;
}

// The way down. False: the tier is not to be left.
bool DecideDown(Decision& decision, const Ladder& ladder, const Memory& memory, size_t current, WallTime now) {
  if (ladder.down == Down::kNever || current == 0) return false;
  const Tier& tier = ladder.tiers[current];
  if (!IsOver(tier, decision.triggers, now)) return false;
  // A higher tier may be due behind a reading that is missing, or left out.
  if (current + 1 < ladder.tiers.size() && (AnyMissing(ladder.tiers[current + 1], decision.triggers) ||
                                            AnySuppressed(ladder.tiers[current + 1], decision.triggers))) {
    return false;
  }
  const Tier& next = ladder.tiers[current - 1];
  if (IsTooEarly(decision, ladder, memory, next, now)) return true;
  bool asks = ladder.down == Down::kManual || next.approval_required;
  Move(decision, ladder, next, asks, PascalCase(tier.name) + "Calm", DescribeCalm(tier, decision.triggers));
  return true;
}

// Only the tier that runs can be left: no other has an open window of `leave`.
void CloseOtherLeaves(const Ladder& ladder, const std::string& current, std::map<TriggerKey, TriggerMemory>& memories) {
  for (auto& [key, memory] : memories) {
    if (ladder.down == Down::kNever || key.first != current) memory.leave_since.reset();
  }
}

}  // namespace

Decision Decide(const Ladder& ladder, const Memory& memory, const std::map<TriggerKey, Reading>& readings,
                WallTime now) {
  Decision decision;
  decision.triggers = AdvanceAll(ladder, memory, readings, now);
  CloseOtherLeaves(ladder, memory.tier, decision.triggers);
  std::optional<size_t> current = FindTier(ladder, memory.tier);
  if (memory.tier.empty() || !current.has_value()) {
    decision.verdict = Verdict::kStart;
    decision.to = ladder.tiers.front().name;
    decision.reason = "Starting";
    decision.message = "building the first tier, " + decision.to;
    return decision;
  }
  decision.from = memory.tier;
  decision.to = memory.tier;

  std::optional<size_t> pinned = ladder.pin.empty() ? std::nullopt : FindTier(ladder, ladder.pin);
  std::optional<size_t> target = memory.target.empty() ? std::nullopt : FindTier(ladder, memory.target);
  // Only a pin turns a change that has begun.
  bool turned = pinned.has_value() && target.has_value() && (*pinned > *current) != (*target > *current);
  if (target.has_value() && *target != *current && !ladder.observe_only && !turned) {
    decision.verdict = Verdict::kMove;
    decision.to = memory.target;
    decision.reason = "Climbing";
    decision.message = "changing from " + memory.tier + " to " + memory.target;
    // Cloning a replica raises load, lag and CPU: what is read meanwhile opens no window.
    for (auto& [key, trigger] : decision.triggers) {
      trigger.breached_since.reset();
      trigger.calm_since.reset();
      trigger.leave_since.reset();
    }
    return decision;
  }
  if (pinned.has_value()) {
    DecidePinned(decision, ladder, *current, *pinned);
    return decision;
  }
  if (DecideUp(decision, ladder, memory, *current, now)) return decision;
  if (DecideDown(decision, ladder, memory, *current, now)) return decision;

  const Tier& tier = ladder.tiers[*current];
  bool may_leave = ladder.down != Down::kNever && *current > 0;
  std::string leaving = may_leave ? DescribeLeaving(tier, decision.triggers) : "";
  bool missing = may_leave && !leaving.empty() && AnyMissing(tier, decision.triggers);
  if (*current + 1 >= ladder.tiers.size()) {
    Hold(decision, missing ? "MetricsUnknown" : "LastTier",
         memory.tier + " is the last tier" + (leaving.empty() ? "" : "; " + leaving));
    return decision;
  }
  const Tier& next = ladder.tiers[*current + 1];
  Hold(decision, missing || AnyMissing(next, decision.triggers) ? "MetricsUnknown" : "Holding",
       DescribeWaiting(next, decision.triggers, now) + (leaving.empty() ? "" : "; " + leaving));
  return decision;
}

}  // namespace pgtier::core
