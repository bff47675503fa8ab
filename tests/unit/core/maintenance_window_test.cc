#include <gtest/gtest.h>

#include "core/ladder.h"
#include "lib/base/time_format.h"

namespace pgtier::core {
namespace {

bool OpenAt(const std::string& window, const std::string& time) {
  return IsOpen(*ParseMaintenanceWindow(window), *ParseTime(time));
}

TEST(MaintenanceWindow, OpensOnItsDayOnly) {
  EXPECT_TRUE(OpenAt("Sat 02:00-05:00 UTC", "2026-11-21T02:00:00Z"));
  EXPECT_TRUE(OpenAt("Sat 02:00-05:00 UTC", "2026-11-21T04:59:59Z"));
  EXPECT_FALSE(OpenAt("Sat 02:00-05:00 UTC", "2026-11-21T05:00:00Z"));
  EXPECT_FALSE(OpenAt("Sat 02:00-05:00 UTC", "2026-11-22T03:00:00Z"));
}

TEST(MaintenanceWindow, MaySpanMidnight) {
  EXPECT_TRUE(OpenAt("Fri 23:00-01:00 UTC", "2026-11-20T23:30:00Z"));
  EXPECT_TRUE(OpenAt("Fri 23:00-01:00 UTC", "2026-11-21T00:30:00Z"));
  EXPECT_FALSE(OpenAt("Fri 23:00-01:00 UTC", "2026-11-20T00:30:00Z"));
}

TEST(MaintenanceWindow, MayBeDaily) {
  EXPECT_TRUE(OpenAt("Daily 02:00-05:00 UTC", "2026-11-18T03:00:00Z"));
  EXPECT_TRUE(OpenAt("02:00-05:00 UTC", "2026-11-18T03:00:00Z"));
  EXPECT_FALSE(OpenAt("02:00-05:00 UTC", "2026-11-18T06:00:00Z"));
}

TEST(MaintenanceWindow, RefusesNonsense) {
  for (const char* text : {"", "Sat", "Xyz 02:00-05:00 UTC", "Sat 2-5 UTC", "Sat 02:00-05:00", "Sat 25:00-26:00 UTC"}) {
    EXPECT_FALSE(ParseMaintenanceWindow(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace pgtier::core
