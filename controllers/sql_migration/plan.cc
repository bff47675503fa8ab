#include "controllers/sql_migration/plan.h"

#include <sstream>

#include "controllers/ladder/rendering.h"
#include "controllers/sql_migration/names.h"

namespace pgtier::controllers::sql_migration {
namespace {

constexpr size_t kMostLines = 256;  // of status.dryRun

std::string FirstEdited(const Resolved& resolved, const Seen& seen) {
  for (const migrations::StepConfig& step : resolved.steps) {
    auto entry = seen.entries->find(step.name);
    if (entry == seen.entries->end()) continue;
    if (std::string why = migrations::WhyEdited(step, entry->second); !why.empty()) return why;
  }
  return "";
}

std::vector<std::string> LinesOf(const std::string& result) {
  std::vector<std::string> lines;
  std::istringstream text(result);
  for (std::string line; std::getline(text, line) && lines.size() < kMostLines;) {
    if (!line.empty()) lines.push_back(line);
  }
  if (lines.empty()) lines.emplace_back("see the log of the Job's pod");
  return lines;
}

void Pause(const JobSeen& job, Plan& plan) {
  if (!job.exists || job.going || job.complete) return;
  // One that has failed makes no more pods; after the pause there is a new one.
  if (job.failed) {
    plan.actions.emplace_back(DeleteJob{job.uid});
  } else if (!job.suspended) {
    plan.actions.emplace_back(SuspendJob{true});
  }
}

}  // namespace

bool IsDone(const Resolved& resolved, const Seen& seen) {
  if (!seen.entries.has_value()) return false;
  for (const migrations::StepConfig& step : resolved.steps) {
    auto entry = seen.entries->find(step.name);
    if (entry == seen.entries->end() || entry->second.state != migrations::State::kDone) return false;
  }
  return FirstEdited(resolved, seen).empty();
}

bool IsToldDry(const crds::SqlMigration& migration, const Resolved& resolved) {
  return migration.spec.dry_run && migration.status.dry_run.hash == resolved.plan_hash;
}

Plan MakePlan(const PlanContext& context, const Seen& seen) {
  Plan plan;
  const crds::SqlMigration& migration = context.migration;
  const JobSeen& job = seen.job;
  if (migration.meta.deleting) return plan;
  if (context.paused) {
    Pause(job, plan);
    return plan;
  }
  // What is not known to be wanted is left as it is.
  if (!migration.problems.empty() || !seen.entries.has_value()) return plan;
  if (context.image.empty()) {
    plan.refused = "NotAvailable: the operator was told no image of pgtier-migrate: --worker-image";
    return plan;
  }
  const ManifestContext rendered{migration, context.resolved, seen.database, context.image};
  const bool ended = job.complete || job.failed;
  const bool of_this_plan = job.hash == HashOfJob(rendered);
  // Told here or in the status already.
  if (migration.spec.dry_run && (IsToldDry(migration, context.resolved) || (of_this_plan && job.complete))) {
    if (of_this_plan && job.complete) plan.told = LinesOf(job.result);
    if (job.exists && !job.going && !of_this_plan && !ended) plan.actions.emplace_back(DeleteJob{job.uid});
    return plan;
  }
  if (!migration.spec.dry_run && IsDone(context.resolved, seen)) return plan;
  plan.refused = FirstEdited(context.resolved, seen);
  bool wanted = plan.refused.empty() && (context.resolved.approved || migration.spec.dry_run);
  if (job.exists) {
    if (job.going) return plan;
    // The Job of another spec, or one that says that it is done where the database knows of nothing.
    if (!of_this_plan || !wanted || job.complete) {
      if (wanted || !ended) plan.actions.emplace_back(DeleteJob{job.uid});
      return plan;
    }
    if (job.failed) return plan;
  }
  if (!wanted) return plan;
  nlohmann::json config = RenderConfig(rendered);
  const nlohmann::json* live = seen.Object(kube::kConfigMaps, MigrationJob(migration.meta.name));
  if (live == nullptr || !Covers(*live, config)) {
    plan.actions.emplace_back(ApplyObject{kube::kConfigMaps, std::move(config)});
  }
  if (!job.exists) {
    plan.actions.emplace_back(ApplyObject{kube::kJobs, RenderJob(rendered)});
  } else if (job.suspended) {
    plan.actions.emplace_back(SuspendJob{false});
  }
  return plan;
}

}  // namespace pgtier::controllers::sql_migration
