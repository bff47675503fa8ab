#include "controllers/scale_tier/policy_cache.h"

#include <utility>

#include "controllers/scale_tier/resources.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/base/log.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {

PolicyCache::PolicyCache(kube::Client* client, const std::string& namespace_, Wake wake, Metrics* metrics)
    : reflector_(
          client, kube::WatchScope{kScaleTierPolicies, namespace_, "", "", false}, Decode,
          [this, wake = std::move(wake)](const kube::ObjectKey& key, const auto& before, const auto& now) {
            bool same = before != nullptr && now != nullptr && before->generation == now->generation &&
                        before->annotations == now->annotations && before->deleting == now->deleting;
            if (!same) wake(key, !reflector_.synced());
          },
          [](const kube::ObjectKey& key, const Error& error) {
            log::Warn("a policy cannot be decoded", {{"policy", key.ToString()}, {"error", error.message}});
          },
          metrics) {}

// The whole of it is decoded here, too, so that what is held can be.
Result<PolicyCache::Held> PolicyCache::Decode(const nlohmann::json& object) {
  PGTIER_ASSIGN_OR_RETURN(crds::ScaleTierPolicy policy, crds::DecodeScaleTierPolicy(object));
  Held held{policy.meta.generation, policy.meta.deleting, std::move(policy.meta.annotations),
            kube::DumpWithoutManagedFields(object)};
  held.text.shrink_to_fit();  // What a text grew by would be kept ten thousand times.
  return held;
}

std::shared_ptr<const crds::ScaleTierPolicy> PolicyCache::Get(const kube::ObjectKey& key) const {
  auto held = reflector_.store().Get(key);
  if (held == nullptr) return nullptr;
  Result<nlohmann::json> object = kube::ParseJson(held->text);
  Result<crds::ScaleTierPolicy> policy =
      object.has_value() ? crds::DecodeScaleTierPolicy(*object) : Result<crds::ScaleTierPolicy>(object.error());
  if (policy.has_value()) return std::make_shared<const crds::ScaleTierPolicy>(*std::move(policy));
  log::Error("a policy that was decoded once cannot be decoded", {{"error", policy.error().message}});
  return nullptr;
}

}  // namespace pgtier::controllers::scale_tier
