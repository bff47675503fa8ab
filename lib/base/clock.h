// Time, injected: production code asks a Clock, tests move one by hand.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>

namespace pgtier {

using Duration = std::chrono::nanoseconds;
// Wall-clock time: what is shown, stored in status and compared with other machines' timestamps. May jump.
using WallTime = std::chrono::system_clock::time_point;
// Monotonic time: what timeouts and leases are measured by. Never jumps.
using MonoTime = std::chrono::steady_clock::time_point;

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual WallTime Now() const = 0;
  [[nodiscard]] virtual MonoTime MonoNow() const = 0;
};

// The machine's own clocks.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] WallTime Now() const override { return std::chrono::system_clock::now(); }
  [[nodiscard]] MonoTime MonoNow() const override { return std::chrono::steady_clock::now(); }
};

// The point on the monotonic clock at which a piece of work must have ended. Passed down through every call that waits.
class Deadline {
 public:
  static Deadline After(Duration duration) { return Deadline(std::chrono::steady_clock::now() + duration); }
  static Deadline At(MonoTime at) { return Deadline(at); }

  [[nodiscard]] MonoTime at() const { return at_; }
  [[nodiscard]] bool Expired() const { return std::chrono::steady_clock::now() >= at_; }
  // Time left, zero when expired.
  [[nodiscard]] Duration Remaining() const {
    auto now = std::chrono::steady_clock::now();
    return now >= at_ ? Duration::zero() : std::chrono::duration_cast<Duration>(at_ - now);
  }
  // The earlier of this and `duration` from now: a part of the work gets no more than its share.
  [[nodiscard]] Deadline AtMost(Duration duration) const { return Deadline(std::min(at_, After(duration).at_)); }

 private:
  explicit Deadline(MonoTime at) : at_(at) {}
  MonoTime at_;
};

// Sleeps for `duration` or until `stop` is requested. Returns false when stopped.
inline bool SleepFor(Duration duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace pgtier
