#include <nlohmann/json.hpp>

#include "crds/ladder_codec.h"
#include "crds/scale_tier_policy_codec.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

Json EncodeReplica(const ReplicaStatus& replica) {
  Json object{{"name", replica.name}, {"healthy", replica.healthy}, {"routed", replica.routed}};
  Put(object, "lag", replica.lag);
  return object;
}

Json EncodeScaling(const ScalingStatus& scaling) {
  Json object{{"replicas", scaling.replicas}, {"needed", scaling.needed}};
  Put(object, "phase", scaling.phase);
  Put(object, "message", scaling.message);
  Put(object, "changedAt", scaling.changed_at);
  Put(object, "growSince", scaling.grow_since);
  Put(object, "shrinkSince", scaling.shrink_since);
  Put(object, "observedAt", scaling.observed_at);
  return object;
}

Json EncodeSummary(const Summary& summary) {
  Json object = Json::object();
  Put(object, "closest", summary.closest);
  Put(object, "replicas", summary.replicas);
  Put(object, "pooler", summary.pooler);
  Put(object, "lag", summary.lag);
  Put(object, "endpoint", summary.endpoint);
  return object;
}

void PutRotation(Json& object, const char* name, const Rotation& rotation) {
  if (rotation.request.empty()) return;
  Json& value = object["rotations"][name] = {{"request", rotation.request}};
  Put(value, "at", rotation.at);
  Put(value, "formerUntil", rotation.former_until);
}

}  // namespace

Json EncodeStatus(const ScaleTierPolicyStatus& status) {
  Json object = EncodeLadderStatus(status);
  object["summary"] = EncodeSummary(status.summary);
  Put(object, "systemIdentifier", status.system_identifier);
  Put(object, "primary", status.primary);
  if (const PromotionStatus& promotion = status.promotion; !promotion.phase.empty()) {
    Json& encoded = object["promotion"] = Json::object();
    Put(encoded, "request", promotion.request);
    Put(encoded, "phase", promotion.phase);
    Put(encoded, "from", promotion.from);
    Put(encoded, "to", promotion.to);
    Put(encoded, "message", promotion.message);
  }
  Put(object, "image", status.image);
  if (status.closed_clients > 0) object["closedClients"] = status.closed_clients;
  PutRotation(object, "certificates", status.rotations.certificates);
  PutRotation(object, "passwords", status.rotations.passwords);
  PutList(object, "replicas", status.replicas, EncodeReplica);
  if (status.scaling.replicas > 0) object["scaling"] = EncodeScaling(status.scaling);
  return object;
}

}  // namespace pgtier::crds
