// Wrong Secrets: said by name, and mended without a restart.
#include <gmock/gmock.h>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

Json ByHand() { return {{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}}; }

class SecretsTest : public ClusterTest {
 protected:
  std::string SecretValue(const std::string& secret, const std::string& key) {
    return KubectlJson({"get", "-n", ns(), "secret/" + secret})["data"].value(key, "");
  }
};

TEST_F(SecretsTest, ATokenSecretWithoutTheLabelIsNotSent) {
  Json policy = SmallPolicy(
      "app",
      Json{{"any", Json::array({{{"name", "load"}, {"above", "5"}, {"prometheus", {{"query", "vector(1)"}}}}})}});
  policy["spec"]["metrics"]["prometheus"]["bearerTokenSecret"] = {{"name", "token"}};
  Apply(policy);
  ASSERT_TRUE(
      WaitForCondition("app", "MetricsAvailable", "False (ReadingsUnknown): load: SecretNotFound", seconds(60)));
  Kubectl({"create", "secret", "generic", "-n", ns(), "token", "--from-literal=token=abc"});
  ASSERT_TRUE(
      WaitForCondition("app", "MetricsAvailable", "False (ReadingsUnknown): load: SecretNotLabelled", seconds(60)));
  Kubectl({"label", "secret", "-n", ns(), "token", "pgtier.dev/use=http"});
  ASSERT_TRUE(WaitForCondition("app", "MetricsAvailable", "True", seconds(60)));
}

TEST_F(SecretsTest, AWrongSuperuserPasswordIsNamedAndMended) {
  Apply(SmallPolicy("app", ByHand()));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  std::string superuser = SecretValue("app-internal", "superuser");
  std::string monitor = SecretValue("app-internal", "monitor");
  std::string wrong = "d3Jvbmc=";
  Patch("secret/app-internal", {{"data", {{"superuser", wrong}, {"monitor", wrong}}}});
  ASSERT_TRUE(WaitForCondition("app", "Ready", "False (SuperuserPasswordRefused)", seconds(60)));
  EXPECT_THAT(Condition("app", "Ready"), testing::HasSubstr("app-internal"));
  EXPECT_THAT(Condition("app", "Stalled"), testing::StartsWith("True"));
  EXPECT_EQ(Query("app", "app-rw", "select 1"), "1") << "the application must not notice";
  Patch("secret/app-internal", {{"data", {{"superuser", superuser}, {"monitor", monitor}}}});
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(60)));
}

TEST_F(SecretsTest, AnotherPasswordOfTheMonitorIsTakenOver) {
  Apply(SmallPolicy("app", ByHand()));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  Patch("secret/app-internal", {{"data", {{"monitor", "YW5vdGhlcg=="}}}});
  // The superuser still may log in, so the role gets the Secret's password, and all is well again.
  ASSERT_TRUE(Eventually("the role has the new password", seconds(60), [&] {
    return Kubectl({"exec", "-n", ns(), "app-1-0", "--", "env", "PGPASSWORD=another", "psql", "-h", "127.0.0.1", "-U",
                    "pgtier_monitor", "app", "-XAtc", "select 1"},
                   "", true) == "1";
  }));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(60)));
}

}  // namespace
}  // namespace pgtier::e2e
