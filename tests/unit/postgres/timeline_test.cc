#include <gtest/gtest.h>

#include "lib/postgres/replication.h"

namespace pgtier::postgres {
namespace {

TEST(TimelineHistory, TellsWhereEachTimelineEnded) {
  auto ends = ParseTimelineHistory(
      "1\t0/3000148\tno recovery target specified\n\n# by hand\n 2\t1/5\tbefore 2026-11-01 00:00:00+00\n");
  ASSERT_TRUE(ends.has_value()) << ends.error().message;
  EXPECT_EQ(*ends, (TimelineEnds{{1, Lsn{0x3000148}}, {2, Lsn{0x100000005}}}));
  EXPECT_TRUE(ParseTimelineHistory("")->empty());
  for (const char* bad : {"x\t0/1\t", "1", "1\t", "1 0x1", "-1\t0/1", "10/1\tglued", "1\t0/\t"}) {
    EXPECT_FALSE(ParseTimelineHistory(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace pgtier::postgres
