// Whether the worker gets on: what /healthz and /readyz answer by.
#pragma once

#include <mutex>
#include <optional>

#include "lib/base/clock.h"

namespace pgtier::workers {

// Thread-safe. A mode says when it has work before it, when it got on with it, and when nothing is left.
class Progress {
 public:
  // There is work: the time that it may take without progress begins, if it does not run already.
  void Working();
  // Something was done for good: the time begins anew.
  void Done();
  // Nothing is left to do, or nobody knows (the database is away: a restart of the worker would not help).
  void Idle();
  // Connected and doing its part.
  void SetReady(bool ready);

  [[nodiscard]] bool Ready() const;
  // False when there was work for longer than `limit` and none of it got done.
  [[nodiscard]] bool Healthy(Duration limit) const;

 private:
  mutable std::mutex mutex_;
  bool ready_ = false;
  std::optional<MonoTime> since_;  // of the last progress while there is work
};

}  // namespace pgtier::workers
