#include "tests/integration/operator/operator_program.h"

#include <fstream>
#include <sstream>
#include <thread>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/resources.h"
#include "lib/kube/json.h"

namespace pgtier::test {
namespace {

namespace fs = std::filesystem;

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The rules as the chart has them: plain YAML between two lines of its template.
std::string RulesOfTheChart() {
  std::string helpers = ReadAll(fs::path(PGTIER_SOURCE_DIR) / "helm/pgtier/templates/_helpers.tpl");
  const std::string begin = "{{- define \"pgtier.rules\" -}}\n";
  size_t from = helpers.find(begin);
  if (from == std::string::npos) throw std::runtime_error("the chart's rules are not where they were");
  from += begin.size();
  return helpers.substr(from, helpers.find("{{- end }}", from) - from);
}

}  // namespace

void OperatorProgramTest::SetUp() {
  PolicyServerTest::SetUp();
  if (IsSkipped() || HasFatalFailure()) return;
  std::string pattern = (fs::temp_directory_path() / "pgtier-operator-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  folder_ = pattern;
}

void OperatorProgramTest::TearDown() {
  if (folder_.empty()) return;
  if (HasFailure()) {
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (entry.path().extension() == ".log")
        std::printf("%s:\n%s\n", entry.path().c_str(), ReadAll(entry.path()).c_str());
    }
  }
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void OperatorProgramTest::GrantRole() {
  std::string name = "\nmetadata: {name: pgtier, namespace: " + namespace_name() + "}\n";
  std::ofstream(folder_ / "role.yaml")
      << "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role" << name << "rules:\n"
      << RulesOfTheChart()
      // The chart's Role for the lease.
      << "- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}\n"
      << "- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [pgtier], verbs: [get, update]}\n"
      << "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding" << name
      << "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: pgtier}\n"
      << "subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: nobody}]\n";
  server().Kubectl({"apply", "-f", (folder_ / "role.yaml").string()});
}

std::string OperatorProgramTest::KubeconfigOfNobody(const std::string& url) {
  fs::path path = folder_ / "kubeconfig";
  std::ofstream(path) << "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
                         "contexts: [{name: test, context: {cluster: test, user: nobody}}]\n"
                         "clusters: [{name: test, cluster: {server: '"
                      << url << "', certificate-authority: '" << server().ca().string()
                      << "'}}]\nusers: [{name: nobody, user: {token: nobody-token}}]\n";
  return path.string();
}

std::unique_ptr<ChildProcess> OperatorProgramTest::Start(const std::string& name, const std::string& kubeconfig,
                                                         std::vector<std::string> more) {
  std::vector<std::string> command = {PGTIER_OPERATOR_PROGRAM,
                                      "--kubeconfig=" + kubeconfig,
                                      "--listen-address=127.0.0.1",
                                      "--port=0",
                                      "--lease-name=pgtier",
                                      "--lease-namespace=" + namespace_name(),
                                      "--postgres-image=postgres:test",
                                      "--pgbouncer-image=pgbouncer:test"};
  command.insert(command.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  return std::make_unique<ChildProcess>(command, folder_ / (name + ".log"));
}

std::string OperatorProgramTest::Log(const std::string& name) const { return ReadAll(folder_ / (name + ".log")); }

void OperatorProgramTest::MakePolicy(const std::string& namespace_name, const std::string& name) {
  nlohmann::json policy = Example("dev");
  policy["metadata"]["namespace"] = namespace_name;
  policy["metadata"]["name"] = name;
  auto made = client()->Create(kScaleTierPolicies, policy, Soon());
  ASSERT_TRUE(made.has_value()) << made.error().message;
}

bool OperatorProgramTest::HasStatus(const std::string& namespace_name, const std::string& name) const {
  auto policy = client()->Get(kScaleTierPolicies, {namespace_name, name}, Soon());
  return policy.has_value() &&
         kube::IntAt(*policy, {"status", "observedGeneration"}) == kube::IntAt(*policy, {"metadata", "generation"});
}

std::map<std::string, std::string> OperatorProgramTest::Owned(const std::string& namespace_name) const {
  std::map<std::string, std::string> owned;
  for (const kube::Resource& resource : controllers::scale_tier::kOwned) {
    kube::ListOptions options;
    options.label_selector = controllers::scale_tier::kPolicyLabel;
    auto list = client()->List(resource, namespace_name, options, Soon());
    if (!list.has_value()) continue;
    for (const nlohmann::json& item : (*list)["items"]) {
      owned[std::string(resource.kind) + " " + kube::KeyOf(item).name] =
          kube::StringAt(item, {"metadata", "resourceVersion"});
    }
  }
  return owned;
}

std::string OperatorProgramTest::LeaseHolder() const {
  auto lease = client()->Get(kube::kLeases, {namespace_name(), "pgtier"}, Soon());
  return lease.has_value() ? kube::StringAt(*lease, {"spec", "holderIdentity"}) : "";
}

bool OperatorProgramTest::Eventually(const std::function<bool()>& holds) {
  for (Deadline deadline = Deadline::After(std::chrono::seconds(90)); !deadline.Expired();) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

}  // namespace pgtier::test
