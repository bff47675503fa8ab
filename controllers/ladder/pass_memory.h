// What a controller keeps of its policies between passes beside their status: readings are finer than what status
// holds. Lost with the process; status has what matters.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "controllers/ladder/status.h"
#include "core/decide.h"
#include "crds/ladder.h"
#include "lib/base/clock.h"
#include "lib/kube/resource.h"

namespace pgtier::controllers {

// What the passes before this one waited for, and how long already.
struct Waited {
  std::string what;
  Duration how_long{0};
  // What else each of them found to be so, whatever it waited for, and since how long.
  std::map<std::string, Duration> lasting = {};

  // Zero of what the last pass did not find.
  [[nodiscard]] Duration Lasted(const std::string& found) const {
    auto known = lasting.find(found);
    return known == lasting.end() ? Duration::zero() : known->second;
  }
};

// Thread-safe.
class PassMemory {
 public:
  using Rules = std::map<core::TriggerKey, std::string>;  // JudgedBy: what each trigger's memory was judged by.

  // `clock` outlives this.
  explicit PassMemory(const Clock* clock) : clock_(clock) {}

  // What core::Decide takes: `tier` runs; the rest is of the pass before or, without one, of status. `rules` are those
  // of now.
  core::Memory Recall(const crds::Meta& policy, const crds::LadderStatus& status, const core::Ladder& ladder,
                      const std::string& tier, const Rules& rules);
  // Gives whether it is another object of that name than before.
  bool Remember(const crds::Meta& policy, const core::Decision& decision, Rules rules);

  // How long the passes have waited for the same already. Not null: what they wait for from now on.
  Waited WaitedFor(const crds::Meta& policy, const std::string* now_waiting_for = nullptr);
  // What a pass found to be so, in words that stay the same while it is. What it did not find begins anew some day.
  void NoteLasting(const crds::Meta& policy, const std::set<std::string>& found);
  // When to look again: soon while something is under way, and later the longer it takes.
  Duration NextLook(const LadderPass& pass, Duration interval);

  [[nodiscard]] std::optional<WallTime> LastWrite(const crds::Meta& policy);
  void NoteWrite(const crds::Meta& policy, WallTime now);
  void Forget(const kube::ObjectKey& key);

 private:
  struct Remembered {
    std::string uid;
    std::map<core::TriggerKey, core::TriggerMemory> triggers;
    Rules rules;
    std::optional<WallTime> last_write;
    std::string waiting_for;   // What the last passes waited for,
    MonoTime waiting_since{};  // and since when.
    std::map<std::string, MonoTime> lasting;
  };
  static kube::ObjectKey KeyOf(const crds::Meta& policy) { return {policy.namespace_, policy.name}; }

  const Clock* const clock_;
  std::mutex mutex_;
  std::map<kube::ObjectKey, Remembered> remembered_;
};

}  // namespace pgtier::controllers
