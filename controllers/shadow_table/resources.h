// The API's resources that this controller deals with.
#pragma once

#include "crds/shadow_table_policy.h"
#include "lib/kube/resource.h"

namespace pgtier::controllers::shadow_table {

inline constexpr kube::Resource kShadowTablePolicies{crds::kGroup, crds::kVersion, "shadowtablepolicies",
                                                     "ShadowTablePolicy"};

inline constexpr kube::Resource kSqlMigrations{crds::kGroup, crds::kVersion, "sqlmigrations", "SqlMigration"};

// What a policy may own. Each is watched by the label pgtier.dev/shadow-policy, so each needs the verbs list and watch
// in helm/pgtier/templates/_helpers.tpl.
inline constexpr kube::Resource kOwned[] = {kube::kPods, kube::kSecrets, kube::kConfigMaps, kube::kDeployments,
                                            kSqlMigrations};

}  // namespace pgtier::controllers::shadow_table
