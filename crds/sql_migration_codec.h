// SqlMigration from and to JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "crds/sql_migration.h"
#include "lib/base/result.h"

namespace pgtier::crds {

// Decodes a stored object. Fails only where there is no name; whatever else cannot be read is noted in `problems`.
Result<SqlMigration> DecodeSqlMigration(const nlohmann::json& object);

// A step as the spec has it: what the runner's file holds, and what its hash is of.
nlohmann::json EncodeMigrationStep(const MigrationStep& step);

// The `status` object, as the status subresource takes it: no nulls, no empty lists.
nlohmann::json EncodeStatus(const SqlMigrationStatus& status);

}  // namespace pgtier::crds
