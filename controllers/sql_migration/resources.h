// The API's resources that this controller deals with.
#pragma once

#include "crds/sql_migration.h"
#include "lib/kube/resource.h"

namespace pgtier::controllers::sql_migration {

inline constexpr kube::Resource kSqlMigrations{crds::kGroup, crds::kVersion, "sqlmigrations", "SqlMigration"};

// What a migration may own. Each is watched by the label pgtier.dev/migration, so each needs the verbs list and watch
// in helm/pgtier/templates/_helpers.tpl.
inline constexpr kube::Resource kOwned[] = {kube::kPods, kube::kConfigMaps, kube::kJobs};

}  // namespace pgtier::controllers::sql_migration
