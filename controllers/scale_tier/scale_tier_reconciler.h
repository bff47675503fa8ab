// ScaleTierPolicy's controller: observe, decide, plan, act, report.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "controllers/ladder/pass_memory.h"
#include "controllers/runtime/reconciler.h"
#include "controllers/scale_tier/act.h"
#include "controllers/scale_tier/observe.h"
#include "controllers/scale_tier/report.h"
#include "controllers/scale_tier/resources.h"
#include "crds/scale_tier_policy.h"
#include "lib/kube/client.h"
#include "lib/kube/event_recorder.h"

namespace pgtier::controllers::scale_tier {

class ScaleTierReconciler final : public Reconciler {
 public:
  // The policy of that key as the cache has it, or nullptr.
  using Lookup = std::function<std::shared_ptr<const crds::ScaleTierPolicy>(const kube::ObjectKey&)>;

  struct Parts {
    kube::Client* client;
    kube::EventRecorder* events;
    observe::Prometheus* prometheus;
    const Clock* clock;
    Metrics* metrics;
    Images images;
    Lookup lookup;
    kube::ObjectCache* children = nullptr;  // What policies own; without it everything is listed in each pass.
    // Which hosts an external Postgres may have.
    HostCheck external_hosts = RefuseSpecialHosts({});
    NetworkGuard network = {};
  };

  explicit ScaleTierReconciler(Parts parts);

  Result<Requeue> Reconcile(const kube::ObjectKey& key, Deadline deadline, const std::stop_token& stop) override;

 private:
  core::Decision Decide(const crds::ScaleTierPolicy& policy, const Resolved& resolved, const Seen& seen, WallTime now);
  Scaling Scale(const Outcome& outcome);
  // Plans and acts, unless the policy only observes, is paused, or cannot be acted on.
  void Carry(Outcome& outcome, Deadline deadline, const std::stop_token& stop);
  Status Report(const Outcome& outcome, Deadline deadline, const std::stop_token& stop);
  void Forget(const kube::ObjectKey& key);

  Parts parts_;
  Observer observer_;
  Actor actor_;
  PassMemory memory_;
  std::mutex mutex_;
  std::map<kube::ObjectKey, std::optional<core::ScalingMemory>> scaling_;  // Finer than what status holds.
};

}  // namespace pgtier::controllers::scale_tier
