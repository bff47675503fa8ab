// pgtier-operator as a process of its own, on a real API server without nodes.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {

class OperatorProgramTest : public PolicyServerTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Makes the user "nobody" what the chart's Role makes the operator with watchNamespace, in this test's namespace.
  void GrantRole();
  // Writes a kubeconfig for that user, of the server at `url`, and gives its path.
  std::string KubeconfigOfNobody(const std::string& url);
  // Starts it; its log is `name`.log.
  std::unique_ptr<ChildProcess> Start(const std::string& name, const std::string& kubeconfig,
                                      std::vector<std::string> more = {});
  [[nodiscard]] std::string Log(const std::string& name) const;
  // The example policy `dev` under that name, in a namespace.
  void MakePolicy(const std::string& namespace_name, const std::string& name);
  // Whether the operator has derived a status from what the policy says.
  [[nodiscard]] bool HasStatus(const std::string& namespace_name, const std::string& name) const;
  // "Kind name" → resourceVersion of all that is labelled as a policy's in that namespace.
  [[nodiscard]] std::map<std::string, std::string> Owned(const std::string& namespace_name) const;
  // So many are owned by a policy like `dev`.
  static constexpr size_t kOwnedByOne = 19;
  [[nodiscard]] std::string LeaseHolder() const;
  // Waits up to a minute and a half: the machine may be busy.
  static bool Eventually(const std::function<bool()>& holds);

 private:
  std::filesystem::path folder_;
};

}  // namespace pgtier::test
