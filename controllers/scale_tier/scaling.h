// The number of replicas within a tier: measured here, decided by core/scaling.h. Pure.
#pragma once

#include <optional>
#include <string>

#include "controllers/scale_tier/resolve.h"
#include "controllers/scale_tier/seen.h"
#include "core/decide.h"
#include "core/scaling.h"
#include "crds/scale_tier_policy.h"

namespace pgtier::controllers::scale_tier {

// What a pass came to.
struct Scaling {
  crds::ScalingStatus status;
  core::ScalingMemory memory;  // Finer than status; to be passed to the next pass.
  std::string missing;         // Why a source of the load could not be read; empty: it could, or was not needed.
};

// Before the tier is decided: sets how many replicas run where status does not remember it (from the instances that
// there are), and fills the readings of triggers whose source is status.field ReplicasNeeded.
void PrepareScaling(const crds::ScaleTierPolicy& policy, Seen& seen, Resolved& resolved);

// How many replicas are to run from the next pass on. Nothing is decided while the tier changes, a promotion runs, or a
// replica is cloned, catches up, lags or is removed; nor where `acts` is false. `remembered` is what the pass before
// came to; without it status serves.
Scaling DecideReplicas(const crds::ScaleTierPolicy& policy, const Resolved& resolved, const Seen& seen,
                       const core::Decision& decision, bool acts, const std::optional<core::ScalingMemory>& remembered,
                       WallTime now);

// Whether `after` must be written for its own sake.
bool ScalingMustBeWritten(const crds::ScalingStatus& before, const crds::ScalingStatus& after, const Resolved& resolved,
                          const std::string& tier, WallTime now);

}  // namespace pgtier::controllers::scale_tier
