#include "demo/load/latency.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace pgtier::load {

int LatencyHistogram::BucketOf(uint64_t microseconds) {
  // Below 2^kSubBits each microsecond has its own bucket; above, the leading kSubBits + 1 bits choose it.
  int exponent = std::max(0, static_cast<int>(std::bit_width(microseconds)) - 1 - kSubBits);
  auto bucket = (static_cast<uint64_t>(exponent) << kSubBits) + (microseconds >> static_cast<unsigned>(exponent));
  return static_cast<int>(std::min<uint64_t>(bucket, kBuckets - 1));
}

uint64_t LatencyHistogram::UpperBound(int bucket) {
  int exponent = std::max(0, (bucket >> kSubBits) - 1);
  auto mantissa = static_cast<uint64_t>(bucket) - (static_cast<uint64_t>(exponent) << kSubBits);
  return ((mantissa + 1) << static_cast<unsigned>(exponent)) - 1;
}

void LatencyHistogram::Add(Duration latency) {
  auto microseconds = std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::microseconds>(latency).count());
  ++buckets_[static_cast<size_t>(BucketOf(static_cast<uint64_t>(microseconds)))];
  ++count_;
  max_ = std::max(max_, latency);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

void LatencyHistogram::Clear() { *this = LatencyHistogram(); }

Duration LatencyHistogram::Quantile(double q) const {
  if (count_ == 0) return Duration::zero();
  auto rank = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(q * static_cast<double>(count_))));
  int64_t seen = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[static_cast<size_t>(bucket)];
    if (seen >= rank) return std::min<Duration>(std::chrono::microseconds(UpperBound(bucket)), max_);
  }
  return max_;
}

}  // namespace pgtier::load
