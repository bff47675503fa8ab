// What to do next, as a list of actions. Pure: from the migration and what was seen.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "controllers/sql_migration/manifests.h"
#include "controllers/sql_migration/resolve.h"
#include "controllers/sql_migration/seen.h"

namespace pgtier::controllers::sql_migration {

// Each action is idempotent: done twice it does no more than once.

// Server-side apply.
struct ApplyObject {
  kube::Resource resource;
  nlohmann::json object;
};
struct DeleteJob {
  std::string uid;  // Only this very one.
};
// A suspended Job has no pod: the runner ends its batch and goes.
struct SuspendJob {
  bool suspended;
};

using Action = std::variant<ApplyObject, DeleteJob, SuspendJob>;

struct Plan {
  std::vector<Action> actions;
  // What a person must decide or mend before this goes on: "StepEdited: …"; empty: nothing.
  std::string refused;
  // What a dry run of this very plan has told, line by line; empty: none has ended yet.
  std::vector<std::string> told;
};

struct PlanContext {
  const crds::SqlMigration& migration;
  const Resolved& resolved;
  const std::string& image;  // Of the runner; empty: the operator was told none.
  bool paused = false;
};

// Deletion needs nothing: what a migration owns goes with it.
Plan MakePlan(const PlanContext& context, const Seen& seen);

// Whether the database has every step done, as it is written now.
bool IsDone(const Resolved& resolved, const Seen& seen);
// Whether the status holds what a dry run of this plan has told.
bool IsToldDry(const crds::SqlMigration& migration, const Resolved& resolved);

}  // namespace pgtier::controllers::sql_migration
