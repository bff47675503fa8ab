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

TEST(HostOf, StripsPortAndBrackets) {
  EXPECT_EQ(*HostOf("http://a.b:9090/x?y"), "a.b");
  EXPECT_EQ(*HostOf("https://[fd00::1]:9090"), "fd00::1");
}

}  // namespace
}  // namespace pgtier::observe
