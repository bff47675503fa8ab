#include <algorithm>
#include <cmath>

#include "controllers/sql_migration/report.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::sql_migration {
namespace {

constexpr Duration kQuiet = std::chrono::seconds(10);
constexpr size_t kShown = 512;  // of a message in a status of up to 64 steps

const char* UnitOf(const migrations::StepConfig& step) {
  return step.kind == "backfill" ? " rows" : "";
}

std::string ProgressOf(const migrations::StepConfig& step, const migrations::Entry& entry) {
  const migrations::Progress& progress = entry.progress;
  if (progress.total == 0 && progress.finished == 0) return "";
  std::string text = std::to_string(progress.finished);
  if (progress.total > 0) text += "/" + std::to_string(progress.total);
  return text + UnitOf(step);
}

// In steps that people think in: 7s, 4m, 2h10m.
std::string EtaOf(const migrations::Entry& entry) {
  const migrations::Progress& progress = entry.progress;
  if (entry.rate <= 0 || progress.total <= progress.finished) return "";
  double seconds = static_cast<double>(progress.total - progress.finished) / entry.rate;
  constexpr double kMost = 365.0 * 24 * 3600;
  auto left = static_cast<int64_t>(std::ceil(std::min(seconds, kMost)));
  if (left > 3600) left = left / 600 * 600;
  if (left > 60) left = left / 60 * 60;
  return FormatDuration(std::chrono::seconds(left));
}

crds::MigrationStepStatus StatusOf(const migrations::StepConfig& step, const migrations::Entry& entry, bool paused) {
  crds::MigrationStepStatus status;
  status.name = step.name;
  status.started_at = entry.started;
  status.finished_at = entry.finished;
  status.progress = ProgressOf(step, entry);
  status.message = entry.progress.message.substr(0, kShown);
  switch (entry.state) {
    case migrations::State::kPending:
      break;
    case migrations::State::kDone:
      status.state = "Done";
      break;
    case migrations::State::kFailed:
      status.state = "Failed";
      break;
    case migrations::State::kRunning:
      status.state = paused ? "Paused" : "Running";
      if (!paused) status.eta = EtaOf(entry);
      if (paused) status.message.clear();
      break;
  }
  return status;
}

void FillSummary(crds::SqlMigrationStatus& status) {
  const std::string count = "/" + std::to_string(status.steps.size());
  status.summary = {std::to_string(status.steps.size()) + count, "", ""};
  for (size_t i = 0; i < status.steps.size(); ++i) {
    const crds::MigrationStepStatus& step = status.steps[i];
    if (step.state == "Done") continue;
    status.summary = {std::to_string(i + 1) + count + " " + step.name, step.progress, step.eta};
    return;
  }
}

// Without what moves all the time.
nlohmann::json Still(crds::SqlMigrationStatus status) {
  status.summary.progress.clear();
  status.summary.eta.clear();
  for (crds::MigrationStepStatus& step : status.steps) {
    step.progress.clear();
    step.eta.clear();
  }
  return crds::EncodeStatus(status);
}

}  // namespace

bool IsComplete(const Outcome& outcome) {
  if (outcome.migration.spec.dry_run) return false;
  if (outcome.seen.entries.has_value()) return IsDone(outcome.resolved, outcome.seen);
  const crds::SqlMigrationStatus& before = outcome.migration.status;
  const crds::Condition* complete = crds::FindCondition(before.conditions, "Complete");
  return complete != nullptr && complete->status == "True" && before.plan_hash == outcome.resolved.plan_hash;
}

crds::SqlMigrationStatus MakeStatus(const Outcome& outcome) {
  const Resolved& resolved = outcome.resolved;
  crds::SqlMigrationStatus status = outcome.migration.status;
  status.observed_generation = outcome.migration.meta.generation;
  status.plan_hash = resolved.plan_hash;
  status.approved_by = resolved.approved_by;
  if (outcome.seen.entries.has_value()) {
    status.steps.clear();
    for (const migrations::StepConfig& step : resolved.steps) {
      auto entry = outcome.seen.entries->find(step.name);
      status.steps.push_back(
          StatusOf(step, entry == outcome.seen.entries->end() ? migrations::Entry{} : entry->second, outcome.paused));
    }
  }
  FillSummary(status);
  if (!outcome.plan.told.empty()) status.dry_run = {resolved.plan_hash, outcome.plan.told};
  if (!outcome.migration.spec.dry_run) status.dry_run = {};
  status.conditions = MakeConditions(outcome, status);
  return status;
}

bool MustWrite(const crds::SqlMigrationStatus& before, const crds::SqlMigrationStatus& after,
               std::optional<WallTime> last_write, WallTime now) {
  if (Still(before) != Still(after)) return true;
  if (crds::EncodeStatus(before) == crds::EncodeStatus(after)) return false;
  return !last_write.has_value() || now - *last_write >= kQuiet;
}

std::vector<Note> MakeNotes(const crds::SqlMigrationStatus& before, const crds::SqlMigrationStatus& after) {
  std::vector<Note> notes;
  for (const crds::MigrationStepStatus& step : after.steps) {
    std::string was;
    for (const crds::MigrationStepStatus& each : before.steps) {
      if (each.name == step.name) was = each.state;
    }
    if (was == step.state) continue;
    if (step.state == "Done") notes.push_back({false, "StepDone", "step " + step.name + " is done"});
    if (step.state == "Failed") notes.push_back({true, "StepFailed", step.message});
  }
  if (!after.approved_by.empty() && before.approved_by != after.approved_by) {
    notes.push_back({false, "PlanApproved", "plan " + after.plan_hash + " approved by " + after.approved_by});
  }
  auto became = [&](const char* type, bool warning, const char* reason) {
    const crds::Condition* was = crds::FindCondition(before.conditions, type);
    const crds::Condition* is = crds::FindCondition(after.conditions, type);
    if (is == nullptr || is->status != "True" || (was != nullptr && was->status == "True")) return;
    notes.push_back({warning, reason, is->message});
  };
  became("Complete", false, "Complete");
  became("Stalled", true, "Stalled");
  became("ApprovalRequired", false, "ApprovalRequired");
  became("Paused", false, "Paused");
  if (!after.dry_run.lines.empty() && !(before.dry_run == after.dry_run)) {
    notes.push_back({false, "DryRunTold", "nothing was changed; status.dryRun tells what would be"});
  }
  return notes;
}

Labels MetricLabels(const crds::Meta& migration) {
  return {{"namespace", migration.namespace_}, {"migration", migration.name}};
}

void ExportMetrics(const crds::SqlMigration& migration, const crds::SqlMigrationStatus& status, Metrics& metrics) {
  Labels labels = MetricLabels(migration.meta);
  auto done = std::count_if(status.steps.begin(), status.steps.end(),
                            [](const crds::MigrationStepStatus& step) { return step.state == "Done"; });
  metrics.Set("pgtier_migration_steps", "Steps that a SqlMigration has.", labels,
              static_cast<double>(migration.spec.steps.size()));
  metrics.Set("pgtier_migration_steps_done", "Of these, the ones that are done.", labels, static_cast<double>(done));
  const crds::Condition* stalled = crds::FindCondition(status.conditions, "Stalled");
  metrics.Set("pgtier_migration_stalled", "1 while a person must act.", labels,
              stalled != nullptr && stalled->status == "True" ? 1 : 0);
}

}  // namespace pgtier::controllers::sql_migration
