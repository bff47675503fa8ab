// A ladder: the tiers that one database may climb, and the rules of moving between them.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/trigger.h"
#include "lib/base/result.h"

namespace pgtier::core {

enum class Match { kAny, kAll };

// What keeps a tier from being entered, whatever its triggers say.
struct Gate {
  std::string reason;   // PascalCase, fit for a condition's reason; empty: the gate is open.
  std::string message;  // The same for people.
};

struct Tier {
  std::string name;
  Match match = Match::kAny;
  std::vector<Trigger> triggers;  // Empty for the first tier.
  bool approval_required = false;
  Gate blocked;       // Judged before anybody is asked to approve: "NotAvailable", "SpecRefused", "PreflightFailed".
  Gate not_executed;  // Judged once the plan is approved: this release decides and plans, and goes no further.
};

// A weekly or daily span in UTC. An end before the beginning means the next day.
struct MaintenanceWindow {
  std::optional<unsigned> weekday;  // 0 is Sunday; absent: every day.
  std::chrono::minutes begin{0};    // Since midnight.
  std::chrono::minutes end{0};      // Equal to begin: never open.
};

// Reads "Sat 02:00-05:00 UTC", "Daily 23:00-01:00 UTC" or "02:00-05:00 UTC".
Result<MaintenanceWindow> ParseMaintenanceWindow(const std::string& text);
bool IsOpen(const MaintenanceWindow& window, WallTime now);

// Whether a tier is left again when what brought it is over: by pin only, after a person's approval, or by itself.
enum class Down { kNever, kManual, kAutomatic };

struct Ladder {
  std::vector<Tier> tiers;
  std::string pin;  // Name of the tier to hold, or empty.
  Duration cooldown = Duration::zero();
  std::vector<MaintenanceWindow> windows;  // Changes wait for one of these; none: any time.
  bool observe_only = false;
  Down down = Down::kNever;
  // Hashes of the plans of the two changes that are possible from the tier that runs, and of those that a person has
  // approved. A change that needs approval begins only when its own hash is among them.
  std::string plan_up;
  std::string plan_down;
  std::set<std::string> approved;
};

// A trigger is known by the tier that it belongs to and its name.
using TriggerKey = std::pair<std::string, std::string>;

// What is remembered of a ladder between two passes; persisted in status.
struct Memory {
  std::string tier;                     // The tier that runs; empty before the first pass.
  std::string target;                   // The tier that a change in progress leads to, or empty.
  std::optional<WallTime> last_change;  // When the last tier change ended; the cooldown counts from here.
  std::map<TriggerKey, TriggerMemory> triggers;
};

// Index of the tier of that name, or nothing.
std::optional<size_t> FindTier(const Ladder& ladder, const std::string& name);

// The trigger of `tier` nearest to firing, with its memory; nothing where none has a value.
struct Nearest {
  const Trigger* trigger = nullptr;
  const TriggerMemory* memory = nullptr;
};
std::optional<Nearest> NearestTrigger(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories);

}  // namespace pgtier::core
