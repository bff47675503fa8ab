#include "controllers/sql_migration/resolve.h"

#include "controllers/ladder/approval.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::sql_migration {
namespace {

std::string KindOf(const crds::MigrationStep& step) {
  if (step.create_index.has_value()) return "createIndex";
  if (step.backfill.has_value()) return "backfill";
  if (step.verify.has_value()) return "verify";
  return step.partition_history.has_value() ? "partitionHistory" : "sql";
}

}  // namespace

Resolved Resolve(const crds::SqlMigration& migration, WallTime now) {
  const crds::SqlMigrationSpec& spec = migration.spec;
  Resolved resolved;
  resolved.name = migration.meta.namespace_ + "/" + migration.meta.name;
  // A line for each part, so that no two plans run together.
  std::string text =
      "pgtier migration plan 1\n" + resolved.name + "\n" + spec.database_name + "\n" + spec.connection_secret + "\n";
  for (const crds::MigrationStep& step : spec.steps) {
    resolved.steps.push_back({step.name, KindOf(step), crds::EncodeMigrationStep(step)});
    text += step.name + " " + migrations::HashOfStep(resolved.steps.back().definition) + "\n";
  }
  resolved.plan_hash = HashOfPlan(text);
  if (!spec.require_approval) return resolved;
  // Latched: the annotation may go, the approval of this plan stays.
  if (migration.status.plan_hash == resolved.plan_hash) resolved.approved_by = migration.status.approved_by;
  crds::LadderSpec given;
  given.approved_plan = spec.approved_plan;
  for (const Approval& approval : ApprovalsOf(migration.meta, given)) {
    if (!resolved.approved_by.empty() || approval.hash != resolved.plan_hash) continue;
    resolved.approved_by = approval.channel + " at " + FormatTime(now);
  }
  resolved.approved = !resolved.approved_by.empty();
  return resolved;
}

}  // namespace pgtier::controllers::sql_migration
