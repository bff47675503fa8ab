// The decision of one pass: stay, or move by one rung.
#pragma once

#include <map>
#include <string>

#include "core/ladder.h"

namespace pgtier::core {

enum class Verdict {
  kStart,     // No tier yet: the first one is to be built.
  kHold,      // Stay in the tier that runs.
  kMove,      // Begin, or go on with, the change to `to`.
  kWouldMove  // As kMove, but the policy only observes.
};

struct Decision {
  Verdict verdict = Verdict::kHold;
  std::string from;  // The tier that runs.
  std::string to;    // The tier that should run after this pass; equals `from` on kHold.
  // PascalCase, fit for a condition's reason: "PoolUtilisationAboveThreshold", "Pinned", "Holding", "Cooldown",
  // "OutsideMaintenanceWindow", "ApprovalRequired", a gate's ("NotAvailable", "PreflightFailed"), "MetricsUnknown".
  std::string reason;
  std::string message;  // The same for people, with numbers.
  // The tier that is due, whether or not a gate is shut; empty: none is.
  std::string due;
  std::optional<TriggerKey> trigger;             // What caused a move that begins; absent otherwise.
  std::map<TriggerKey, TriggerMemory> triggers;  // Every trigger's memory after this pass.
};

// Decides from the ladder, what is remembered, and one reading per trigger (a missing one counts as Unknown).
// Rules: one rung at a time; a trigger of a higher tier enters the lower ones first; a change once begun goes on to
// its end, whatever the readings then say; a pin moves both ways and overrides triggers, cooldown and `down`, never
// approval; a tier is left when `down` allows it, no trigger of a higher tier fires, no trigger of its own is breached
// or unknown, and every `leave` in it holds (there must be one);
// an Unknown reading never causes a move; while a change runs no window opens, for building a replica raises the very
// load that triggers measure.
Decision Decide(const Ladder& ladder, const Memory& memory, const std::map<TriggerKey, Reading>& readings,
                WallTime now);

}  // namespace pgtier::core
