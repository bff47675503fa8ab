// One leader among several processes by a Lease, as client-go does it.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/kube/client.h"
#include "lib/kube/resource.h"

namespace pgtier::kube {

struct LeaderElectionOptions {
  ObjectKey lease;
  std::string identity;  // of this process: unique, as "<pod>_<uuid>"
  Duration lease_duration = std::chrono::seconds(15);
  Duration renew_deadline = std::chrono::seconds(10);
  Duration retry_period = std::chrono::seconds(2);
  double jitter = 1.2;  // retries come after retry_period · (1 … 1 + jitter)
  // Called on Run's thread; must not block for long, or the lease is not renewed.
  std::function<void()> on_started;
  std::function<void()> on_stopped;
};

class LeaderElector {
 public:
  // Both outlive this.
  LeaderElector(Client* client, const Clock* clock, LeaderElectionOptions options);

  // Waits to become leader, then keeps the lease until `stop`, then gives it back so that another need not wait 15 s.
  // So: request `stop` after the workers are drained. Without error: stopped. kAborted: leadership was lost; whoever
  // leads now may already write, so stop all work at once and exit.
  [[nodiscard]] Status Run(const std::stop_token& stop);

  [[nodiscard]] bool IsLeader() const { return leading_; }
  // Holder as last seen; empty: none.
  [[nodiscard]] std::string Holder() const;

  // One look at the lease and, where it is ours to take or renew, one write. True: we hold it now.
  // Errors: the client's; kAborted: another was faster.
  [[nodiscard]] Result<bool> TryAcquireOrRenew(Deadline deadline, const std::stop_token& stop);

 private:
  [[nodiscard]] Status Renew(const std::stop_token& stop);
  void Observe(const nlohmann::json& lease);
  void Release();
  Status TryRelease(Deadline deadline);
  nlohmann::json LeaseObject(const nlohmann::json& current, bool taking) const;

  Client* const client_;
  const Clock* const clock_;
  const LeaderElectionOptions options_;
  std::atomic<bool> leading_ = false;
  // What was last seen and when that last changed by our own monotonic clock: other machines' clocks are not trusted.
  mutable std::mutex mutex_;
  nlohmann::json observed_spec_;
  MonoTime observed_at_{};
};

}  // namespace pgtier::kube
