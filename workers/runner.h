// Keeps a mode running: again after an error, anew after a change of the configuration.
#pragma once

#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "lib/base/metrics.h"
#include "lib/base/result.h"
#include "workers/mode.h"
#include "workers/progress.h"

namespace pgtier::workers {

// What runs for a mode's name: each on a thread of its own, and begun again by itself. The worker is ready, and
// healthy, when all of them are.
using Modes = std::map<std::string, std::vector<MakeMode>>;

// Runs until `stop`: serves /metrics, /healthz and /readyz, and reads the file (and those that it names) each second. A
// file that is wrong is logged, and the one before stays in force; only at the start it is an error. `listen` counts at
// the start only.
Status RunWorker(const std::string& config_path, const Modes& modes, const std::stop_token& stop);

}  // namespace pgtier::workers
