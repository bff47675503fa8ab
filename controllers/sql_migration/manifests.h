// The Kubernetes objects of a migration, rendered. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "controllers/database/database.h"
#include "controllers/sql_migration/resolve.h"
#include "crds/sql_migration.h"

namespace pgtier::controllers::sql_migration {

struct ManifestContext {
  const crds::SqlMigration& migration;
  const Resolved& resolved;
  const Database& database;
  const std::string& image;  // of pgtier-migrate
};

// migration.json, and the authority to trust.
nlohmann::json RenderConfig(const ManifestContext& context);
// pgtier-migrate, once. It carries the hash of all that a pod of it does.
nlohmann::json RenderJob(const ManifestContext& context);
// That hash: another one is another Job.
std::string HashOfJob(const ManifestContext& context);

}  // namespace pgtier::controllers::sql_migration
