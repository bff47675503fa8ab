#include "controllers/ladder/status.h"

#include "core/words.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers {
namespace {

crds::Observation Observe(const core::Trigger& trigger, const core::TriggerMemory& memory) {
  crds::Observation seen;
  seen.name = trigger.name;
  seen.source = trigger.source;
  seen.memory = memory;
  if (trigger.comparison == core::Comparison::kDemand) return seen;
  if (memory.observed.has_value()) seen.observed = core::FormatValue(*memory.observed, trigger.unit);
  seen.threshold = core::FormatValue(trigger.threshold, trigger.unit);
  if (trigger.window > Duration::zero()) seen.window = FormatDuration(trigger.window);
  seen.leave = core::DescribeLeave(trigger);
  return seen;
}

std::vector<crds::TierStatus> ObserveTiers(const LadderPass& pass, const std::vector<crds::TierStatus>& known) {
  std::vector<crds::TierStatus> tiers;
  for (const core::Tier& tier : pass.ladder.tiers) {
    crds::TierStatus status;
    for (const crds::TierStatus& before : known) {
      if (before.name == tier.name) status = before;
    }
    status.name = tier.name;
    status.observations.clear();
    for (const core::Trigger& trigger : tier.triggers) {
      status.observations.push_back(Observe(trigger, pass.decision.triggers.at({tier.name, trigger.name})));
    }
    tiers.push_back(std::move(status));
  }
  return tiers;
}

crds::TierStatus* FindTierStatus(crds::LadderStatus& status, const std::string& name) {
  for (crds::TierStatus& tier : status.tiers) {
    if (tier.name == name) return &tier;
  }
  return nullptr;
}

// A change begins: its reason is kept beside the tier, for it outlives the metrics.
void BeginChange(const LadderPass& pass, crds::LadderStatus& status) {
  const core::Decision& decision = pass.decision;
  if (status.target_tier == decision.to) return;
  status.target_tier = decision.to;
  crds::TierStatus* tier = FindTierStatus(status, decision.to);
  if (tier == nullptr) return;
  tier->reason = decision.reason;
  tier->message = decision.message;
  tier->trigger.reset();
  if (!decision.trigger.has_value()) return;
  for (const core::Tier& rung : pass.ladder.tiers) {
    for (const core::Trigger& trigger : rung.triggers) {
      if (core::TriggerKey{rung.name, trigger.name} != *decision.trigger) continue;
      tier->trigger = Observe(trigger, decision.triggers.at(*decision.trigger));
    }
  }
}

void EnterTier(const std::string& name, WallTime now, crds::LadderStatus& status) {
  crds::TierStatus* tier = FindTierStatus(status, name);
  if (tier != nullptr) tier->entered_at = now;
  status.history.insert(status.history.begin(), {status.tier, name, now, tier == nullptr ? "" : tier->message});
  if (status.history.size() > kHistoryLength) status.history.resize(kHistoryLength);
  status.tier = name;
  status.tier_since = now;
  status.target_tier.clear();
}

// A status that was lost, or is of the past, is rebuilt from the tier that the database has recorded.
void Recover(const LadderPass& pass, crds::LadderStatus& status) {
  if (status.tier == pass.decision.from || pass.decision.from.empty()) return;
  status.tier = pass.decision.from;
  status.tier_since = pass.now;
  for (crds::TierStatus& tier : status.tiers) {
    tier.entered_at = pass.now;
    tier.reason = "Recovered";
    tier.message = "as the database has it recorded";
    if (tier.name == status.tier) return;
  }
}

void MoveOn(const LadderPass& pass, crds::LadderStatus& status) {
  const core::Decision& decision = pass.decision;
  switch (decision.verdict) {
    case core::Verdict::kStart: {
      crds::TierStatus* tier = FindTierStatus(status, decision.to);
      status.tier = decision.to;
      status.tier_since = pass.now;
      if (tier == nullptr) return;
      tier->entered_at = pass.now;
      tier->reason = "Started";
      tier->message = "where the ladder starts";
      return;
    }
    case core::Verdict::kMove:
      if (pass.paused) return;
      BeginChange(pass, status);
      if (pass.Complete()) EnterTier(decision.to, pass.now, status);
      return;
    case core::Verdict::kHold:
    case core::Verdict::kWouldMove:
      // A pin that came back may have ended a change half way.
      status.target_tier.clear();
      return;
  }
}

bool SameInstant(const std::optional<WallTime>& a, const std::optional<WallTime>& b) {
  // Status holds whole seconds.
  return a.has_value() == b.has_value() && (!a.has_value() || std::chrono::floor<std::chrono::seconds>(*a) ==
                                                                  std::chrono::floor<std::chrono::seconds>(*b));
}

// Whether two observations differ in more than the numbers that move all the time.
bool SameButForNumbers(const crds::Observation& a, const crds::Observation& b) {
  return a.name == b.name && a.threshold == b.threshold && a.window == b.window && a.source == b.source &&
         a.memory.state == b.memory.state && a.memory.unknown_reason == b.memory.unknown_reason &&
         SameInstant(a.memory.breached_since, b.memory.breached_since) && a.leave == b.leave &&
         SameInstant(a.memory.calm_since, b.memory.calm_since) &&
         SameInstant(a.memory.leave_since, b.memory.leave_since);
}

// The longest silence that an open window survives, if the last reading's time must be kept for it: nothing where no
// window is open that decides something. Windows of tiers that were entered do not, but for those of `leave` (which no
// other tier has); and what fires at its first breach needs no past.
std::optional<Duration> GapToBridge(const core::Trigger& trigger, const core::TriggerMemory& memory, bool ahead) {
  if (ahead && memory.breached_since.has_value() && trigger.window > Duration::zero()) return trigger.gap;
  if (memory.leave_since.has_value() && trigger.leave.has_value() && trigger.leave->window > Duration::zero()) {
    return trigger.leave->gap;
  }
  return std::nullopt;
}

void CompareTiers(const crds::LadderStatus& before, const crds::LadderStatus& after, const core::Ladder& ladder,
                  WallTime now, Changes& changes) {
  std::optional<size_t> current = core::FindTier(ladder, after.tier);
  for (size_t i = 0; i < after.tiers.size(); ++i) {
    const crds::TierStatus& was = before.tiers[i];
    const crds::TierStatus& is = after.tiers[i];
    if (was.name != is.name || was.reason != is.reason || was.message != is.message ||
        !SameInstant(was.entered_at, is.entered_at) || was.observations.size() != is.observations.size()) {
      changes.decisive = true;
      return;
    }
    for (size_t j = 0; j < is.observations.size(); ++j) {
      const crds::Observation& old = was.observations[j];
      const crds::Observation& seen = is.observations[j];
      if (!SameButForNumbers(old, seen)) changes.decisive = true;
      if (old.observed != seen.observed) changes.numbers = true;
      bool ahead = !current.has_value() || i > *current;
      std::optional<Duration> gap = GapToBridge(ladder.tiers[i].triggers[j], seen.memory, ahead);
      if (!gap.has_value() || !seen.memory.observed_at.has_value()) continue;
      bool newer = !SameInstant(old.memory.observed_at, seen.memory.observed_at);
      if (newer && (!old.memory.observed_at.has_value() || now - *old.memory.observed_at >= *gap / 2)) {
        changes.decisive = true;
      }
    }
  }
}

}  // namespace

void AdvanceLadder(const LadderPass& pass, crds::LadderStatus& status) {
  status.tiers = ObserveTiers(pass, status.tiers);
  Recover(pass, status);
  MoveOn(pass, status);
}

std::string FillNext(const LadderPass& pass, crds::LadderStatus& status) {
  status.next_tier.clear();
  std::optional<size_t> current = core::FindTier(pass.ladder, status.tier);
  if (!current.has_value() || *current + 1 >= pass.ladder.tiers.size()) return "";
  const core::Tier& next = pass.ladder.tiers[*current + 1];
  status.next_tier = next.name;
  auto nearest = core::NearestTrigger(next, pass.decision.triggers);
  return nearest.has_value() ? core::DescribeClosest(*nearest->trigger, *nearest->memory) : "";
}

Changes CompareLadders(const crds::LadderStatus& before, const crds::LadderStatus& after, const core::Ladder& ladder,
                       WallTime now) {
  Changes changes;
  changes.decisive = before.observed_generation != after.observed_generation || before.tier != after.tier ||
                     before.target_tier != after.target_tier || before.next_tier != after.next_tier ||
                     before.tiers.size() != after.tiers.size() || before.plan.hash != after.plan.hash ||
                     before.plan.approved_by != after.plan.approved_by ||
                     before.history.size() != after.history.size() ||
                     before.conditions.size() != after.conditions.size();
  if (changes.decisive) return changes;
  for (size_t i = 0; i < after.conditions.size(); ++i) {
    const crds::Condition& was = before.conditions[i];
    const crds::Condition& is = after.conditions[i];
    if (was.type != is.type || was.status != is.status || was.reason != is.reason ||
        was.observed_generation != is.observed_generation) {
      changes.decisive = true;
      return changes;
    }
    changes.numbers = changes.numbers || was.message != is.message;
  }
  CompareTiers(before, after, ladder, now, changes);
  return changes;
}

bool NumbersAreDue(std::optional<WallTime> last_write, Duration interval, WallTime now) {
  constexpr int kQuietIntervals = 4;
  return !last_write.has_value() || now - *last_write >= kQuietIntervals * interval;
}

}  // namespace pgtier::controllers
