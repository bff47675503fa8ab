#include "lib/base/quantity.h"

#include <gtest/gtest.h>

#include <limits>

namespace pgtier {
namespace {

TEST(Quantity, ReadsNumbersAndSuffixes) {
  EXPECT_DOUBLE_EQ(*ParseQuantity("4"), 4);
  EXPECT_DOUBLE_EQ(*ParseQuantity("0.05"), 0.05);
  EXPECT_DOUBLE_EQ(*ParseQuantity("100Gi"), 107374182400.0);
  EXPECT_DOUBLE_EQ(*ParseQuantity("1.5M"), 1500000.0);
}

TEST(Quantity, RefusesMilliAndNonsense) {
  for (const char* text : {"", "50m", "x", "1e3", "nan", "inf", "1 Gi", "GiB"}) {
    EXPECT_FALSE(ParseQuantity(text).has_value()) << text;
  }
}

TEST(FormatNumber, IsShortAndPlain) {
  EXPECT_EQ(FormatNumber(0.0312345), "0.0312");
  EXPECT_EQ(FormatNumber(87.456), "87.46");
  EXPECT_EQ(FormatNumber(1200000), "1200000");
  EXPECT_EQ(FormatNumber(0), "0");
  EXPECT_EQ(FormatNumber(std::numeric_limits<double>::quiet_NaN()), "NaN");
}

TEST(FormatBytes, UsesBinarySuffixes) {
  EXPECT_EQ(FormatBytes(13421772800.0), "12.5Gi");
  EXPECT_EQ(FormatBytes(512), "512");
}

}  // namespace
}  // namespace pgtier
