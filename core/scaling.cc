#include "core/scaling.h"

#include <algorithm>
#include <cmath>

#include "core/words.h"

namespace pgtier::core {
namespace {

// Two thirds of a load that is two thirds of a replica's must not need another one for a rounding error.
constexpr double kRounding = 1e-9;

Trigger Rule(std::string name, Comparison comparison, double threshold, Unit unit, Duration window, Duration interval) {
  Trigger trigger;
  trigger.name = std::move(name);
  trigger.comparison = comparison;
  trigger.threshold = threshold;
  trigger.unit = unit;
  trigger.window = window;
  trigger.gap = ScalingGap(window, interval);
  return trigger;
}

}  // namespace

Duration ScalingGap(Duration window, Duration interval) { return std::max(3 * interval, window / 20); }

int ReplicasNeeded(int replicas, double load, int min) {
  double needed = std::ceil(replicas * load / kMeantLoad - kRounding);
  constexpr double kMost = 1000;  // A source that says nonsense must not overflow.
  return std::max(min, static_cast<int>(std::clamp(needed, 0.0, kMost)));
}

Reading ReplicasNeeded(int replicas, const Load& load, int min, const Trigger& trigger) {
  if (!load.value.has_value()) return Reading::Unknown(load.unknown_reason);
  double needed = ReplicasNeeded(replicas, *load.value, min);
  bool proves = load.unknown_reason.empty() || (trigger.comparison != Comparison::kBelow && Breaches(trigger, needed));
  return proves ? Reading::Of(needed) : Reading::Unknown(load.unknown_reason);
}

ScalingMemory SuppressScaling(const ScalingMemory& memory) {
  ScalingMemory after;
  after.replicas = memory.replicas;
  return after;
}

ScalingDecision DecideScaling(const ScalingRule& rule, const ScalingMemory& memory, const Load& load, WallTime now) {
  ScalingDecision decision;
  decision.replicas = std::clamp(memory.replicas, rule.min, rule.max);
  decision.memory = SuppressScaling(memory);
  decision.memory.replicas = decision.replicas;
  if (decision.replicas != memory.replicas) return decision;  // The bounds were edited: no matter of load.
  int running = decision.replicas;

  if (running < rule.max) {
    Trigger more = Rule("replicas-needed", Comparison::kAbove, running, Unit::kCount, rule.grow_after, rule.interval);
    decision.memory.grow = Advance(more, memory.grow, ReplicasNeeded(running, load, rule.min, more), now);
    if (Fires(more, decision.memory.grow, now)) {
      decision.message = DescribeBreach(more, decision.memory.grow);
      ++decision.replicas;
    }
  }
  if (running > std::max(rule.min, 1)) {
    Trigger fewer =
        Rule("load-without-one", Comparison::kBelow, kCalmLoad, Unit::kRatio, rule.shrink_after, rule.interval);
    bool known = load.value.has_value() && load.unknown_reason.empty();
    Reading rest = known ? Reading::Of(*load.value * running / (running - 1)) : Reading::Unknown(load.unknown_reason);
    decision.memory.shrink = Advance(fewer, memory.shrink, rest, now);
    if (Fires(fewer, decision.memory.shrink, now)) {
      decision.message = DescribeBreach(fewer, decision.memory.shrink);
      --decision.replicas;
    }
  }
  if (decision.replicas == running) return decision;
  decision.memory = SuppressScaling(decision.memory);
  decision.memory.replicas = decision.replicas;
  return decision;
}

}  // namespace pgtier::core
