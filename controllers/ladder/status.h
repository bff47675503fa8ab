// The part of a status that every ladder has, derived from one pass. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controllers/ladder/resolve.h"
#include "core/decide.h"
#include "crds/ladder.h"

namespace pgtier::controllers {

// As many tier changes as status.history keeps.
inline constexpr size_t kHistoryLength = 10;

// What a pass came to, as far as the ladder goes.
struct LadderPass {
  const crds::Meta& meta;
  const crds::LadderSpec& spec;
  const std::vector<std::string>& problems;  // Of the stored object.
  const Limits& limits;
  const core::Ladder& ladder;
  const core::Decision& decision;
  WallTime now;
  std::string failure;        // What the first failing action said; empty: none failed.
  std::string waiting_for;    // What is missing until the tier of `decision.to` runs; empty: nothing, as read back.
  bool needs_person = false;  // The failure does not go away by itself.
  bool paused = false;

  [[nodiscard]] bool Complete() const { return failure.empty() && waiting_for.empty(); }
  // What is under way, in words.
  [[nodiscard]] std::string Progress() const { return failure.empty() ? "waiting for " + waiting_for : failure; }
};

// Fills in what was seen of each tier, and moves: rebuilds a status that was lost or is of the past from
// `decision.from`, begins a change with its reason, enters the tier of one that is complete.
void AdvanceLadder(const LadderPass& pass, crds::LadderStatus& status);

// Fills status.next_tier, and gives the column CLOSEST: the next tier's nearest trigger.
std::string FillNext(const LadderPass& pass, crds::LadderStatus& status);

struct Changes {
  bool decisive = false;  // Something that people and restarts rely on.
  bool numbers = false;   // Only numbers that move all the time.
};

// What differs between two statuses. An open window's last reading is decisive every half gap, so that a restart of the
// operator does not lose the window.
Changes CompareLadders(const crds::LadderStatus& before, const crds::LadderStatus& after, const core::Ladder& ladder,
                       WallTime now);

// Whether numbers that differ, and nothing else, are to be written: not before `interval` × 4 since the last write.
bool NumbersAreDue(std::optional<WallTime> last_write, Duration interval, WallTime now);

}  // namespace pgtier::controllers
