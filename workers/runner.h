// Keeps a mode running: again after an error, anew after a change of the configuration.
#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "lib/base/metrics.h"
#include "lib/base/result.h"
#include "workers/mode.h"
#include "workers/progress.h"

namespace pgtier::workers {

// Runs until `stop`: serves /metrics, /healthz and /readyz, and reads the file (and those that it names) each second. A
// file that is wrong is logged, and the one before stays in force; only at the start it is an error. `listen` counts at
// the start only.
Status RunWorker(const std::string& config_path, const std::map<std::string, MakeMode>& modes,
                 const std::stop_token& stop);

}  // namespace pgtier::workers
