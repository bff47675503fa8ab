#include "controllers/scale_tier/observe.h"

#include <algorithm>
#include <charconv>

#include "controllers/scale_tier/credentials.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_external.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "controllers/scale_tier/observe_readings.h"
#include "controllers/scale_tier/report.h"
#include "controllers/scale_tier/resources.h"
#include "lib/base/quantity.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

// How long nodes have to lead a Service to a pod that has become ready; kube-proxy takes up to a second on a quiet one.
constexpr Duration kServiceDelay = std::chrono::seconds(3);
// A pod says "Unschedulable" until its volume has been made.
constexpr Duration kStarting = std::chrono::seconds(30);

// By the kubelet's clock and ours: where they differ by much, one that is newly ready is noticed late or for long.
bool IsNewlyReady(const Json& pod, WallTime now) {
  const Json* ready = ReadyCondition(pod);
  if (ready == nullptr) return false;
  auto since = ParseTime(kube::StringAt(*ready, {"lastTransitionTime"}));
  return since.has_value() && now < *since + std::chrono::duration_cast<WallTime::duration>(kServiceDelay);
}

// Whether a pod, as in a template too, has a certificate mounted.
bool HasCertificate(const Json& pod_spec) {
  const Json& volumes = kube::At(pod_spec, {"volumes"});
  return volumes.is_array() && std::any_of(volumes.begin(), volumes.end(), [](const Json& volume) {
           return kube::StringAt(volume, {"name"}) == kTlsVolume;
         });
}

// The ordinal in "<policy>-<n>", or nothing.
std::optional<int> OrdinalOf(const std::string& policy, const std::string& instance) {
  if (!instance.starts_with(policy + "-")) return std::nullopt;
  const char* begin = instance.c_str() + policy.size() + 1;
  const char* end = instance.c_str() + instance.size();
  int ordinal = 0;
  if (std::from_chars(begin, end, ordinal).ptr != end || ordinal < 1) return std::nullopt;
  return ordinal;
}

// By its StatefulSet, and while that is made anew (planner_upkeep.cc) by its pod.
std::set<std::string> InstanceNames(const Seen& seen) {
  std::set<std::string> names;
  for (const auto& [key, object] : seen.objects) {
    if (key.first == kube::kStatefulSets.plural) names.insert(key.second);
    if (key.first != kube::kPods.plural || object.at("metadata").contains("deletionTimestamp")) continue;
    std::string instance = kube::StringAt(object, {"metadata", "labels", kInstanceLabel});
    if (!instance.empty()) names.insert(instance);
  }
  return names;
}

void FindInstances(const std::string& policy, WallTime now, Seen& seen) {
  for (const std::string& name : InstanceNames(seen)) {
    std::optional<int> ordinal = OrdinalOf(policy, name);
    if (!ordinal.has_value()) continue;
    InstanceSeen instance;
    instance.name = name;
    instance.ordinal = *ordinal;
    const Json* set = seen.Object(kube::kStatefulSets, name);
    if (set != nullptr) {
      instance.encrypted = HasCertificate(kube::At(*set, {"spec", "template", "spec"}));
      instance.stopping = kube::IntAt(*set, {"spec", "replicas"}, 1) == 0;
    }
    if (const Json* pod = seen.Object(kube::kPods, PodName(instance.name))) {
      instance.encrypted = HasCertificate(kube::At(*pod, {"spec"}));
      instance.pod_ready = IsReady(*pod);
      instance.newly_ready = IsNewlyReady(*pod, now);
      instance.pod_ip = kube::StringAt(*pod, {"status", "podIP"});
      instance.trouble = TroubleOf(*pod);
      auto made = ParseTime(kube::StringAt(*pod, {"metadata", "creationTimestamp"}));
      instance.trouble_lasts =
          made.has_value() && now >= *made + std::chrono::duration_cast<WallTime::duration>(kStarting);
      instance.template_is_older =
          set != nullptr && kube::StringAt(*pod, {"metadata", "labels", "controller-revision-hash"}) !=
                                kube::StringAt(*set, {"status", "updateRevision"});
    }
    seen.instances.push_back(std::move(instance));
  }
  std::sort(seen.instances.begin(), seen.instances.end(),
            [](const InstanceSeen& a, const InstanceSeen& b) { return a.ordinal < b.ordinal; });
}

// Who takes writes, by the selector of the Service. Without the Service there is nobody to be told from but the servers
// themselves, unless only one was ever made.
int PrimaryOrdinal(const Seen& seen, const std::string& policy) {
  if (const Json* service = seen.Object(kube::kServices, PrimaryService(policy))) {
    std::string instance = kube::StringAt(*service, {"spec", "selector", kInstanceLabel});
    if (std::optional<int> ordinal = OrdinalOf(policy, instance)) return *ordinal;
  }
  if (seen.instances.size() > 1) return 0;
  return seen.instances.empty() ? 1 : seen.instances.front().ordinal;
}

void FindPoolers(Seen& seen) {
  for (const auto& [key, pod] : seen.objects) {
    if (key.first != kube::kPods.plural) continue;
    std::string endpoint = kube::StringAt(pod, {"metadata", "labels", kEndpointLabel});
    if (endpoint.empty()) continue;
    PoolerPodSeen pooler;
    pooler.pod = key.second;
    pooler.endpoint = endpoint;
    pooler.ip = kube::StringAt(pod, {"status", "podIP"});
    pooler.ready = IsReady(pod);
    pooler.encrypted = HasCertificate(kube::At(pod, {"spec"}));
    seen.poolers.push_back(std::move(pooler));
  }
}

// Whether StorageClasses let volumes grow, asked only where one should.
void AskStorageClasses(kube::Client& client, const std::string& wanted, Seen& seen, Deadline deadline,
                       const std::stop_token& stop) {
  Result<double> bytes = ParseResourceQuantity(wanted);
  if (!bytes.has_value()) return;
  for (const auto& [key, claim] : seen.objects) {
    if (key.first != kube::kPersistentVolumeClaims.plural) continue;
    Result<double> asked = ParseResourceQuantity(kube::StringAt(claim, {"spec", "resources", "requests", "storage"}));
    std::string name = kube::StringAt(claim, {"spec", "storageClassName"});
    if (!asked.has_value() || *asked >= *bytes || name.empty() || seen.storage_classes.contains(name)) continue;
    Result<Json> found = client.Get(kube::kStorageClasses, {"", name}, deadline, stop);
    // Who may not read it is told by the apiserver whether the volume grows.
    if (found.has_value()) seen.storage_classes[name] = kube::At(*found, {"allowVolumeExpansion"}) == true;
  }
}

// Asks what stands in the way of the next tier, where that one shards.
void PreflightNextTier(const crds::ScaleTierPolicy& policy, const Resolved& resolved, const HostCheck& check,
                       Seen& seen, Deadline deadline, const std::stop_token& stop) {
  std::optional<size_t> current = core::FindTier(resolved.ladder, RunningTier(policy.status, resolved, seen));
  if (!current.has_value() || *current + 1 >= resolved.tiers.size()) return;
  const TierSettings& next = resolved.tiers[*current + 1];
  if (!next.citus.has_value()) return;
  constexpr Duration kPatience = std::chrono::seconds(3);
  Deadline soon = deadline.AtMost(kPatience);
  Result<postgres::ConnectOptions> server = MonitorConnection(seen, policy, check, soon);
  seen.preflights.emplace(next.name, server.has_value() ? PreflightCitus(*server, *next.citus, soon, stop)
                                                        : Result<std::vector<Finding>>(server.error()));
}

// What any tier allows its replicas.
Duration LongestLag(const Resolved& resolved) {
  Duration longest{};
  for (const TierSettings& tier : resolved.tiers) longest = std::max(longest, tier.max_lag);
  return longest;
}

}  // namespace

Result<Seen> ObserveObjects(kube::Client& client, kube::ObjectCache* children, const kube::ObjectKey& policy,
                            WallTime now, Deadline deadline, const std::stop_token& stop) {
  Seen seen;
  PGTIER_ASSIGN_OR_RETURN(seen.objects, ReadOwned(client, children, kOwned, kPolicyLabel, policy, deadline, stop));
  seen.credentials = ReadCredentials(seen, policy.name);
  FindInstances(policy.name, now, seen);
  if (!seen.instances.empty() || seen.Object(kube::kServices, PrimaryService(policy.name)) != nullptr) {
    seen.primary_ordinal = PrimaryOrdinal(seen, policy.name);
  }
  return seen;
}

Result<Seen> Observer::Observe(const crds::ScaleTierPolicy& policy, const Resolved& resolved, WallTime now,
                               Deadline deadline, const std::stop_token& stop) {
  const kube::ObjectKey key{policy.meta.namespace_, policy.meta.name};
  PGTIER_ASSIGN_OR_RETURN(Seen seen, ObserveObjects(*client_, children_, key, now, deadline, stop));
  FindPoolers(seen);
  if (policy.spec.managed.has_value()) {
    AskStorageClasses(*client_, policy.spec.managed->storage_size, seen, deadline, stop);
    AskInstances(seen, policy.meta.name, policy.spec.managed->database, deadline, stop);
    ObservePromotion(policy, seen, deadline, stop);
  }
  if (policy.spec.external.has_value() && resolved.WholePolicyRefused().empty()) {
    PGTIER_RETURN_IF_ERROR(AskExternal(*client_, policy, check_, LongestLag(resolved), seen, deadline, stop));
  }
  AskPoolers(seen, deadline, stop);

  ReadTriggers(policy, resolved, *client_, *prometheus_, check_, seen, deadline, stop);
  PreflightNextTier(policy, resolved, check_, seen, deadline, stop);
  return seen;
}

}  // namespace pgtier::controllers::scale_tier
