#include "controllers/sql_migration/sql_migration_reconciler.h"

#include "controllers/ladder/approval.h"
#include "controllers/ladder/objects.h"
#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/resources.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/log.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::sql_migration {
namespace {

constexpr Duration kWhileRunning = std::chrono::seconds(5);
constexpr Duration kWhileInTheWay = std::chrono::seconds(30);

class Acting {
 public:
  Acting(kube::Client& client, const Outcome& outcome, Deadline deadline, const std::stop_token& stop)
      : client_(client), outcome_(outcome), deadline_(deadline), stop_(stop) {}

  Status operator()(const ApplyObject& action) {
    bool known = outcome_.seen.Object(action.resource, kube::KeyOf(action.object).name) != nullptr;
    return ApplyOwned(client_, action.resource, action.object, kMigrationLabel, outcome_.migration.meta.name, known,
                      deadline_, stop_);
  }
  Status operator()(const DeleteJob& action) {
    kube::DeleteOptions options;
    options.uid = action.uid;
    options.propagation = "Background";
    return DeleteOwned(client_, kube::kJobs, Job(), options, deadline_, stop_);
  }
  Status operator()(const SuspendJob& action) {
    log::Info(action.suspended ? "suspending the Job" : "resuming the Job", {{"name", Job().name}});
    auto patched =
        client_.MergePatch(kube::kJobs, Job(), {{"spec", {{"suspend", action.suspended}}}}, deadline_, stop_);
    if (!patched.has_value() && patched.error().code != Code::kNotFound) return patched.error();
    return {};
  }

 private:
  [[nodiscard]] kube::ObjectKey Job() const {
    const crds::Meta& meta = outcome_.migration.meta;
    return {meta.namespace_, MigrationJob(meta.name)};
  }
  kube::Client& client_;
  const Outcome& outcome_;
  Deadline deadline_;
  const std::stop_token& stop_;
};

}  // namespace

SqlMigrationReconciler::SqlMigrationReconciler(Parts parts)
    : parts_(std::move(parts)),
      observer_(parts_.client, parts_.children,
                DatabaseFinder(parts_.client, parts_.scale_children, parts_.scale_tiers, parts_.external_hosts)) {}

Result<Requeue> SqlMigrationReconciler::Reconcile(const kube::ObjectKey& key, Deadline deadline,
                                                  const std::stop_token& stop) {
  std::shared_ptr<const crds::SqlMigration> migration = parts_.lookup(key);
  if (migration == nullptr || migration->meta.deleting) {
    // What it owns goes with it; what has run stays written in the database.
    parts_.metrics->Forget({{"namespace", key.namespace_}, {"migration", key.name}});
    std::lock_guard lock(mutex_);
    written_.erase(key);
    return Requeue{};
  }
  WallTime now = parts_.clock->Now();
  Resolved resolved = Resolve(*migration, now);
  PGTIER_ASSIGN_OR_RETURN(Seen seen, observer_.Observe(*migration, resolved, deadline, stop));
  Outcome outcome{*migration, resolved, seen, {}, {}, false, IsPaused(migration->meta), now};
  outcome.plan = MakePlan({*migration, resolved, parts_.image, outcome.paused}, seen);
  Act(outcome, deadline, stop);
  PGTIER_RETURN_IF_ERROR(Report(outcome, deadline, stop));
  Requeue requeue;
  bool at_rest = IsComplete(outcome) || outcome.paused || !migration->problems.empty();
  if (!seen.reason.empty() || !outcome.plan.refused.empty() || !outcome.failure.empty() || seen.job.failed) {
    if (!IsComplete(outcome)) requeue.after = kWhileInTheWay;
  } else if (!at_rest && (resolved.approved || migration->spec.dry_run)) {
    // Also a dry run that has been told: its database may change, and nothing is written while it does not.
    requeue.after = IsToldDry(*migration, resolved) ? Duration::zero() : kWhileRunning;
    requeue.under_way = true;
  }
  return requeue;
}

void SqlMigrationReconciler::Act(Outcome& outcome, Deadline deadline, const std::stop_token& stop) {
  Acting acting(*parts_.client, outcome, deadline, stop);
  for (const Action& action : outcome.plan.actions) {
    if (stop.stop_requested()) return;
    Status done = std::visit(acting, action);
    if (done.has_value()) continue;
    outcome.failure = done.error().message;
    outcome.needs_person = NeedsPerson(done.error().code);
    log::Warn("action failed", {{"error", done.error().message}, {"code", CodeName(done.error().code)}});
    return;
  }
}

Status SqlMigrationReconciler::Report(const Outcome& outcome, Deadline deadline, const std::stop_token& stop) {
  const crds::SqlMigration& migration = outcome.migration;
  crds::SqlMigrationStatus status = MakeStatus(outcome);
  ExportMetrics(migration, status, *parts_.metrics);
  const kube::ObjectKey key{migration.meta.namespace_, migration.meta.name};
  std::optional<WallTime> last;
  {
    std::lock_guard lock(mutex_);
    if (auto found = written_.find(key); found != written_.end()) last = found->second;
  }
  if (!MustWrite(migration.status, status, last, outcome.now)) return {};
  PGTIER_RETURN_IF_ERROR(Publish(kSqlMigrations, migration.meta, crds::EncodeStatus(status),
                                 MakeNotes(migration.status, status), *parts_.client, *parts_.events, deadline, stop));
  std::lock_guard lock(mutex_);
  written_[key] = outcome.now;
  return {};
}

}  // namespace pgtier::controllers::sql_migration
