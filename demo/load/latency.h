// Latencies counted in buckets, for percentiles over a window without keeping each value.
#pragma once

#include <array>
#include <cstdint>

#include "lib/base/clock.h"

namespace pgtier::load {

inline double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Log-linear buckets of microseconds: a quantile is at most 1.6 % above the true value. Up to about 19 hours.
class LatencyHistogram {
 public:
  void Add(Duration latency);
  void Merge(const LatencyHistogram& other);
  void Clear();

  [[nodiscard]] int64_t count() const { return count_; }
  [[nodiscard]] Duration max() const { return max_; }
  // The latency that a share `q` (0 to 1) of the values doesn't exceed; zero without values.
  [[nodiscard]] Duration Quantile(double q) const;

 private:
  static constexpr int kSubBits = 6;  // 64 buckets for each doubling
  static constexpr int kBuckets = 32 << kSubBits;
  static int BucketOf(uint64_t microseconds);
  static uint64_t UpperBound(int bucket);

  std::array<int64_t, kBuckets> buckets_{};
  int64_t count_ = 0;
  Duration max_{0};
};

}  // namespace pgtier::load
