#include "demo/load/latency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace pgtier::load {
namespace {

using std::chrono::microseconds;

TEST(LatencyHistogram, IsEmptyAtFirst) {
  LatencyHistogram latencies;
  EXPECT_EQ(latencies.Quantile(0.95), Duration::zero());
  EXPECT_EQ(latencies.count(), 0);
}

TEST(LatencyHistogram, OneValueIsEveryQuantile) {
  LatencyHistogram latencies;
  latencies.Add(std::chrono::milliseconds(50));
  for (double q : {0.0, 0.5, 0.95, 1.0}) EXPECT_EQ(latencies.Quantile(q), std::chrono::milliseconds(50));
}

TEST(LatencyHistogram, QuantilesAreNearTheTrueOnes) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> draw(9, 1.5);  // microseconds around 8 ms
  LatencyHistogram latencies;
  std::vector<int64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(static_cast<int64_t>(draw(random)));
    latencies.Add(microseconds(values.back()));
  }
  std::sort(values.begin(), values.end());
  for (double q : {0.01, 0.5, 0.95, 0.99, 0.999}) {
    auto exact = static_cast<double>(values[static_cast<size_t>(q * 20'000) - 1]);
    auto seen = static_cast<double>(std::chrono::duration_cast<microseconds>(latencies.Quantile(q)).count());
    EXPECT_GE(seen, exact) << q;
    EXPECT_LE(seen, exact * 1.017 + 1) << q;
  }
  EXPECT_EQ(latencies.Quantile(1), microseconds(values.back()));
}

TEST(LatencyHistogram, TakesAnyValue) {
  LatencyHistogram latencies;
  latencies.Add(Duration::zero());
  latencies.Add(Duration(-5));
  latencies.Add(std::chrono::hours(24 * 365));
  EXPECT_EQ(latencies.count(), 3);
  EXPECT_EQ(latencies.Quantile(0.5), Duration::zero());
  EXPECT_EQ(latencies.max(), std::chrono::hours(24 * 365));
}

TEST(LatencyHistogram, MergesAndClears) {
  LatencyHistogram a;
  LatencyHistogram b;
  a.Add(microseconds(10));
  b.Add(microseconds(30));
  a.Merge(b);
  EXPECT_EQ(a.count(), 2);
  EXPECT_EQ(a.max(), microseconds(30));
  a.Clear();
  EXPECT_EQ(a.count(), 0);
}

}  // namespace
}  // namespace pgtier::load
