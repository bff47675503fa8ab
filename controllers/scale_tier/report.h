// The last stage of a pass: what happened, as status, events and metrics. Pure but for the two that write.
#pragma once

#include <string>
#include <vector>

#include "controllers/ladder/conditions.h"
#include "controllers/ladder/notes.h"
#include "controllers/ladder/status.h"
#include "controllers/scale_tier/plan.h"
#include "controllers/scale_tier/scaling.h"
#include "controllers/scale_tier/seen.h"
#include "core/decide.h"
#include "lib/base/metrics.h"

namespace pgtier::controllers::scale_tier {

// All that a pass came to.
struct Outcome {
  const crds::ScaleTierPolicy& policy;
  const Resolved& resolved;
  const Seen& seen;
  const core::Decision& decision;
  Plan plan;                  // Empty where nothing was planned.
  std::string failure;        // What the first failing action said; empty: none failed.
  bool needs_person = false;  // The failure does not go away by itself.
  bool paused = false;
  WallTime now;
  Scaling scaling = {};

  [[nodiscard]] LadderPass Ladder() const {
    return {policy.meta, policy.spec, policy.problems,  resolved,     resolved.ladder, decision,
            now,         failure,     plan.waiting_for, needs_person, paused};
  }
  // Whether anything may be planned and done at all.
  [[nodiscard]] bool Acts() const { return controllers::Acts(Ladder()); }
  // The tier of `decision.to` runs as specified, as read back.
  [[nodiscard]] bool Complete() const { return Ladder().Complete(); }
};

// The tier that runs: by status, unless the database has recorded another one that no change under way explains. Then
// the status was lost, or is of the past (a restored etcd), and to believe it would remove what is in use.
std::string RunningTier(const crds::ScaleTierPolicyStatus& status, const Resolved& resolved, const Seen& seen);

// The status after this pass, from the one before: transition times are kept where a condition's status is.
crds::ScaleTierPolicyStatus MakeStatus(const Outcome& outcome);

// status.conditions of `status` (whose other fields are filled in).
std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status);

// Whether `after` must be written now. Numbers that move all the time do not make a write of their own: they wait for
// `interval` × 4 since `last_write`. An open window's last reading is written every half gap, so that a restart of the
// operator does not lose the window.
bool MustWrite(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after,
               const Resolved& resolved, std::optional<WallTime> last_write, WallTime now);

// What a person would want to be told of, between two statuses.
std::vector<Note> MakeNotes(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after);

// The policy's series in /metrics.
void ExportMetrics(const Outcome& outcome, const crds::ScaleTierPolicyStatus& status, Metrics& metrics);

}  // namespace pgtier::controllers::scale_tier
