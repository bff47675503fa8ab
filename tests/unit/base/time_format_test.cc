#include "lib/base/time_format.h"

#include <gtest/gtest.h>

namespace pgtier {
namespace {

using namespace std::chrono_literals;

TEST(TimeFormatTest, YearsThatNanosecondsDoNotReachAreRefused) {
  for (const char* text : {"2262-01-01T00:00:00Z", "1678-12-31T00:00:00Z", "9999-12-31T23:59:59Z"}) {
    EXPECT_FALSE(ParseTime(text).has_value()) << text;
  }
  EXPECT_TRUE(ParseTime("2261-12-31T23:59:59.999-23:59").has_value());
}

TEST(TimeFormat, RoundTripsRfc3339) {
  auto time = ParseTime("2026-11-20T17:02:11Z");
  ASSERT_TRUE(time.has_value());
  EXPECT_EQ(FormatTime(*time), "2026-11-20T17:02:11Z");
  EXPECT_EQ(FormatClockTime(*time), "17:02:11Z");
}

TEST(TimeFormat, ReadsFractionsAndOffsets) {
  EXPECT_EQ(FormatMicroTime(*ParseTime("2026-11-20T17:02:11.25Z")), "2026-11-20T17:02:11.250000Z");
  EXPECT_EQ(FormatTime(*ParseTime("2026-11-20T19:02:11+02:00")), "2026-11-20T17:02:11Z");
}

TEST(TimeFormat, RefusesWhatIsNoTime) {
  for (const char* text : {"", "yesterday", "2026-11-20", "2026-11-20T17:02:11", "2026-11-20T17:02:11+2"}) {
    EXPECT_FALSE(ParseTime(text).has_value()) << text;
  }
}

TEST(Durations, AreReadInEveryUnit) {
  EXPECT_EQ(*ParseDuration("300ms"), 300ms);
  EXPECT_EQ(*ParseDuration("1h30m"), 90min);
  EXPECT_EQ(*ParseDuration("90d"), 24h * 90);
  EXPECT_EQ(*ParseDuration("2w"), 24h * 14);
}

TEST(Durations, RefuseWhatIsNoDuration) {
  for (const char* text : {"", "10", "m", "-5s", "5 s", "1.5h", "99999999999w"}) {
    EXPECT_FALSE(ParseDuration(text).has_value()) << text;
  }
}

TEST(Durations, AreWrittenLargestUnitFirst) {
  EXPECT_EQ(FormatDuration(90min), "1h30m");
  EXPECT_EQ(FormatDuration(0s), "0s");
  EXPECT_EQ(FormatDuration(7 * 24h), "7d");
  EXPECT_EQ(FormatDuration(1500ms), "1s500ms");
}

}  // namespace
}  // namespace pgtier
