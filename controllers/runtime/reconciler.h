// One pass over one object.
#pragma once

#include <stop_token>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/kube/resource.h"

namespace pgtier::controllers {

// When the object wants its next pass.
struct Requeue {
  Duration after = Duration::zero();  // Zero: only when something changes.
  bool under_way = false;             // Something waits for it: it goes before looks that are only due.
};

class Reconciler {
 public:
  virtual ~Reconciler() = default;
  // Brings the world nearer to what the object `key` says. Idempotent; may be stopped at any point. An error is logged,
  // counted and tried again with a growing delay.
  virtual Result<Requeue> Reconcile(const kube::ObjectKey& key, Deadline deadline, const std::stop_token& stop) = 0;
};

}  // namespace pgtier::controllers
