// What missing numbers do: nothing, and they are named.
#include <gmock/gmock.h>

#include <thread>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

Json Constant(const std::string& query, const std::string& window, const std::string& gap) {
  return {{"any", Json::array({{{"name", "load"},
                                {"above", "0.8"},
                                {"unit", "Ratio"},
                                {"for", window},
                                {"tolerate", {{"gap", gap}}},
                                {"prometheus", {{"query", query}}}}})}};
}

class MetricsTest : public ClusterTest {
 protected:
  void ScalePrometheus(int replicas) {
    Kubectl({"scale", "-n", "monitoring", "deployment/prometheus", "--replicas=" + std::to_string(replicas)});
    if (replicas == 0)
      Kubectl({"wait", "-n", "monitoring", "--for=delete", "pod", "-l", "app=prometheus", "--timeout=60s"});
    if (replicas > 0) Kubectl({"rollout", "status", "-n", "monitoring", "deployment/prometheus", "--timeout=60s"});
  }
  void TearDown() override {
    if (!ns().empty()) ScalePrometheus(1);
    ClusterTest::TearDown();
  }
};

TEST_F(MetricsTest, PrometheusGoneInAWindowHoldsTheTier) {
  Apply(SmallPolicy("app", Constant("vector(0.9)", "25s", "8s")));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  ASSERT_TRUE(Eventually("the window is open", seconds(30), [&] {
    return !Field("app", "/status/tiers/1/observations/0/breachedSince").empty() &&
           Field("app", "/status/tier") == "low";
  }));
  ScalePrometheus(0);
  ASSERT_TRUE(
      WaitForCondition("app", "MetricsAvailable", "False (ReadingsUnknown): load: PrometheusUnreachable", seconds(30)));
  // Longer than the window would have been: an outage is not a reading.
  Deadline held = Deadline::After(seconds(30));
  while (!held.Expired()) {
    ASSERT_EQ(Field("app", "/status/tier"), "low");
    ASSERT_EQ(Field("app", "/status/targetTier"), "");
    std::this_thread::sleep_for(seconds(2));
  }
  EXPECT_THAT(Condition("app", "Ready"), testing::StartsWith("True")) << "missing metrics stop nobody's database";
  EXPECT_EQ(Field("app", "/status/tiers/1/observations/0/breachedSince"), "") << "the gap was longer than tolerated";
  ScalePrometheus(1);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(120)));
  EXPECT_THAT(Condition("app", "MetricsAvailable"), testing::StartsWith("True"));
}

TEST_F(MetricsTest, AnAnswerThatIsNoNumberIsNamed) {
  Json policy = SmallPolicy("app", Constant("vector(NaN)", "1s", "8s"));
  policy["spec"]["mode"] = "Observe";
  Apply(policy);
  ASSERT_TRUE(WaitForCondition("app", "MetricsAvailable", "False (ReadingsUnknown): load: NotANumber", seconds(30)));
  Patch("scaletier/app", Json{{"spec", {{"metrics", {{"prometheus", {{"url", "http://example.com"}}}}}}}});
  ASSERT_TRUE(
      WaitForCondition("app", "MetricsAvailable", "False (ReadingsUnknown): load: HostNotAllowed", seconds(30)));
  EXPECT_EQ(Kubectl({"get", "pods,services", "-n", ns(), "-o", "name"}), "") << "Observe creates nothing";
}

}  // namespace
}  // namespace pgtier::e2e
