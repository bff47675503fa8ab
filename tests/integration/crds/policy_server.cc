#include "tests/integration/crds/policy_server.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "tests/support/yaml.h"

namespace pgtier::test {

void PolicyServerTest::SetUp() {
  ApiServerTest::SetUp();
  if (IsSkipped()) return;
  static bool installed = false;
  if (installed) return;
  server().Kubectl({"apply", "--server-side", "-f", std::string(PGTIER_SOURCE_DIR) + "/crds"});
  // `kubectl wait` fails where the object has no conditions at all yet.
  for (int tries = 0;; ++tries) {
    try {
      server().Kubectl({"wait", "--for=condition=Established", "crd/scaletierpolicies.pgtier.dev",
                        "crd/shadowtablepolicies.pgtier.dev", "crd/sqlmigrations.pgtier.dev", "--timeout=30s"});
      break;
    } catch (const std::exception&) {
      if (tries == 20) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
  // Established a moment before it is served everywhere.
  const Deadline deadline = Soon();
  for (const kube::Resource& resource : {kScaleTierPolicies, kShadowTablePolicies, kSqlMigrations}) {
    while (!client()->List(resource, namespace_name(), {}, Soon()).has_value() && !deadline.Expired()) {
      SleepFor(std::chrono::milliseconds(50), {});
    }
  }
  installed = true;
}

nlohmann::json PolicyServerTest::Example(const std::string& name) const {
  nlohmann::json policy = tests::LoadYaml("manifests/examples/" + name + ".yaml");
  policy["metadata"]["namespace"] = namespace_name();
  return policy;
}

std::string PolicyServerTest::Refusal(const nlohmann::json& policy) {
  kube::Resource resource = kScaleTierPolicies;
  for (const kube::Resource& other : {kShadowTablePolicies, kSqlMigrations}) {
    if (policy["kind"] == other.kind) resource = other;
  }
  auto made = client()->Create(resource, policy, Soon());
  return made.has_value() ? "" : made.error().message;
}

nlohmann::json PolicyServerTest::Get(const std::string& name) {
  auto policy = client()->Get(kScaleTierPolicies, {namespace_name(), name}, Soon());
  EXPECT_TRUE(policy.has_value()) << policy.error().message;
  return policy.has_value() ? *policy : nlohmann::json();
}

void PolicyServerTest::ExpectRefusals(const kube::Resource& resource, const nlohmann::json& rows) {
  for (const nlohmann::json& row : rows) {
    SCOPED_TRACE(row["set"].dump());
    nlohmann::json policy = Example(row["of"]);
    SetAll(policy, row["set"]);
    std::string words = Refusal(policy);
    EXPECT_THAT(words, testing::HasSubstr(row["says"].get<std::string>()));
    if (words.empty()) Kubectl({"delete", std::string(resource.plural), "--all", "-n", namespace_name()});
  }
}

void PolicyServerTest::ExpectChanges(const kube::Resource& resource, const nlohmann::json& rows) {
  int number = 0;
  for (const nlohmann::json& row : rows) {
    SCOPED_TRACE(row.dump());
    nlohmann::json policy = Example(row["of"]);
    policy["metadata"]["name"] = "policy-" + std::to_string(++number);
    if (row.contains("first")) SetAll(policy, row["first"]);
    ASSERT_EQ(Refusal(policy), "");
    kube::ObjectKey key{namespace_name(), policy["metadata"]["name"]};
    if (row.contains("status")) {
      nlohmann::json status{{"metadata", {{"namespace", key.namespace_}, {"name", key.name}}},
                            {"status", row["status"]}};
      ASSERT_TRUE(client()->ApplyStatus(resource, status, Soon()).has_value());
    }
    auto changed = client()->Get(resource, key, Soon());
    ASSERT_TRUE(changed.has_value()) << changed.error().message;
    SetAll(*changed, row["set"]);
    auto replaced = client()->Replace(resource, *changed, Soon());
    if (!row.contains("says")) {
      EXPECT_TRUE(replaced.has_value()) << replaced.error().message;
      continue;
    }
    ASSERT_FALSE(replaced.has_value());
    EXPECT_EQ(replaced.error().code, Code::kInvalidArgument);
    EXPECT_THAT(replaced.error().message, testing::HasSubstr(row["says"].get<std::string>()));
  }
}

std::string PolicyServerTest::Kubectl(const std::vector<std::string>& arguments, bool* failed) {
  auto log = std::filesystem::path(server().kubeconfig()).parent_path() / "kubectl.log";
  std::filesystem::remove(log);
  bool threw = false;
  try {
    server().Kubectl(arguments);
  } catch (const std::runtime_error&) {
    threw = true;
  }
  if (failed != nullptr) *failed = threw;
  std::stringstream text;
  text << std::ifstream(log).rdbuf();
  return text.str();
}

void SetAll(nlohmann::json& object, const nlohmann::json& values) {
  for (const auto& [text, value] : values.items()) {
    nlohmann::json::json_pointer pointer(text);
    if (!value.is_null()) {
      object[pointer] = value;
      continue;
    }
    nlohmann::json& parent = object[pointer.parent_pointer()];
    if (parent.is_array()) {
      parent.erase(std::stoul(pointer.back()));
    } else {
      parent.erase(pointer.back());
    }
  }
}

}  // namespace pgtier::test
