#include "demo/load/writer.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace pgtier::load {
namespace {

TEST(EventBuffer, IsDueWhenFullOrOld) {
  EventBuffer buffer("agent-1", "run");
  std::mt19937_64 random(1);
  MonoTime start{};
  EXPECT_FALSE(buffer.Due(start + std::chrono::hours(1)));  // nothing to flush
  buffer.Add(WallTime{}, start, random);
  EXPECT_FALSE(buffer.Due(start + std::chrono::milliseconds(99)));
  EXPECT_TRUE(buffer.Due(start + std::chrono::milliseconds(100)));
  for (int i = 1; i < 999; ++i) buffer.Add(WallTime{}, start, random);
  EXPECT_FALSE(buffer.Due(start));
  buffer.Add(WallTime{}, start, random);
  EXPECT_TRUE(buffer.Due(start));
  EXPECT_EQ(buffer.size(), 1000U);
  EXPECT_EQ(std::count(buffer.rows().begin(), buffer.rows().end(), '\n'), 1000);
  int64_t by_type = 0;
  for (const auto& [type, count] : buffer.by_type()) by_type += count;
  EXPECT_EQ(by_type, 1000);
  buffer.Clear();
  EXPECT_EQ(buffer.size(), 0U);
  EXPECT_FALSE(buffer.Due(start + std::chrono::hours(1)));
  buffer.Add(WallTime{}, start, random);
  EXPECT_NE(buffer.rows().find("\t1001\t"), std::string::npos);  // numbers go on: every row is its own
}

}  // namespace
}  // namespace pgtier::load
