// From a migration as written to what it means: the runner's steps, their hashes, and the plan that an approval names.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "crds/sql_migration.h"
#include "migrations/config.h"

namespace pgtier::controllers::sql_migration {

struct Resolved {
  std::string name;                           // "<namespace>/<name>", as the database records it
  std::vector<migrations::StepConfig> steps;  // as the runner reads them
  std::string plan_hash;                      // of what the steps do, and where; not of a dry run, or how fast
  bool approved = true;                       // or no approval is required
  std::string approved_by;                    // channel and time; empty: nobody has
};

// `now`: when an approval is first seen.
Resolved Resolve(const crds::SqlMigration& migration, WallTime now);

}  // namespace pgtier::controllers::sql_migration
