// A clock that stands still until a test moves it.
#pragma once

#include <mutex>

#include "lib/base/clock.h"

namespace pgtier::fake {

class ManualClock final : public Clock {
 public:
  [[nodiscard]] WallTime Now() const override {
    std::lock_guard lock(mutex_);
    return WallTime(std::chrono::duration_cast<WallTime::duration>(elapsed_) + std::chrono::seconds(1700000000));
  }
  [[nodiscard]] MonoTime MonoNow() const override {
    std::lock_guard lock(mutex_);
    return MonoTime(std::chrono::duration_cast<MonoTime::duration>(elapsed_) + std::chrono::hours(1));
  }
  void Advance(Duration by) {
    std::lock_guard lock(mutex_);
    elapsed_ += by;
  }

 private:
  mutable std::mutex mutex_;
  Duration elapsed_{};
};

}  // namespace pgtier::fake
