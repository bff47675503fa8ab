#include "lib/postgres/address.h"

#include <gmock/gmock.h>

namespace pgtier::postgres {
namespace {

Deadline Soon() { return Deadline::After(std::chrono::seconds(20)); }

TEST(Address, WhatLeadsBackToTheMachineOrItsCloudIsSpecial) {
  for (const char* special :
       {"127.0.0.1", "127.9.9.9", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
        "fe80::1%eth0", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"}) {
    EXPECT_TRUE(*IsSpecialAddress(special)) << special;
  }
  for (const char* plain : {"10.0.0.1", "192.168.1.1", "172.16.0.1", "8.8.8.8", "fd00::1", "2001:db8::1",
                            "::ffff:10.0.0.1", "169.253.0.1"}) {
    EXPECT_FALSE(*IsSpecialAddress(plain)) << plain;
  }
  EXPECT_EQ(IsSpecialAddress("db.example").error().code, Code::kInvalidArgument);
}

TEST(Address, AddressesResolveToThemselves) {
  EXPECT_THAT(*ResolveHost("10.1.2.3", Soon()), testing::ElementsAre("10.1.2.3"));
  EXPECT_THAT(*ResolveHost("fd00::1", Soon()), testing::ElementsAre("fd00::1"));
  // Other ways to write one that is refused.
  EXPECT_THAT(*ResolveHost("2130706433", Soon()), testing::ElementsAre("127.0.0.1"));
  EXPECT_THAT(*ResolveHost("0x7f.1", Soon()), testing::ElementsAre("127.0.0.1"));
}

TEST(Address, WhatIsNeitherNameNorAddressIsRefused) {
  for (const char* bad : {"", "/run/postgresql", "a,b", "a b", "@socket", "a\nb", "h' password=x"}) {
    EXPECT_EQ(ResolveHost(bad, Soon()).error().code, Code::kInvalidArgument) << bad;
  }
}

TEST(Address, NoTimeIsNoAnswer) {
  auto late = ResolveHost("no-such-host.invalid", Deadline::After(std::chrono::nanoseconds(0)));
  ASSERT_FALSE(late.has_value());
}

}  // namespace
}  // namespace pgtier::postgres
