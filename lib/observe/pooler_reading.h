// Readings from poolers' consoles.
#pragma once

#include <string>
#include <vector>

#include "core/trigger.h"
#include "lib/poolers/pgbouncer_views.h"

namespace pgtier::observe {

// The reading of a metric (Utilisation | ClientsWaiting | MaxWait) over all pods of all poolers: the fullest pool, the
// sum of waiting clients, the longest wait in seconds. `pods` holds what each pod that answered said; `silent` counts
// those that did not: with one silent, a high reading is still true, but a low one proves nothing and is Unknown.
core::Reading ReadPoolers(const std::string& metric, const std::vector<poolers::Utilisation>& pods, int silent,
                          const core::Trigger& trigger);

}  // namespace pgtier::observe
