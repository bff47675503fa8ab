// The last stage of a pass: what happened, as status, events and metrics. Pure but for the two that write.
#pragma once

#include <string>
#include <vector>

#include "controllers/ladder/conditions.h"
#include "controllers/ladder/notes.h"
#include "controllers/ladder/status.h"
#include "controllers/shadow_table/plan.h"
#include "controllers/shadow_table/seen.h"
#include "core/decide.h"
#include "lib/base/metrics.h"

namespace pgtier::controllers::shadow_table {

// All that a pass came to.
struct Outcome {
  const crds::ShadowTablePolicy& policy;
  const Resolved& resolved;
  const Seen& seen;
  const core::Decision& decision;
  Plan plan;                  // Empty where nothing was planned.
  std::string failure;        // What the first failing action said; empty: none failed.
  bool needs_person = false;  // The failure does not go away by itself.
  bool paused = false;
  WallTime now;
  int workers = 1;           // As many as the load asks for.
  std::string version = {};  // The resourceVersion after what this pass has done; empty: that of `policy`.

  [[nodiscard]] LadderPass Ladder() const {
    return {policy.meta, policy.spec, policy.problems,  resolved,     resolved.ladder, decision,
            now,         failure,     plan.waiting_for, needs_person, paused};
  }
};

// The tier that runs: by status, unless the database has recorded another one that no change under way explains.
std::string RunningTier(const crds::ShadowTablePolicyStatus& status, const Resolved& resolved, const Seen& seen);

// The slot that the database has is kept until cdc is left, whatever the spec names by now.
void KeepHeldSlot(const Seen& seen, Resolved& resolved);

// Closes tiers whose preflight found something, or could not be made.
void FillPreflights(const Seen& seen, Resolved& resolved);

// Keeps cdc from being entered during the cooldown after a retreat, also by a pin: what made the slot keep its WAL has
// hardly gone.
void RestAfterRetreat(const crds::ShadowTablePolicyStatus& status, WallTime now, Resolved& resolved);

// Fills plan_up, plan_down and approved of the ladder for the tier that runs.
void FillApprovals(const crds::ShadowTablePolicy& policy, const std::string& tier, Resolved& resolved);

// The status after this pass, from the one before.
crds::ShadowTablePolicyStatus MakeStatus(const Outcome& outcome);
std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::ShadowTablePolicyStatus& status);

// Whether `after` must be written now: numbers that move all the time wait for `interval` × 4 since `last_write`.
bool MustWrite(const crds::ShadowTablePolicyStatus& before, const crds::ShadowTablePolicyStatus& after,
               const Resolved& resolved, std::optional<WallTime> last_write, WallTime now);

std::vector<Note> MakeNotes(const crds::ShadowTablePolicyStatus& before, const crds::ShadowTablePolicyStatus& after);

// The policy's series in /metrics, under the label `shadow_policy`: `policy` is a ScaleTierPolicy's.
Labels MetricLabels(const crds::Meta& policy);
void ExportMetrics(const Outcome& outcome, const crds::ShadowTablePolicyStatus& status, Metrics& metrics);

}  // namespace pgtier::controllers::shadow_table
