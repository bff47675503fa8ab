// How many replicas a tier runs, between two bounds: more when those that run are busy, fewer when the rest would be
// calm. Pure. One replica at a time, as a ladder is climbed one rung at a time: after each the load is measured anew.
#pragma once

#include <optional>
#include <string>

#include "core/trigger.h"

namespace pgtier::core {

// As busy as replicas are meant to be (design: ReplicasNeeded), and as busy as the rest may be after one has gone. The
// gap between the two keeps the count from going to and fro.
inline constexpr double kMeantLoad = 0.7;
inline constexpr double kCalmLoad = 0.5;

// How busy the replicas are, 0 to 1: the greater of what several sources say.
struct Load {
  std::optional<double> value;  // Of the sources that could be read; nothing: none could.
  std::string unknown_reason;   // Why a source could not be read. Then the load is at least `value`, and may be more.
};

struct ScalingRule {
  int min = 0;
  int max = 0;
  Duration grow_after = Duration::zero();    // So long more must be needed.
  Duration shrink_after = Duration::zero();  // So long the rest must have been calm.
  Duration interval = Duration::zero();      // Between two readings.
};

// What is remembered between two passes.
struct ScalingMemory {
  int replicas = 0;
  TriggerMemory grow, shrink;
};

struct ScalingDecision {
  int replicas = 0;     // As many as are to run from now on.
  std::string message;  // Why it is another number than before; empty: it is not.
  ScalingMemory memory;
};

// The longest time without a reading that keeps a window.
Duration ScalingGap(Duration window, Duration interval);

// ceil(replicas × load / kMeantLoad), at least `min`.
int ReplicasNeeded(int replicas, double load, int min);

// ReplicasNeeded as a trigger reads it. A load of which a source is missing proves only that so many are needed, so it
// is Unknown unless that breaches the trigger.
Reading ReplicasNeeded(int replicas, const Load& load, int min, const Trigger& trigger);

// The windows follow the rules of triggers: an Unknown reading neither opens nor fills one, and a silence longer than
// the greater of three intervals and a twentieth of the window closes it. Load that is known in part may grow the
// tier, never shrink it. `memory.replicas` serve when this is called; else call SuppressScaling.
ScalingDecision DecideScaling(const ScalingRule& rule, const ScalingMemory& memory, const Load& load, WallTime now);

// While the replicas are being changed nothing that is measured counts: both windows are closed.
ScalingMemory SuppressScaling(const ScalingMemory& memory);

}  // namespace pgtier::core
