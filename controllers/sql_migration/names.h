// Names, labels and annotations of everything that a SqlMigration owns.
#pragma once

#include <string>

#include "controllers/ladder/names.h"

namespace pgtier::controllers::sql_migration {

inline constexpr char kMigrationLabel[] = "pgtier.dev/migration";

// Job and ConfigMap.
inline std::string MigrationJob(const std::string& migration) { return migration + "-migration"; }

// In the Job's pods.
inline constexpr char kContainer[] = "migrate";
inline constexpr char kConfigFolder[] = "/etc/pgtier/migration";
inline constexpr char kConfigKey[] = "migration.json";
inline constexpr char kAuthorityKey[] = "ca.crt";
inline constexpr char kCredentialsFolder[] = "/etc/pgtier/credentials";
inline constexpr char kResultFile[] = "/dev/termination-log";  // What Kubernetes keeps of a container that has ended.

}  // namespace pgtier::controllers::sql_migration
