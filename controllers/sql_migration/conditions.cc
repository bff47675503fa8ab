#include "controllers/ladder/conditions.h"

#include "controllers/ladder/approval.h"
#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/report.h"

namespace pgtier::controllers::sql_migration {
namespace {

bool DryRunTold(const Outcome& outcome, const crds::SqlMigrationStatus& status) {
  return outcome.migration.spec.dry_run && status.dry_run.hash == outcome.resolved.plan_hash;
}

bool AwaitsApproval(const Outcome& outcome) {
  return !outcome.resolved.approved && !outcome.migration.spec.dry_run && !IsComplete(outcome);
}

// "step fill: VerifyFailed: …" without its first part.
std::string WithoutStep(const std::string& message) {
  size_t colon = message.find(": ");
  return message.starts_with("step ") && colon != std::string::npos ? message.substr(colon + 2) : message;
}

std::string HowToGoOn(const Outcome& outcome) {
  const crds::Meta& meta = outcome.migration.meta;
  return "; mend it, then edit the step, or begin again with: kubectl delete job " + MigrationJob(meta.name) + " -n " +
         meta.namespace_;
}

// What a person must act on; nothing: nobody must.
std::optional<Saying> SayTrouble(const Outcome& outcome) {
  const crds::SqlMigration& migration = outcome.migration;
  if (!migration.problems.empty()) return Saying{kTrue, "InvalidSpec", Join(migration.problems)};
  if (!outcome.plan.refused.empty()) {
    return Saying{kTrue, ReasonIn(outcome.plan.refused, "Refused"), WithoutReason(outcome.plan.refused)};
  }
  if (outcome.needs_person) return Saying{kTrue, ReasonIn(outcome.failure, "ActionRefused"), outcome.failure};
  if (IsComplete(outcome)) return std::nullopt;
  if (outcome.seen.needs_person) return Saying{kTrue, outcome.seen.reason, outcome.seen.error};
  if (!outcome.seen.job.failed || outcome.paused) return std::nullopt;
  if (outcome.seen.entries.has_value()) {
    for (const migrations::StepConfig& step : outcome.resolved.steps) {
      auto entry = outcome.seen.entries->find(step.name);
      if (entry == outcome.seen.entries->end() || entry->second.state != migrations::State::kFailed) continue;
      const std::string& message = entry->second.progress.message;
      return Saying{kTrue, ReasonIn(WithoutStep(message), "StepFailed"), message + HowToGoOn(outcome)};
    }
  }
  const std::string& result = outcome.seen.job.result;
  return Saying{kTrue, ReasonIn(result, "JobFailed"),
                (result.empty() ? "the Job has failed; see the log of its pod" : result) + HowToGoOn(outcome)};
}

Saying SayReady(const Outcome& outcome, const crds::SqlMigrationStatus& status) {
  if (!outcome.migration.problems.empty()) {
    return {kUnknown, "InvalidSpec", "the stored object breaks rules of the schema; see the condition Stalled"};
  }
  if (auto trouble = SayTrouble(outcome)) return {kFalse, trouble->reason, trouble->message};
  std::string count = std::to_string(outcome.resolved.steps.size());
  if (IsComplete(outcome)) return {kTrue, "Complete", "every one of " + count + " steps is done"};
  if (DryRunTold(outcome, status)) {
    return {kTrue, "DryRun",
            "nothing was changed; status.dryRun tells what would be. To run it set spec.dryRun to false"};
  }
  if (!outcome.seen.reason.empty()) return {kFalse, outcome.seen.reason, outcome.seen.error};
  if (outcome.paused) return {kFalse, "Paused", "the annotation pgtier.dev/paused is set; the checkpoint is kept"};
  if (!outcome.failure.empty()) {
    return {kFalse, ReasonIn(outcome.failure, "ActionFailed"), WithoutReason(outcome.failure)};
  }
  // Waiting for a person is no fault: whoever waits for Ready would hang.
  if (AwaitsApproval(outcome)) {
    return {kTrue, "ApprovalRequired", "waits for approval of plan " + outcome.resolved.plan_hash};
  }
  const JobSeen& job = outcome.seen.job;
  if (!job.trouble.empty()) return {kFalse, "PodNotRunning", job.trouble};
  for (const crds::MigrationStepStatus& step : status.steps) {
    if (step.state != "Running") continue;
    if (std::string reason = ReasonIn(step.message, ""); !reason.empty()) {
      return {kFalse, reason, WithoutReason(step.message)};
    }
    return {kFalse, "Running", "runs step " + status.summary.step + (step.message.empty() ? "" : ": " + step.message)};
  }
  return {kFalse, "Starting",
          outcome.migration.spec.dry_run ? "the dry run is being made" : "the Job is being started"};
}

Saying SayApprovalOf(const Outcome& outcome) {
  if (!AwaitsApproval(outcome)) return {kFalse, "NoPlanWaits", ""};
  crds::LadderSpec given;
  given.approved_plan = outcome.migration.spec.approved_plan;
  const crds::Meta& meta = outcome.migration.meta;
  return {kTrue, ApprovalsOf(meta, given).empty() ? "PlanWaits" : "OtherPlanApproved",
          "nothing runs before somebody approves " + HowToApprove("sqlm", meta, given, outcome.resolved.plan_hash)};
}

}  // namespace

std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::SqlMigrationStatus& status) {
  bool complete = IsComplete(outcome);
  std::optional<Saying> trouble = SayTrouble(outcome);
  Saying ready = SayReady(outcome, status);
  bool open = !complete && ready.status != kTrue && !outcome.paused && !trouble.has_value();
  std::vector<std::pair<std::string, Saying>> sayings{
      {"Ready", ready},
      {"Reconciling", SayIf(open, "InProgress", ready.message, "NothingUnderWay")},
      {"Stalled", trouble.value_or(Saying{kFalse, "NothingToDo", ""})},
      {"Complete", SayIf(complete, "Complete", "every step is done", ready.reason.c_str())},
      {"ApprovalRequired", SayApprovalOf(outcome)},
      {"Paused", SayIf(outcome.paused, "Annotated", "the annotation pgtier.dev/paused is set", "NotPaused")}};
  return DateConditions(sayings, outcome.migration.meta, outcome.now, outcome.migration.status.conditions);
}

}  // namespace pgtier::controllers::sql_migration
