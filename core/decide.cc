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

void Hold(Decision& decision, std::string reason, std::string message) {
  decision.verdict = Verdict::kHold;
  decision.to = decision.from;
  decision.reason = std::move(reason);
  decision.message = std::move(message);
}

// Moves to `next`, or holds and says which gate is shut.
void Move(Decision& decision, const Ladder& ladder, const Tier& next, std::string reason, std::string message) {
  if (!next.blocked_by.empty()) return Hold(decision, "NotAvailable", "tier " + next.name + ": " + next.blocked_by);
  if (next.approval_required) {
    return Hold(decision, "ApprovalRequired", "tier " + next.name + " is due (" + message + ") and waits for approval");
  }
  decision.verdict = ladder.observe_only ? Verdict::kWouldMove : Verdict::kMove;
  decision.to = ladder.observe_only ? decision.from : next.name;
  decision.reason = ladder.observe_only ? "WouldEnter" + PascalCase(next.name) : std::move(reason);
  decision.message = ladder.observe_only ? "would enter " + next.name + ": " + message : std::move(message);
}

void DecidePinned(Decision& decision, const Ladder& ladder, size_t current, size_t pinned) {
  std::string message = "spec.pin holds the ladder at " + ladder.pin;
  if (pinned == current) return Hold(decision, "Pinned", message);
  size_t next = pinned > current ? current + 1 : current - 1;
  Move(decision, ladder, ladder.tiers[next], "Pinned", message);
}

}  // namespace

Decision Decide(const Ladder& ladder, const Memory& memory, const std::map<TriggerKey, Reading>& readings,
                WallTime now) {
  Decision decision;
  decision.triggers = AdvanceAll(ladder, memory, readings, now);
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
    }
    return decision;
  }
  if (pinned.has_value()) {
    DecidePinned(decision, ladder, *current, *pinned);
    return decision;
  }

  if (*current + 1 >= ladder.tiers.size()) {
    Hold(decision, "LastTier", memory.tier + " is the last tier");
    return decision;
  }
  const Tier& next = ladder.tiers[*current + 1];
  const Tier* asking = nullptr;
  const Trigger* firing = nullptr;
  for (size_t i = *current + 1; i < ladder.tiers.size() && firing == nullptr; ++i) {
    asking = &ladder.tiers[i];
    firing = FiringTrigger(*asking, decision.triggers, now);
  }
  if (firing == nullptr) {
    Hold(decision, AnyMissing(next, decision.triggers) ? "MetricsUnknown" : "Holding",
         DescribeWaiting(next, decision.triggers, now));
    return decision;
  }
  if (memory.last_change.has_value() && now - *memory.last_change < ladder.cooldown) {
    Hold(decision, "Cooldown",
         "tier " + next.name + " is due, after the cooldown ends at " +
             FormatTime(*memory.last_change + std::chrono::duration_cast<WallTime::duration>(ladder.cooldown)));
    return decision;
  }
  if (!ladder.windows.empty() && std::none_of(ladder.windows.begin(), ladder.windows.end(),
                                              [&](const MaintenanceWindow& window) { return IsOpen(window, now); })) {
    Hold(decision, "OutsideMaintenanceWindow", "tier " + next.name + " is due and waits for a maintenance window");
    return decision;
  }
  decision.trigger = TriggerKey{asking->name, firing->name};
  Move(decision, ladder, next, TriggerReason(*firing),
       DescribeBreach(*firing, decision.triggers.at({asking->name, firing->name})));
  if (decision.verdict == Verdict::kHold) decision.trigger.reset();
  return decision;
}

}  // namespace pgtier::core
