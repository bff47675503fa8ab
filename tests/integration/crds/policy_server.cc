#include "tests/integration/crds/policy_server.h"

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
                        "crd/shadowtablepolicies.pgtier.dev", "--timeout=30s"});
      break;
    } catch (const std::exception&) {
      if (tries == 20) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }
  // Established a moment before it is served everywhere.
  const Deadline deadline = Soon();
  for (const kube::Resource& resource : {kScaleTierPolicies, kShadowTablePolicies}) {
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
  bool shadow = policy["kind"] == kShadowTablePolicies.kind;
  auto made = client()->Create(shadow ? kShadowTablePolicies : kScaleTierPolicies, policy, Soon());
  return made.has_value() ? "" : made.error().message;
}

nlohmann::json PolicyServerTest::Get(const std::string& name) {
  auto policy = client()->Get(kScaleTierPolicies, {namespace_name(), name}, Soon());
  EXPECT_TRUE(policy.has_value()) << policy.error().message;
  return policy.has_value() ? *policy : nlohmann::json();
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
