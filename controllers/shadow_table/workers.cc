#include "controllers/shadow_table/workers.h"

#include <algorithm>

namespace pgtier::controllers::shadow_table {
namespace {

constexpr Duration kGrowAfter = std::chrono::seconds(30);
constexpr Duration kShrinkAfter = std::chrono::minutes(10);
constexpr Duration kLate = std::chrono::seconds(10);

}  // namespace

core::ScalingMemory DecideWorkers(const Resolved& resolved, const Seen& seen, const core::ScalingMemory& before,
                                  WallTime now) {
  const Workers& bounds = resolved.workers;
  core::ScalingMemory memory = before;
  // After a restart as many as run: the Deployment remembers.
  if (memory.replicas == 0) memory.replicas = seen.worker.exists ? seen.worker.wanted : bounds.min;
  memory.replicas = std::clamp(memory.replicas, bounds.min, bounds.max);
  bool steady = seen.worker.exists && seen.worker.settled && seen.worker.ready == memory.replicas;
  bool serves = seen.state.has_value() && seen.state->tier == shadow::Tier::kNotify;
  if (!steady || !serves) return core::SuppressScaling(memory);
  double full =
      static_cast<double>(seen.state->queue_depth) / static_cast<double>(std::max<int64_t>(bounds.queue_alert, 1));
  double late = std::chrono::duration<double>(seen.state->oldest) / std::chrono::duration<double>(kLate);
  core::ScalingRule rule{bounds.min, bounds.max, kGrowAfter, kShrinkAfter, resolved.interval};
  core::Load load;
  load.value = std::min(std::max(full, late), 1.0);
  return core::DecideScaling(rule, memory, load, now).memory;
}

}  // namespace pgtier::controllers::shadow_table
