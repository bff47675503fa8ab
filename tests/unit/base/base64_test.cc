#include "lib/base/base64.h"

#include <gtest/gtest.h>

namespace pgtier {
namespace {

TEST(Base64, RoundTripsEveryLengthAndByte) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(*DecodeBase64(EncodeBase64(bytes)), bytes) << i;
    bytes += static_cast<char>(i);
  }
  EXPECT_EQ(EncodeBase64("secret"), "c2VjcmV0");
}

TEST(Base64, SkipsWhiteSpaceAndRefusesTheRest) {
  EXPECT_EQ(*DecodeBase64("c2Vj\n  cmV0\n"), "secret");
  for (const char* text : {"c2V", "c2V*", "====", "c2VjcmV0x"}) EXPECT_FALSE(DecodeBase64(text).has_value()) << text;
}

}  // namespace
}  // namespace pgtier
