#include "lib/observe/allowed_hosts.h"

#include <gtest/gtest.h>

namespace pgtier::observe {
namespace {

TEST(AllowedHosts, TakesPatterns) {
  AllowedHosts allowed({"*.monitoring", "prometheus.example.com"});
  EXPECT_TRUE(allowed.Check("http://prometheus.monitoring:9090").has_value());
  EXPECT_TRUE(allowed.Check("https://PROMETHEUS.example.com/prefix").has_value());
}

TEST(AllowedHosts, RefusesTheRest) {
  AllowedHosts allowed({"*.monitoring", "prometheus.example.com"});
  for (const char* url :
       {"http://evil.com", "http://prometheus.example.com.evil.com", "http://169.254.169.254/latest",
        "http://evil.com/?x=.monitoring", "http://evil.com#.monitoring", "http://prometheus.monitoring@evil.com",
        "ftp://prometheus.monitoring", "prometheus.monitoring", "http://", "http://[::1", ""}) {
    EXPECT_FALSE(allowed.Check(url).has_value()) << url;
  }
  EXPECT_FALSE(AllowedHosts({}).Check("http://prometheus.monitoring").has_value());
}

Deadline Soon() { return Deadline::After(std::chrono::seconds(20)); }

std::string ReasonOf(const AllowedHosts& allowed, const std::string& url) {
  Result<std::string> address = allowed.Resolve(url, Soon());
  return address.has_value() ? *address : address.error().message.substr(0, address.error().message.find(':'));
}

TEST(AllowedHosts, RefusesAddressesAfterTheNameWasResolved) {
  AllowedHosts allowed({"*"}, {"10.96.0.1"});
  EXPECT_EQ(ReasonOf(allowed, "http://localhost:9090"), "AddressRefused");
  EXPECT_EQ(ReasonOf(allowed, "http://127.0.0.1"), "AddressRefused");
  EXPECT_EQ(ReasonOf(allowed, "http://169.254.169.254/latest"), "AddressRefused");
  EXPECT_EQ(ReasonOf(allowed, "https://10.96.0.1:443"), "AddressRefused") << "the API server's";
  EXPECT_EQ(ReasonOf(allowed, "http://10.96.0.2"), "10.96.0.2");
  EXPECT_EQ(ReasonOf(allowed, "http://no-such-host.invalid"), "HostNotFound");
  EXPECT_EQ(ReasonOf(allowed, "gopher://x"), "BadUrl");
  EXPECT_EQ(ReasonOf(AllowedHosts({"*.monitoring"}), "http://x"), "HostNotAllowed");
}

TEST(AllowedHosts, AnAddressThatIsListedLiterallyIsMeant) {
  EXPECT_EQ(ReasonOf(AllowedHosts({"127.0.0.1"}), "http://127.0.0.1:9090"), "127.0.0.1");
  EXPECT_EQ(ReasonOf(AllowedHosts({"127.*"}), "http://127.0.0.1:9090"), "AddressRefused");
  EXPECT_EQ(ReasonOf(AllowedHosts({"localhost"}), "http://localhost"), "AddressRefused") << "a name is no address";
}

TEST(RefusedAddresses, AreLoopbackLinkLocalUnspecifiedAndMulticast) {
  for (const char* refused : {"127.0.0.1", "127.255.255.255", "0.0.0.0", "169.254.0.1", "224.0.0.1", "255.255.255.255",
                              "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "ff02::1", "::ffff:127.0.0.1",
                              "::ffff:169.254.169.254", "fd00:ec2::254", "no address", ""}) {
    EXPECT_TRUE(IsRefusedAddress(refused)) << refused;
  }
  for (const char* taken : {"10.0.0.1", "192.168.1.1", "128.0.0.1", "169.253.0.1", "fd00::1", "2001:db8::1", "fec0::1",
                            "::ffff:10.0.0.1"}) {
    EXPECT_FALSE(IsRefusedAddress(taken)) << taken;
  }
}

TEST(HostOf, StripsPortAndBrackets) {
  EXPECT_EQ(*HostOf("http://a.b:9090/x?y"), "a.b");
  EXPECT_EQ(*HostOf("https://[fd00::1]:9090"), "fd00::1");
}

}  // namespace
}  // namespace pgtier::observe
