#include "controllers/scale_tier/scaling.h"

#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/plan.h"
#include "controllers/scale_tier/planner.h"
#include "controllers/scale_tier/report.h"

namespace pgtier::controllers::scale_tier {
namespace {

// A share of a processor that is said to be greater than this is none.
constexpr double kNoRatio = 2;

std::string Suppressed(const std::string& why) { return std::string(core::kSuppressed) + ": " + why; }

// Why nothing that is measured now says how many replicas `tier` needs; empty: it does.
std::string WhySuppressed(const crds::ScaleTierPolicy& policy, const TierSettings& tier, const Seen& seen) {
  if (!policy.status.target_tier.empty()) return Suppressed("a tier change runs");
  if (seen.promotion.Runs()) return Suppressed("a promotion runs");
  if (!seen.primary.answered) return Suppressed("the primary does not answer");
  if (policy.spec.external.has_value()) return "";
  for (int ordinal : ReplicaOrdinals(seen.primary_ordinal, tier.replicas)) {
    std::string name = InstanceName(policy.meta.name, ordinal);
    bool serves = std::any_of(seen.instances.begin(), seen.instances.end(), [&](const InstanceSeen& each) {
      return each.ordinal == ordinal && MayTakeReads(each, seen.primary, tier.max_lag, IsRouted(policy.status, name));
    });
    if (!serves) return Suppressed(name + " takes no reads yet");
  }
  if (static_cast<int>(seen.instances.size()) > tier.replicas + 1) return Suppressed("a replica is being removed");
  return "";
}

std::string PrimaryHost(const crds::ScaleTierPolicy& policy) {
  if (policy.spec.external.has_value()) return policy.spec.external->host;
  return PrimaryService(policy.meta.name) + "." + policy.meta.namespace_ + ".svc";
}

// The fullest pool of `pod` that leads to replicas.
double FullestReadPool(const PoolerPodSeen& pod, const std::string& primary_host) {
  double fullest = 0;
  for (const poolers::PoolUtilisation& pool : pod.utilisation.pools) {
    bool reads = std::any_of(pod.databases.begin(), pod.databases.end(), [&](const poolers::DatabaseStats& database) {
      return database.name == pool.database && database.host != primary_host;
    });
    if (reads) fullest = std::max(fullest, pool.ratio);
  }
  return fullest;
}

core::Load MeasureLoad(const crds::ScaleTierPolicy& policy, const TierSettings& tier, const Seen& seen) {
  core::Load load;
  auto take = [&](double value) { load.value = std::max(load.value.value_or(0), value); };
  for (const PoolerPodSeen& pod : seen.poolers) {
    bool of_reads = pod.endpoint != kPgBouncerWrites && pod.endpoint != kPgCatWrites;
    if (!pod.ready || !of_reads || IsPgCat(pod.endpoint) != (tier.pooler.engine == kPgCat)) continue;
    if (pod.answered) {
      take(FullestReadPool(pod, PrimaryHost(policy)));
    } else {
      load.unknown_reason = "PoolerUnreachable: " + pod.pod + " did not answer on its console";
    }
  }
  if (!load.value.has_value() && load.unknown_reason.empty()) {
    load.unknown_reason = "PoolerUnreachable: no pooler of reads is ready";
  }
  if (tier.cpu_query.empty()) return load;
  const core::Reading cpu = seen.replica_cpu.value_or(core::Reading::Unknown("NoReading: cpuQuery was not asked"));
  if (!cpu.value.has_value()) {
    load.unknown_reason = cpu.unknown_reason;
  } else if (*cpu.value < 0 || *cpu.value > kNoRatio) {
    load.unknown_reason = "NotARatio: cpuQuery must give a number from 0 to 1, the share of the processors in use";
  } else {
    take(*cpu.value);
  }
  return load;
}

// How many replicas share the reads.
int Serving(const crds::ScaleTierPolicy& policy, const TierSettings& tier, const Seen& seen) {
  if (!policy.spec.external.has_value()) return tier.replicas;
  return static_cast<int>(std::count_if(seen.instances.begin(), seen.instances.end(), [&](const InstanceSeen& each) {
    return each.ordinal != seen.primary_ordinal &&
           MayTakeReads(each, seen.primary, tier.max_lag, IsRouted(policy.status, each.name));
  }));
}

core::Reading ReadNeed(const crds::ScaleTierPolicy& policy, const TierSettings* tier, const Seen& seen,
                       const core::Trigger& trigger) {
  if (tier == nullptr) return core::Reading::Unknown(Suppressed("no tier runs yet"));
  if (tier->replicas == 0 || !tier->UsesReplicas()) return core::Reading::Of(tier->enter_with);
  if (std::string why = WhySuppressed(policy, *tier, seen); !why.empty()) return core::Reading::Unknown(why);
  int serving = Serving(policy, *tier, seen);
  if (serving == 0) return core::Reading::Unknown(Suppressed("no replica takes reads"));
  return core::ReplicasNeeded(serving, MeasureLoad(policy, *tier, seen), tier->enter_with, trigger);
}

core::ScalingMemory FromStatus(const crds::ScalingStatus& status) {
  core::ScalingMemory memory;
  memory.replicas = status.replicas;
  memory.grow.breached_since = status.grow_since;
  memory.shrink.breached_since = status.shrink_since;
  memory.grow.observed_at = memory.shrink.observed_at = status.observed_at;
  return memory;
}

void KeepWindows(const core::ScalingMemory& memory, crds::ScalingStatus& status) {
  status.grow_since = memory.grow.breached_since;
  status.shrink_since = memory.shrink.breached_since;
  status.observed_at = status.grow_since.has_value()     ? memory.grow.observed_at
                       : status.shrink_since.has_value() ? memory.shrink.observed_at
                                                         : std::nullopt;
}

bool InTheSameSecond(const std::optional<WallTime>& a, const std::optional<WallTime>& b) {
  // Status holds whole seconds.
  auto whole = [](const std::optional<WallTime>& time) {
    return time.has_value() ? std::optional(std::chrono::floor<std::chrono::seconds>(*time)) : std::nullopt;
  };
  return whole(a) == whole(b);
}

}  // namespace

void PrepareScaling(const crds::ScaleTierPolicy& policy, Seen& seen, Resolved& resolved) {
  int known = policy.status.scaling.replicas;
  // A status that was lost, or is of a release before this: what runs is not to be removed for that.
  if (known == 0 && seen.instances.size() > 1) known = static_cast<int>(seen.instances.size()) - 1;
  if (known > 0) SetReplicas(known, resolved);
  const TierSettings* running = resolved.Find(RunningTier(policy.status, resolved, seen));
  for (size_t i = 0; i < policy.spec.tiers.size(); ++i) {
    const crds::TierSpec& tier = policy.spec.tiers[i];
    for (size_t j = 0; j < tier.triggers.size(); ++j) {
      if (tier.triggers[j].source != crds::Source::kStatus) continue;
      const core::Trigger& rule = resolved.ladder.tiers[i].triggers[j];
      seen.readings[{tier.name, rule.name}] = ReadNeed(policy, running, seen, rule);
    }
  }
}

Scaling DecideReplicas(const crds::ScaleTierPolicy& policy, const Resolved& resolved, const Seen& seen,
                       const core::Decision& decision, bool acts, const std::optional<core::ScalingMemory>& remembered,
                       WallTime now) {
  Scaling scaling;
  crds::ScalingStatus& status = scaling.status;
  status = policy.status.scaling;
  const TierSettings* tier = resolved.Find(decision.from);
  bool moves = decision.from != decision.to;
  if (tier == nullptr || !tier->Scales() || resolved.ladder.observe_only) {
    // What the tier before ran is kept until the change has ended: the next one may go on with it.
    if (!moves) status = {};
    return scaling;
  }
  bool as_status_has_it = remembered.has_value() && remembered->replicas == tier->replicas;
  core::ScalingMemory before = as_status_has_it ? *remembered : FromStatus(status);
  before.replicas = status.replicas = tier->replicas;
  if (!acts || moves || !tier->UsesReplicas() || !WhySuppressed(policy, *tier, seen).empty()) {
    scaling.memory = core::SuppressScaling(before);
    KeepWindows(scaling.memory, status);
    if (status.phase.empty()) status.phase = "Steady";
    return scaling;
  }
  core::Load load = MeasureLoad(policy, *tier, seen);
  scaling.missing = load.unknown_reason;
  if (load.value.has_value()) status.needed = core::ReplicasNeeded(tier->replicas, *load.value, tier->enter_with);
  core::ScalingDecision decided = core::DecideScaling(
      {tier->enter_with, tier->max_replicas, tier->grow_after, tier->shrink_after, resolved.interval}, before, load,
      now);
  scaling.memory = decided.memory;
  KeepWindows(scaling.memory, status);
  status.phase = "Steady";
  if (decided.replicas == tier->replicas) return scaling;
  status.replicas = decided.replicas;
  status.phase = decided.replicas > tier->replicas ? "Growing" : "Shrinking";
  status.message = std::to_string(tier->replicas) + " to " + std::to_string(decided.replicas) + ": " + decided.message;
  status.changed_at = now;
  return scaling;
}

bool ScalingMustBeWritten(const crds::ScalingStatus& before, const crds::ScalingStatus& after, const Resolved& resolved,
                          const std::string& tier, WallTime now) {
  if (before.replicas != after.replicas || before.phase != after.phase || before.message != after.message ||
      !InTheSameSecond(before.changed_at, after.changed_at) || !InTheSameSecond(before.grow_since, after.grow_since) ||
      !InTheSameSecond(before.shrink_since, after.shrink_since)) {
    return true;
  }
  // An open window's last reading is written every half gap, so that it outlives a restart.
  const TierSettings* settings = resolved.Find(tier);
  if (settings == nullptr || !after.observed_at.has_value()) return false;
  Duration window = after.grow_since.has_value() ? settings->grow_after : settings->shrink_after;
  Duration gap = core::ScalingGap(window, resolved.interval);
  return !before.observed_at.has_value() || now - *before.observed_at >= gap / 2;
}

}  // namespace pgtier::controllers::scale_tier
