#include "lib/base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace pgtier {
namespace {

using testing::HasSubstr;
using testing::Not;

Labels Policy(const std::string& name, Labels more = {}) {
  more.merge(Labels{{"namespace", "db"}, {"policy", name}});
  return more;
}

TEST(MetricsTest, GaugesInTheTextFormat) {
  Metrics metrics;
  metrics.Set("up", "Whether it is.", {}, 1);
  metrics.Set("tier", "The tier.", Policy("a", {{"tier", "one"}}), 0.25);
  metrics.Set("lag", "Of replicas.", Policy("a", {{"replica", "a-2"}}), std::numeric_limits<double>::infinity());
  metrics.Set("tier", "The tier.", Policy("b", {{"tier", "one"}}), 1e-9);
  metrics.Set("tier", "The tier.", Policy("a", {{"tier", "one"}}), 3);
  EXPECT_EQ(metrics.Serialize(),
            "# HELP up Whether it is.\n# TYPE up gauge\nup 1\n"
            "# HELP tier The tier.\n# TYPE tier gauge\n"
            "tier{namespace=\"db\",policy=\"a\",tier=\"one\"} 3\n"
            "tier{namespace=\"db\",policy=\"b\",tier=\"one\"} 1e-09\n"
            "# HELP lag Of replicas.\n# TYPE lag gauge\n"
            "lag{namespace=\"db\",policy=\"a\",replica=\"a-2\"} +Inf\n");
}

TEST(MetricsTest, CountersAndHistogramsStandBesideThem) {
  Metrics metrics;
  metrics.Increment("calls_total", "Calls.", {{"code", "200"}}, 2);
  metrics.Observe("call_seconds", "Times.", {}, 0.3);
  metrics.Set("up", "Whether it is.", {}, 1);
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("calls_total{code=\"200\"} 2"));
  EXPECT_THAT(text, HasSubstr("call_seconds_bucket{le=\"0.5\"} 1"));
  EXPECT_THAT(text, HasSubstr("\nup 1\n"));
}

TEST(MetricsTest, ValuesOfLabelsAreEscaped) {
  Metrics metrics;
  metrics.Set("m", "h", {{"l", "a\"b\\c\nd"}}, 1);
  EXPECT_THAT(metrics.Serialize(), HasSubstr("m{l=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

TEST(MetricsTest, ForgetTakesTheObjectOrOneOfItsSeries) {
  Metrics metrics;
  for (const char* policy : {"a", "b"}) {
    metrics.Set("ready", "h", Policy(policy), 1);
    metrics.Set("lag", "h", Policy(policy, {{"replica", "r-2"}}), 1);
    metrics.Set("lag", "h", Policy(policy, {{"replica", "r-3"}}), 1);
  }
  metrics.Forget(Policy("a", {{"replica", "r-2"}}));
  std::string text = metrics.Serialize();
  EXPECT_THAT(text, Not(HasSubstr("policy=\"a\",replica=\"r-2\"")));
  EXPECT_THAT(text, HasSubstr("policy=\"a\",replica=\"r-3\""));
  EXPECT_THAT(text, HasSubstr("ready{namespace=\"db\",policy=\"a\"}"));
  metrics.Forget(Policy("a"));
  text = metrics.Serialize();
  EXPECT_THAT(text, Not(HasSubstr("policy=\"a\"")));
  EXPECT_THAT(text, HasSubstr("lag{namespace=\"db\",policy=\"b\",replica=\"r-2\"} 1"));
  metrics.Forget({{"replica", "r-2"}});
  EXPECT_THAT(metrics.Serialize(), Not(HasSubstr("r-2")));
  metrics.Forget(Policy("nowhere"));
  metrics.Forget({{"namespace", "db"}});
  EXPECT_EQ(metrics.Serialize(), "");
}

}  // namespace
}  // namespace pgtier
