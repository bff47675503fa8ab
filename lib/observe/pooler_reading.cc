#include "lib/observe/pooler_reading.h"

#include <algorithm>

namespace pgtier::observe {

core::Reading ReadPoolers(const std::string& metric, const std::vector<poolers::Utilisation>& pods, int silent,
                          const core::Trigger& trigger) {
  if (pods.empty()) return core::Reading::Unknown("PoolerUnreachable: no pooler answered on its console");
  constexpr double kMicroseconds = 1e6;
  double value = 0;
  for (const poolers::Utilisation& pod : pods) {
    if (metric == "Utilisation") {
      value = std::max(value, pod.max_ratio);
    } else if (metric == "ClientsWaiting") {
      value += static_cast<double>(pod.cl_waiting);
    } else if (metric == "MaxWait") {
      value = std::max(value, static_cast<double>(pod.maxwait_us) / kMicroseconds);
    } else {
      return core::Reading::Unknown("NotAvailable: poolers have no metric " + metric);
    }
  }
  if (silent > 0 && !core::Breaches(trigger, value)) {
    return core::Reading::Unknown("PoolerUnreachable: " + std::to_string(silent) +
                                  " pods did not answer on their console");
  }
  return core::Reading::Of(value);
}

}  // namespace pgtier::observe
