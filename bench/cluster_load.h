// What fills the cluster, and the eye that follows the policies in it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "lib/kube/client.h"
#include "lib/kube/reflector.h"

namespace pgtier::bench {

using Seconds = std::chrono::duration<double>;

inline constexpr kube::Resource kPolicies{"pgtier.dev", "v1alpha1", "scaletierpolicies", "ScaleTierPolicy"};
inline constexpr char kNamespace[] = "bench";

// All throw std::runtime_error when the API server refuses.

void CreateNamespace(kube::Client& client, const std::string& name);
// `count` Secrets and as many ConfigMaps of 50 kB, in a namespace of their own: nothing of pgtier's.
void CreateUnrelated(kube::Client& client, int count);
// `count` policies that only observe, each with one trigger that asks nobody: a demand.
void CreatePolicies(kube::Client& client, int count, const std::string& interval);
std::string PolicyName(int number);

// What one policy was last seen to be.
struct PolicySeen {
  long long generation = 0;
  long long observed = 0;  // status.observedGeneration
  std::string version;     // metadata.resourceVersion
};

// Follows the policies by a watch of its own, as kubectl would.
class PolicyWatch {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit PolicyWatch(kube::Client* client);
  ~PolicyWatch();
  PolicyWatch(const PolicyWatch&) = delete;
  PolicyWatch& operator=(const PolicyWatch&) = delete;

  // Waits until `count` policies have a status for the generation that they are at, or `patience` ends. Gives how many
  // have.
  size_t WaitForStatuses(size_t count, Duration patience);
  // When the watch brought the status for that generation of the policy; nothing when the deadline comes first.
  std::optional<Time> WaitForStatus(const std::string& name, long long generation, Deadline deadline);
  // The resource version of each policy now.
  [[nodiscard]] std::map<std::string, std::string> Versions() const;

 private:
  void OnChange(const kube::ObjectKey& key, const kube::Store<PolicySeen>::Ptr& now);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::map<long long, Time>> derived_;  // When each generation's status came.
  std::map<std::string, bool> up_to_date_;
  size_t count_up_to_date_ = 0;
  kube::Reflector<PolicySeen> reflector_;
  std::jthread thread_;
};

}  // namespace pgtier::bench
