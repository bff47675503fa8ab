// The last stage of a pass: what happened, as status, events and metrics. Pure but for the metrics.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "controllers/ladder/notes.h"
#include "controllers/sql_migration/plan.h"
#include "controllers/sql_migration/seen.h"
#include "crds/sql_migration.h"
#include "lib/base/metrics.h"

namespace pgtier::controllers::sql_migration {

// All that a pass came to.
struct Outcome {
  const crds::SqlMigration& migration;
  const Resolved& resolved;
  const Seen& seen;
  Plan plan;
  std::string failure;        // What the first failing action said; empty: none failed.
  bool needs_person = false;  // The failure does not go away by itself.
  bool paused = false;
  WallTime now;
};

// The status after this pass, from the one before.
crds::SqlMigrationStatus MakeStatus(const Outcome& outcome);
std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::SqlMigrationStatus& status);

// Whether every step is done, by the database or, while it can't be asked, by the status before.
bool IsComplete(const Outcome& outcome);

// Whether `after` must be written now: progress that moves all the time waits for ten seconds since `last_write`.
bool MustWrite(const crds::SqlMigrationStatus& before, const crds::SqlMigrationStatus& after,
               std::optional<WallTime> last_write, WallTime now);

std::vector<Note> MakeNotes(const crds::SqlMigrationStatus& before, const crds::SqlMigrationStatus& after);

// The migration's series in /metrics.
Labels MetricLabels(const crds::Meta& migration);
void ExportMetrics(const crds::SqlMigration& migration, const crds::SqlMigrationStatus& status, Metrics& metrics);

}  // namespace pgtier::controllers::sql_migration
