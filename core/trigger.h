// A trigger: one measured reason to enter a tier, and the window in which it must hold.
#pragma once

#include <optional>
#include <string>

#include "lib/base/clock.h"

namespace pgtier::core {

// One measured value, or the reason why there is none. NaN and infinity are no values.
struct Reading {
  std::optional<double> value;
  std::string unknown_reason;  // PascalCase code and words: "PrometheusUnreachable: connection refused".

  static Reading Of(double value);
  static Reading Unknown(std::string reason);
};

enum class Comparison { kAbove, kAtLeast, kBelow, kDemand };
enum class Unit { kNone, kSeconds, kRatio, kBytes, kCount, kPerSecond };
enum class TriggerState { kCalm, kBreached, kUnknown };

// When the reason for a tier is over: the reading on the calm side of `threshold` for as long as `window` says.
struct Leave {
  Comparison comparison = Comparison::kBelow;  // kAbove or kBelow.
  double threshold = 0;
  Duration window = Duration::zero();
  Duration gap = Duration::zero();  // Longest time without a reading that keeps the window.
};

struct Trigger {
  std::string name;
  std::string source;  // "prometheus", "pooler", …; shown to people.
  Comparison comparison = Comparison::kAbove;
  double threshold = 0;
  Unit unit = Unit::kNone;
  Duration window = Duration::zero();  // `for`: zero fires at the first breach.
  Duration gap = Duration::zero();     // Longest time without a reading that keeps the window.
  Duration dip = Duration::zero();     // Longest time on the calm side that keeps the window.
  std::optional<Leave> leave;          // Absent: nothing is said about leaving.
};

// What is remembered of a trigger between two passes; persisted in the policy's status.
struct TriggerMemory {
  TriggerState state = TriggerState::kUnknown;
  std::optional<double> observed;          // The last value seen.
  std::optional<WallTime> observed_at;     // When.
  std::optional<WallTime> breached_since;  // Start of the open window.
  std::optional<WallTime> calm_since;      // Start of the present dip within it.
  std::optional<WallTime> leave_since;     // Start of the open window of `leave`.
  std::string unknown_reason;              // Set while state is kUnknown.

  bool operator==(const TriggerMemory&) const = default;
};

// Whether `value` is on the breaching side. For kDemand any value above zero is.
bool Breaches(const Trigger& trigger, double value);

// Whether `value` is on the calm side of `leave`.
bool IsCalm(const Leave& leave, double value);

// The memory after `reading` at `now`. A breach opens the window; silence longer than the gap, or calm longer than the
// dip, closes it. An Unknown reading neither opens nor extends one. A clock that jumped back pulls the window's start
// to `now`; one that jumped ahead looks like silence: both make a trigger fire later, never sooner. The window of
// `leave` follows the same rules, but for dips: one reading on its other side closes it.
TriggerMemory Advance(const Trigger& trigger, const TriggerMemory& before, const Reading& reading, WallTime now);

// Whether the trigger fires: the last reading breaches, and the window has been open for `trigger.window`.
bool Fires(const Trigger& trigger, const TriggerMemory& memory, WallTime now);

// Whether the trigger's `leave` holds: the last reading is calm, and its window is full. False without `leave`.
bool Leaves(const Trigger& trigger, const TriggerMemory& memory, WallTime now);

// A reading that this release cannot take says so with this word; it is reported as such and not as missing.
inline constexpr char kNotAvailable[] = "NotAvailable";

// What is measured while replicas are cloned or removed counts for nothing; a reading that is left out for that begins
// with this word. Nobody has to do anything about it.
inline constexpr char kSuppressed[] = "Suppressed";

// Whether a reading that should be there is not.
bool IsMissing(const TriggerMemory& memory);

// How near the trigger is to its threshold: 1 at it, 0 far away. Nothing while there is no value, or for a demand.
std::optional<double> Closeness(const Trigger& trigger, const TriggerMemory& memory);

}  // namespace pgtier::core
