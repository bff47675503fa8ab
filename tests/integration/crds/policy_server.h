// A real API server with pgtier's CRDs, and the example policies to put into it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "controllers/scale_tier/scale_tier_reconciler.h"
#include "tests/integration/kube/api_server.h"

namespace pgtier::test {

using controllers::scale_tier::kScaleTierPolicies;
inline constexpr kube::Resource kShadowTablePolicies{crds::kGroup, crds::kVersion, "shadowtablepolicies",
                                                     "ShadowTablePolicy"};

inline constexpr kube::Resource kSqlMigrations{crds::kGroup, crds::kVersion, "sqlmigrations", "SqlMigration"};

class PolicyServerTest : public ApiServerTest {
 protected:
  // Installs the CRDs at the first use in this program.
  void SetUp() override;

  static Deadline Soon() { return Deadline::After(std::chrono::seconds(20)); }
  // manifests/examples/<name>.yaml in this test's namespace.
  [[nodiscard]] nlohmann::json Example(const std::string& name) const;
  // Creates the policy. Empty when the server took it, else its words.
  std::string Refusal(const nlohmann::json& policy);
  [[nodiscard]] nlohmann::json Get(const std::string& name);
  // Creates each row's object, which the server must refuse in the row's words (tests/cases/crd/*.yaml, `creates`).
  void ExpectRefusals(const kube::Resource& resource, const nlohmann::json& rows);
  // Makes each row's object and changes it, which the server must take, or refuse in the row's words (`updates`).
  void ExpectChanges(const kube::Resource& resource, const nlohmann::json& rows);
  // What kubectl printed, its errors too; `failed` tells whether it did.
  std::string Kubectl(const std::vector<std::string>& arguments, bool* failed = nullptr);
};

// Puts values at JSON pointers; a null removes.
void SetAll(nlohmann::json& object, const nlohmann::json& values);

}  // namespace pgtier::test
