// How many workers move a queue, between two bounds. Pure.
#pragma once

#include "controllers/shadow_table/resolve.h"
#include "controllers/shadow_table/seen.h"
#include "core/scaling.h"

namespace pgtier::controllers::shadow_table {

// One more after the queue was beyond seven tenths of queueAlert (or its oldest row for longer than ten seconds in it)
// for half a minute, one fewer after ten minutes in which the rest would have had less than half of that. Nothing is
// counted while workers come or go, or outside of tier notify. `before` is what the pass before came to.
core::ScalingMemory DecideWorkers(const Resolved& resolved, const Seen& seen, const core::ScalingMemory& before,
                                  WallTime now);

}  // namespace pgtier::controllers::shadow_table
