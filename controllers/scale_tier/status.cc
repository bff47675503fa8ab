#include <algorithm>

#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "controllers/scale_tier/report.h"
#include "core/words.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::scale_tier {
namespace {

constexpr size_t kHistoryLength = 10;

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

std::vector<crds::TierStatus> ObserveTiers(const Outcome& outcome) {
  std::vector<crds::TierStatus> tiers;
  for (const core::Tier& tier : outcome.resolved.ladder.tiers) {
    crds::TierStatus status;
    for (const crds::TierStatus& before : outcome.policy.status.tiers) {
      if (before.name == tier.name) status = before;
    }
    status.name = tier.name;
    status.observations.clear();
    for (const core::Trigger& trigger : tier.triggers) {
      status.observations.push_back(Observe(trigger, outcome.decision.triggers.at({tier.name, trigger.name})));
    }
    tiers.push_back(std::move(status));
  }
  return tiers;
}

crds::TierStatus* FindTierStatus(crds::ScaleTierPolicyStatus& status, const std::string& name) {
  for (crds::TierStatus& tier : status.tiers) {
    if (tier.name == name) return &tier;
  }
  return nullptr;
}

// A change begins: its reason is kept beside the tier, for it outlives the metrics.
void BeginChange(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  const core::Decision& decision = outcome.decision;
  if (status.target_tier == decision.to) return;
  status.target_tier = decision.to;
  crds::TierStatus* tier = FindTierStatus(status, decision.to);
  if (tier == nullptr) return;
  tier->reason = decision.reason;
  tier->message = decision.message;
  tier->trigger.reset();
  if (!decision.trigger.has_value()) return;
  for (const core::Tier& rung : outcome.resolved.ladder.tiers) {
    for (const core::Trigger& trigger : rung.triggers) {
      if (core::TriggerKey{rung.name, trigger.name} != *decision.trigger) continue;
      tier->trigger = Observe(trigger, decision.triggers.at(*decision.trigger));
    }
  }
}

void EnterTier(const std::string& name, WallTime now, crds::ScaleTierPolicyStatus& status) {
  crds::TierStatus* tier = FindTierStatus(status, name);
  if (tier != nullptr) tier->entered_at = now;
  status.history.insert(status.history.begin(), {status.tier, name, now, tier == nullptr ? "" : tier->message});
  if (status.history.size() > kHistoryLength) status.history.resize(kHistoryLength);
  status.tier = name;
  status.tier_since = now;
  status.target_tier.clear();
}

// A status that was lost, or is of the past, is rebuilt from the tier that the database has recorded.
void Recover(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  if (status.tier == outcome.decision.from || outcome.decision.from.empty()) return;
  status.tier = outcome.decision.from;
  status.tier_since = outcome.now;
  for (crds::TierStatus& tier : status.tiers) {
    tier.entered_at = outcome.now;
    tier.reason = "Recovered";
    tier.message = "as the database has it recorded";
    if (tier.name == status.tier) return;
  }
}

void MoveOn(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  const core::Decision& decision = outcome.decision;
  switch (decision.verdict) {
    case core::Verdict::kStart: {
      crds::TierStatus* tier = FindTierStatus(status, decision.to);
      status.tier = decision.to;
      status.tier_since = outcome.now;
      if (tier == nullptr) return;
      tier->entered_at = outcome.now;
      tier->reason = "Started";
      tier->message = "where the ladder starts";
      return;
    }
    case core::Verdict::kMove:
      if (outcome.paused) return;
      BeginChange(outcome, status);
      if (outcome.Complete()) EnterTier(decision.to, outcome.now, status);
      return;
    case core::Verdict::kHold:
    case core::Verdict::kWouldMove:
      // A pin that came back may have ended a change half way.
      status.target_tier.clear();
      return;
  }
}

std::string InWords(const std::optional<Duration>& lag) {
  if (!lag.has_value()) return "0s";
  // A lag below a millisecond is none; longer ones in steps that do not rewrite the object at every pass.
  constexpr Duration kStep = std::chrono::milliseconds(10);
  return *lag < kStep ? "<10ms" : FormatDuration(std::chrono::round<std::chrono::milliseconds>(*lag) / kStep * kStep);
}

void FillReplicas(const Outcome& outcome, const TierSettings& tier, crds::ScaleTierPolicyStatus& status) {
  status.replicas.clear();
  int healthy = 0;
  std::optional<Duration> worst;
  for (const InstanceSeen& instance : outcome.seen.instances) {
    if (instance.ordinal == outcome.seen.primary_ordinal) continue;
    crds::ReplicaStatus replica;
    replica.name = instance.name;
    replica.healthy =
        MayTakeReads(instance, outcome.seen.primary, tier.max_lag, IsRouted(outcome.policy.status, instance.name));
    const std::vector<std::string>& routed = outcome.plan.routed;
    replica.routed = std::find(routed.begin(), routed.end(), instance.name) != routed.end();
    if (instance.streaming) {
      replica.lag = InWords(instance.lag);
      worst = std::max(worst.value_or(Duration::zero()), instance.lag.value_or(Duration::zero()));
    }
    if (replica.healthy) ++healthy;
    status.replicas.push_back(std::move(replica));
  }
  status.summary.replicas = std::to_string(healthy) + "/" + std::to_string(tier.replicas);
  status.summary.lag = worst.has_value() ? InWords(worst) : "";
}

void FillSummary(const Outcome& outcome, const TierSettings& tier, crds::ScaleTierPolicyStatus& status) {
  bool pgcat = tier.pooler.engine == kPgCat;
  long ready = std::count_if(outcome.seen.poolers.begin(), outcome.seen.poolers.end(),
                             [&](const PoolerPodSeen& pod) { return pod.ready && IsPgCat(pod.endpoint) == pgcat; });
  status.summary.pooler =
      tier.pooler.engine + " " + std::to_string(ready) + "/" + std::to_string((pgcat ? 3 : 2) * tier.pooler.instances);
  status.summary.endpoint = outcome.resolved.endpoint + "-rw." + outcome.policy.meta.namespace_;
  status.summary.closest.clear();
  status.next_tier.clear();
  const core::Ladder& ladder = outcome.resolved.ladder;
  std::optional<size_t> current = core::FindTier(ladder, status.tier);
  if (!current.has_value() || *current + 1 >= ladder.tiers.size()) return;
  const core::Tier& next = ladder.tiers[*current + 1];
  status.next_tier = next.name;
  if (auto nearest = core::NearestTrigger(next, outcome.decision.triggers)) {
    status.summary.closest = core::DescribeClosest(*nearest->trigger, *nearest->memory);
  }
}

// The plan of the change under way, else of the one that is due, else of the next rung.
void FillPlan(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  const Resolved& resolved = outcome.resolved;
  std::string to = status.next_tier;
  if (outcome.decision.from == status.tier && !outcome.decision.due.empty()) to = outcome.decision.due;
  if (!status.target_tier.empty()) to = status.target_tier;
  const TierSettings* from = resolved.Find(status.tier);
  const TierSettings* target = resolved.Find(to);
  status.plan = {};
  if (from == nullptr || target == nullptr) return;
  Change change =
      DescribeChange(outcome.policy, resolved, *from, *target, outcome.seen.primary_ordinal, status.tier_since);
  status.plan = PlanStatusOf(outcome.policy, change, outcome.now);
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

struct Changes {
  bool decisive = false;  // Something that people and restarts rely on.
  bool numbers = false;   // Only numbers that move all the time.
};

void CompareTiers(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after,
                  const Resolved& resolved, WallTime now, Changes& changes) {
  std::optional<size_t> current = core::FindTier(resolved.ladder, after.tier);
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
      std::optional<Duration> gap = GapToBridge(resolved.ladder.tiers[i].triggers[j], seen.memory, ahead);
      if (!gap.has_value() || !seen.memory.observed_at.has_value()) continue;
      bool newer = !SameInstant(old.memory.observed_at, seen.memory.observed_at);
      if (newer && (!old.memory.observed_at.has_value() || now - *old.memory.observed_at >= *gap / 2)) {
        changes.decisive = true;
      }
    }
  }
}

void FillPromotion(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  // Where nothing was planned, or what was planned failed, the Service's word stands.
  const Promotion& planned = outcome.plan.promotion;
  bool moved = outcome.failure.empty() && !planned.request.empty();
  const Promotion& promotion = moved ? planned : outcome.seen.promotion;
  status.promotion = {promotion.request, NameOf(promotion.phase), promotion.from, promotion.to, promotion.message};
  if (outcome.seen.primary_ordinal == 0 || outcome.seen.instances.empty()) return;
  status.primary = InstanceName(outcome.policy.meta.name, outcome.seen.primary_ordinal);
  bool done_now = moved && outcome.seen.promotion.Runs() && promotion.phase == PromotionPhase::kDone;
  if (done_now) status.primary = promotion.to;
}

}  // namespace

std::string RunningTier(const crds::ScaleTierPolicyStatus& status, const Resolved& resolved, const Seen& seen) {
  const std::string& recorded = seen.primary.tier;
  bool known = core::FindTier(resolved.ladder, recorded).has_value();
  return known && recorded != status.target_tier ? recorded : status.tier;
}

crds::ScaleTierPolicyStatus MakeStatus(const Outcome& outcome) {
  crds::ScaleTierPolicyStatus status = outcome.policy.status;
  status.observed_generation = outcome.policy.meta.generation;
  status.tiers = ObserveTiers(outcome);
  Recover(outcome, status);
  MoveOn(outcome, status);
  status.image = outcome.plan.image.empty() ? status.image : outcome.plan.image;
  // Done once everybody presents the new ones.
  if (outcome.Complete() && outcome.plan.certificates_request != status.rotations.certificates.request) {
    status.rotations.certificates = {outcome.plan.certificates_request, outcome.now};
  }
  const PrimarySeen& primary = outcome.seen.primary;
  if (status.system_identifier.empty() && !primary.installed.empty()) {
    status.system_identifier = primary.system_identifier;
  }
  status.scaling = outcome.scaling.status;
  if (outcome.failure.empty()) status.closed_clients += outcome.plan.closed_clients;
  FillPromotion(outcome, status);
  if (const TierSettings* tier = outcome.resolved.Find(outcome.decision.to)) {
    FillReplicas(outcome, *tier, status);
    FillSummary(outcome, *tier, status);
  }
  FillPlan(outcome, status);
  status.conditions = MakeConditions(outcome, status);
  return status;
}

bool MustWrite(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after,
               const Resolved& resolved, std::optional<WallTime> last_write, WallTime now) {
  Changes changes;
  changes.decisive =
      before.observed_generation != after.observed_generation || before.tier != after.tier ||
      before.target_tier != after.target_tier || before.next_tier != after.next_tier || before.image != after.image ||
      before.rotations.certificates.request != after.rotations.certificates.request ||
      before.system_identifier != after.system_identifier || before.primary != after.primary ||
      !(before.promotion == after.promotion) || before.tiers.size() != after.tiers.size() ||
      before.summary.replicas != after.summary.replicas || before.summary.pooler != after.summary.pooler ||
      before.summary.endpoint != after.summary.endpoint || before.plan.hash != after.plan.hash ||
      before.plan.approved_by != after.plan.approved_by || before.history.size() != after.history.size() ||
      before.conditions.size() != after.conditions.size() || before.replicas.size() != after.replicas.size() ||
      before.closed_clients != after.closed_clients;
  if (changes.decisive) return true;
  if (ScalingMustBeWritten(before.scaling, after.scaling, resolved, after.tier, now)) return true;
  changes.numbers = before.scaling.needed != after.scaling.needed || before.summary.closest != after.summary.closest ||
                    before.summary.lag != after.summary.lag;
  for (size_t i = 0; i < after.conditions.size(); ++i) {
    const crds::Condition& was = before.conditions[i];
    const crds::Condition& is = after.conditions[i];
    if (was.type != is.type || was.status != is.status || was.reason != is.reason ||
        was.observed_generation != is.observed_generation) {
      return true;
    }
    changes.numbers = changes.numbers || was.message != is.message;
  }
  for (size_t i = 0; i < after.replicas.size(); ++i) {
    const crds::ReplicaStatus& was = before.replicas[i];
    const crds::ReplicaStatus& is = after.replicas[i];
    if (was.name != is.name || was.healthy != is.healthy || was.routed != is.routed) return true;
    changes.numbers = changes.numbers || was.lag != is.lag;
  }
  CompareTiers(before, after, resolved, now, changes);
  if (changes.decisive) return true;
  constexpr int kQuietIntervals = 4;
  return changes.numbers && (!last_write.has_value() || now - *last_write >= kQuietIntervals * resolved.interval);
}

}  // namespace pgtier::controllers::scale_tier
