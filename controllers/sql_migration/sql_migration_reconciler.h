// SqlMigration's controller: observe, plan, act, report. What the steps do is migrations/, in a Job.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "controllers/runtime/reconciler.h"
#include "controllers/sql_migration/observe.h"
#include "controllers/sql_migration/report.h"
#include "crds/sql_migration.h"
#include "lib/kube/event_recorder.h"

namespace pgtier::controllers::sql_migration {

class SqlMigrationReconciler final : public Reconciler {
 public:
  // The migration of that key as the cache has it, or nullptr.
  using Lookup = std::function<std::shared_ptr<const crds::SqlMigration>(const kube::ObjectKey&)>;

  struct Parts {
    kube::Client* client;
    kube::EventRecorder* events;
    const Clock* clock;
    Metrics* metrics;
    std::string image;  // Of pgtier-migrate: the operator's own.
    Lookup lookup;
    DatabaseFinder::ScaleTierLookup scale_tiers;
    kube::ObjectCache* children = nullptr;        // What SqlMigrations own,
    kube::ObjectCache* scale_children = nullptr;  // and ScaleTierPolicies; without them it is listed in each pass.
    scale_tier::HostCheck external_hosts = scale_tier::RefuseSpecialHosts({});
  };

  explicit SqlMigrationReconciler(Parts parts);

  Result<Requeue> Reconcile(const kube::ObjectKey& key, Deadline deadline, const std::stop_token& stop) override;

 private:
  void Act(Outcome& outcome, Deadline deadline, const std::stop_token& stop);
  Status Report(const Outcome& outcome, Deadline deadline, const std::stop_token& stop);

  Parts parts_;
  Observer observer_;
  std::mutex mutex_;
  std::map<kube::ObjectKey, WallTime> written_;  // when the status was, last
};

}  // namespace pgtier::controllers::sql_migration
