#include "core/trigger.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pgtier::core {

Reading Reading::Of(double value) {
  if (!std::isfinite(value)) return Unknown("NotANumber: the source returned " + std::to_string(value));
  return {value, {}};
}

Reading Reading::Unknown(std::string reason) { return {std::nullopt, std::move(reason)}; }

bool Breaches(const Trigger& trigger, double value) {
  switch (trigger.comparison) {
    case Comparison::kAbove:
      return value > trigger.threshold;
    case Comparison::kAtLeast:
      return value >= trigger.threshold;
    case Comparison::kBelow:
      return value < trigger.threshold;
    case Comparison::kDemand:
      return value > 0;
  }
  return false;
}

bool IsCalm(const Leave& leave, double value) {
  return leave.comparison == Comparison::kAbove ? value > leave.threshold : value < leave.threshold;
}

namespace {

// The window of `leave`, beside that of the trigger itself; `after` holds the reading already.
void AdvanceLeave(const Leave& leave, const TriggerMemory& before, const Reading& reading, WallTime now,
                  TriggerMemory& after) {
  bool silent_too_long = !before.observed_at.has_value() || now - *before.observed_at > leave.gap;
  if (silent_too_long) after.leave_since.reset();
  if (after.leave_since.has_value() && *after.leave_since > now) after.leave_since = now;
  if (!reading.value.has_value() || !std::isfinite(*reading.value)) return;
  if (!IsCalm(leave, *reading.value)) {
    after.leave_since.reset();
  } else if (!after.leave_since.has_value()) {
    after.leave_since = now;
  }
}

}  // namespace

TriggerMemory Advance(const Trigger& trigger, const TriggerMemory& before, const Reading& reading, WallTime now) {
  TriggerMemory after = before;
  auto close_window = [&] {
    after.breached_since.reset();
    after.calm_since.reset();
  };

  // An open window without a time of its last reading was not written by us: start over.
  bool silent_too_long = !before.observed_at.has_value() || now - *before.observed_at > trigger.gap;
  if (trigger.leave.has_value()) {
    AdvanceLeave(*trigger.leave, before, reading, now, after);
  } else {
    after.leave_since.reset();
  }
  if (after.breached_since.has_value() && silent_too_long) close_window();
  if (after.breached_since.has_value() && *after.breached_since > now) after.breached_since = now;

  if (!reading.value.has_value() || !std::isfinite(*reading.value)) {
    after.state = TriggerState::kUnknown;
    after.unknown_reason = reading.unknown_reason.empty() ? "NoReading" : reading.unknown_reason;
    return after;
  }

  after.unknown_reason.clear();
  after.observed = reading.value;
  after.observed_at = now;
  if (Breaches(trigger, *reading.value)) {
    after.state = TriggerState::kBreached;
    after.calm_since.reset();
    if (!after.breached_since.has_value()) after.breached_since = now;
    return after;
  }

  after.state = TriggerState::kCalm;
  if (!after.breached_since.has_value()) return after;
  if (!after.calm_since.has_value() || *after.calm_since > now) after.calm_since = now;
  if (trigger.dip == Duration::zero() || now - *after.calm_since > trigger.dip) close_window();
  return after;
}

bool Fires(const Trigger& trigger, const TriggerMemory& memory, WallTime now) {
  return memory.state == TriggerState::kBreached && memory.breached_since.has_value() &&
         now - *memory.breached_since >= trigger.window;
}

bool Leaves(const Trigger& trigger, const TriggerMemory& memory, WallTime now) {
  return trigger.leave.has_value() && memory.state == TriggerState::kCalm && memory.leave_since.has_value() &&
         now - *memory.leave_since >= trigger.leave->window;
}

bool IsMissing(const TriggerMemory& memory) {
  return memory.state == TriggerState::kUnknown && !memory.unknown_reason.starts_with(kNotAvailable) &&
         !memory.unknown_reason.starts_with(kSuppressed);
}

std::optional<double> Closeness(const Trigger& trigger, const TriggerMemory& memory) {
  if (!memory.observed.has_value() || trigger.comparison == Comparison::kDemand) return std::nullopt;
  double observed = *memory.observed;
  if (Breaches(trigger, observed)) return 1.0;
  if (trigger.comparison == Comparison::kBelow) {
    return observed == 0 ? std::nullopt : std::optional(std::clamp(trigger.threshold / observed, 0.0, 1.0));
  }
  return trigger.threshold == 0 ? std::nullopt : std::optional(std::clamp(observed / trigger.threshold, 0.0, 1.0));
}

}  // namespace pgtier::core
