#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/base/quantity.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

const Json::json_pointer kClaimSize("/spec/volumeClaimTemplates/0/spec/resources/requests/storage");
const Json::json_pointer kClaimLabels("/spec/volumeClaimTemplates/0/metadata/labels");

// Bytes of a quantity, or nothing.
std::optional<double> Bytes(const std::string& quantity) {
  Result<double> bytes = ParseResourceQuantity(quantity);
  return bytes.has_value() ? std::optional(*bytes) : std::nullopt;
}

bool Less(const std::string& a, const std::string& b) {
  std::optional<double> x = Bytes(a);
  std::optional<double> y = Bytes(b);
  return x.has_value() && y.has_value() && *x < *y;
}

}  // namespace

void Planner::AddNetworkPolicies() {
  if (context_.network.enabled) {
    Apply(kube::kNetworkPolicies, RenderPostgresNetworkPolicy(context_));
    Apply(kube::kNetworkPolicies, RenderPoolerNetworkPolicy(context_));
    return;
  }
  RemoveIfThere(kube::kNetworkPolicies, PostgresConfig(policy()));
  RemoveIfThere(kube::kNetworkPolicies, PoolersNetworkPolicy(policy()));
}

// A claim grows where its StorageClass lets it; what the class refuses is not tried. Nothing waits for it: a file
// system grows under a running server, or does not.
void Planner::GrowVolumes() {
  const std::string& wanted = context_.policy.spec.managed->storage_size;
  for (const InstanceSeen& instance : seen_.instances) {
    const std::string name = VolumeClaimName(instance.name);
    const Json* claim = seen_.Object(kube::kPersistentVolumeClaims, name);
    if (claim == nullptr) continue;
    std::string asked = kube::StringAt(*claim, {"spec", "resources", "requests", "storage"});
    std::string has = kube::StringAt(*claim, {"status", "capacity", "storage"});
    if (Less(wanted, asked)) {
      plan_.volumes.cannot = name + " has " + asked +
                             " and a volume never shrinks: set spec.postgres.managed.storage." + "size to " + asked;
    } else if (Less(asked, wanted)) {
      std::string storage_class = kube::StringAt(*claim, {"spec", "storageClassName"});
      auto known = seen_.storage_classes.find(storage_class);
      if (known != seen_.storage_classes.end() && !known->second) {
        plan_.volumes.cannot = name + " stays at " + asked + ": StorageClass " + storage_class +
                               " does not allow volumes to grow (allowVolumeExpansion)";
        continue;
      }
      plan_.actions.emplace_back(GrowVolume{name, wanted});
      plan_.volumes.growing = name + ": from " + asked + " to " + wanted;
    } else if (Less(has, wanted)) {
      plan_.volumes.growing = name + ": " + has + " of " + wanted;
    }
  }
}

// Leaves a set's claim as it is: its size, and the labels of the release that made it.
void Planner::KeepVolume(Json& set) {
  const Json* live = seen_.Object(kube::kStatefulSets, set["metadata"]["name"]);
  if (live == nullptr) return;
  for (const Json::json_pointer& kept : {kClaimSize, kClaimLabels}) {
    if (live->contains(kept)) set[kept] = live->at(kept);
  }
}

// A StatefulSet's claim cannot be changed: the apiserver would refuse all of it for the sake of the size. Once the
// volume has been told to grow, the set is deleted without its pod and made anew around it. False: not to be applied
// now.
bool Planner::FitVolume(Json& set, const std::string& name) {
  const Json* live = seen_.Object(kube::kStatefulSets, name);
  if (live == nullptr) return true;
  if (live->at("metadata").contains("deletionTimestamp")) {
    Wait("the former StatefulSet " + name + " to go");
    return false;
  }
  const Json size = set.at(kClaimSize);
  if (!live->contains(kClaimSize) || Covers(live->at(kClaimSize), size)) {
    KeepVolume(set);
    return true;
  }
  const Json* claim = seen_.Object(kube::kPersistentVolumeClaims, VolumeClaimName(name));
  std::string asked = claim == nullptr ? "" : kube::StringAt(*claim, {"spec", "resources", "requests", "storage"});
  if (Covers(Json(asked), size)) {
    plan_.actions.emplace_back(DeleteObject{kube::kStatefulSets, name, kube::UidOf(*live), "Orphan"});
    Wait("StatefulSet " + name + " to be made anew for its larger volume");
    return false;
  }
  KeepVolume(set);
  return true;
}

// Who is restarted next, in a maintenance window: one at a time, and only while all else is as it should be. Replicas
// before the primary: a standby must allow for as much as its primary (PostgreSQL, 26.4.1), so it is the first to take
// more. Where something is lowered it is the last to take less.
void Planner::ChooseRestart() {
  if (!seen_.maintenance || decision_.from != decision_.to || !seen_.primary.answered) return;
  const InstanceSeen* primary = seen_.PrimaryInstance();
  if (primary == nullptr) return;
  for (const InstanceSeen& instance : seen_.instances) {
    bool replica = instance.ordinal != seen_.primary_ordinal;
    bool well = instance.pod_ready && instance.answered && instance.config_error.empty();
    if (!well || (replica && !instance.streaming)) return;
  }
  if (primary->NeedsRestart() && primary->lowers_limits) {
    restarting_ = primary->name;
    return;
  }
  for (auto it = seen_.instances.rbegin(); it != seen_.instances.rend(); ++it) {
    if (it->ordinal == seen_.primary_ordinal || !it->NeedsRestart()) continue;
    restarting_ = it->name;
    return;
  }
  if (primary->NeedsRestart()) restarting_ = primary->name;
}

void Planner::AddRestart() {
  if (restarting_.empty() || !plan_.waiting_for.empty() || !plan_.refused.empty()) return;
  const Json* pod = seen_.Object(kube::kPods, PodName(restarting_));
  if (pod == nullptr) return;
  auto instance = std::find_if(seen_.instances.begin(), seen_.instances.end(),
                               [&](const InstanceSeen& each) { return each.name == restarting_; });
  // Poolers have been told by now, and new reads go elsewhere; of the primary nobody can be kept away.
  if (instance->ordinal != seen_.primary_ordinal && instance->clients > 0) {
    std::string drain = restarting_ + ": its clients to finish, before it is restarted";
    if (waited_.what != drain || waited_.how_long < tier_.drain_timeout) return Wait(drain);
  }
  plan_.actions.emplace_back(DeleteObject{kube::kPods, PodName(restarting_), kube::UidOf(*pod)});
  Wait(restarting_ + " to restart, for what it runs with is older than its settings");
}

}  // namespace pgtier::controllers::scale_tier
