#include "lib/postgres/lsn.h"

#include <gtest/gtest.h>

namespace pgtier::postgres {
namespace {

TEST(Lsn, ReadsAndPrintsAsTheServerDoes) {
  for (const char* text : {"0/0", "0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF"}) {
    auto lsn = Lsn::Parse(text);
    ASSERT_TRUE(lsn.has_value()) << text;
    EXPECT_EQ(lsn->ToString(), text);
  }
  EXPECT_EQ(Lsn::Parse("1/0")->value, uint64_t{1} << 32U);
}

TEST(Lsn, RefusesAnythingElse) {
  for (const char* text : {"", "/", "1", "1/", "/1", "1/123456789", "123456789/1", "g/0", "1/2/3", " 1/2", "-1/0"}) {
    auto lsn = Lsn::Parse(text);
    ASSERT_FALSE(lsn.has_value()) << text;
    EXPECT_EQ(lsn.error().code, Code::kInvalidArgument);
  }
}

TEST(Lsn, ComparesAcrossTheHalves) {
  Lsn low = *Lsn::Parse("0/FFFFFFFF");
  Lsn high = *Lsn::Parse("1/0");
  EXPECT_LT(low, high);
  EXPECT_EQ(BytesBehind(low, high), 1U);
  EXPECT_EQ(BytesBehind(high, low), 0U);
  EXPECT_EQ(BytesBehind(low, low), 0U);
}

}  // namespace
}  // namespace pgtier::postgres
