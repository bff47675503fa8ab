// Everything that runs for one kind of policy: its caches, its queue, its controller.
#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <thread>

#include "controllers/ladder/policy_cache.h"
#include "controllers/runtime/controller.h"
#include "lib/kube/object_cache.h"
#include "lib/kube/work_queue.h"

namespace pgtier {

template <typename Policy>
class Kind {
 public:
  struct Watches {
    kube::Resource policies;
    typename controllers::PolicyCache<Policy>::Decoder decode;
    std::string namespace_;  // Empty: all.
    const char* label;       // On what a policy owns; its value is the policy's name.
    std::span<const kube::Resource> owned;
  };

  // All outlive this.
  Kind(kube::Client* client, const Clock* clock, Metrics* metrics, const Watches& watches)
      : metrics_(metrics), queue_(clock) {
    policies_ = std::make_unique<controllers::PolicyCache<Policy>>(
        client, watches.policies, watches.decode, watches.namespace_,
        [this](const kube::ObjectKey& key, bool first) {
          queue_.Add(key, first ? kube::WorkQueue::Priority::kLow : kube::WorkQueue::Priority::kHigh);
        },
        metrics);
    kube::ObjectCacheOptions options;
    options.resources.assign(watches.owned.begin(), watches.owned.end());
    options.namespace_ = watches.namespace_;
    options.label = watches.label;
    children_ = std::make_unique<kube::ObjectCache>(
        client, std::move(options),
        [this](const kube::ObjectKey& policy) {
          queue_.Add(policy, synced() ? kube::WorkQueue::Priority::kHigh : kube::WorkQueue::Priority::kLow);
        },
        metrics);
  }

  // `name` in logs and metrics.
  void SetReconciler(std::unique_ptr<controllers::Reconciler> reconciler, const std::string& name, int workers) {
    reconciler_ = std::move(reconciler);
    controllers::ControllerOptions options;
    options.name = name;
    options.workers = workers;
    controller_ = std::make_unique<controllers::Controller>(options, &queue_, reconciler_.get(), metrics_);
  }

  // Begins to watch; ends with this.
  void Watch() {
    watch_ = std::jthread([this](const std::stop_token& stop) { policies_->Run(stop); });
    children_->Start();
  }
  [[nodiscard]] bool synced() const { return policies_->synced() && children_->synced(); }

  void Start() { controller_->Start(); }
  void Stop(Deadline deadline) { controller_->Stop(deadline); }

  [[nodiscard]] std::shared_ptr<const Policy> Get(const kube::ObjectKey& key) const { return policies_->Get(key); }
  kube::ObjectCache* children() { return children_.get(); }

 private:
  Metrics* const metrics_;
  kube::WorkQueue queue_;
  std::unique_ptr<controllers::PolicyCache<Policy>> policies_;
  std::unique_ptr<kube::ObjectCache> children_;
  std::unique_ptr<controllers::Reconciler> reconciler_;
  std::unique_ptr<controllers::Controller> controller_;
  std::jthread watch_;
};

}  // namespace pgtier
