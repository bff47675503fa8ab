// ShadowTablePolicy's controller: observe, decide, plan, act, report.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "controllers/ladder/pass_memory.h"
#include "controllers/runtime/reconciler.h"
#include "controllers/shadow_table/act.h"
#include "controllers/shadow_table/observe.h"
#include "controllers/shadow_table/report.h"
#include "core/scaling.h"
#include "crds/shadow_table_policy.h"
#include "lib/kube/event_recorder.h"

namespace pgtier::controllers::shadow_table {

class ShadowTableReconciler final : public Reconciler {
 public:
  // The policy of that key as the cache has it, or nullptr.
  using Lookup = std::function<std::shared_ptr<const crds::ShadowTablePolicy>(const kube::ObjectKey&)>;

  struct Parts {
    kube::Client* client;
    kube::EventRecorder* events;
    observe::Prometheus* prometheus;
    const Clock* clock;
    Metrics* metrics;
    std::string image;  // Of the workers: the operator's own.
    Lookup lookup;
    DatabaseFinder::ScaleTierLookup scale_tiers;
    kube::ObjectCache* children = nullptr;        // What ShadowTablePolicies own,
    kube::ObjectCache* scale_children = nullptr;  // and ScaleTierPolicies; without them it is listed in each pass.
    scale_tier::HostCheck external_hosts = scale_tier::RefuseSpecialHosts({});
  };

  explicit ShadowTableReconciler(Parts parts);

  Result<Requeue> Reconcile(const kube::ObjectKey& key, Deadline deadline, const std::stop_token& stop) override;

 private:
  core::Decision Decide(const crds::ShadowTablePolicy& policy, const Resolved& resolved, const Seen& seen,
                        WallTime now);
  // How many workers the queue asks for.
  int Workers(const crds::ShadowTablePolicy& policy, const Resolved& resolved, const Seen& seen, WallTime now);
  // Plans and acts, unless the policy only observes, is paused, or cannot be acted on.
  void Carry(Outcome& outcome, Deadline deadline, const std::stop_token& stop);
  Status Report(const Outcome& outcome, Deadline deadline, const std::stop_token& stop);
  void Forget(const kube::ObjectKey& key);

  Parts parts_;
  Observer observer_;
  Actor actor_;
  PassMemory memory_;
  std::mutex mutex_;
  std::map<kube::ObjectKey, core::ScalingMemory> scaling_;
};

}  // namespace pgtier::controllers::shadow_table
