#include <nlohmann/json.hpp>

#include "crds/scale_tier_policy_codec.h"
#include "lib/base/time_format.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

void Put(Json& object, const char* name, const std::string& text) {
  if (!text.empty()) object[name] = text;
}

void Put(Json& object, const char* name, const std::optional<WallTime>& time) {
  if (time.has_value()) object[name] = FormatTime(*time);
}

template <typename T>
void PutList(Json& object, const char* name, const std::vector<T>& items, Json (*encode)(const T&)) {
  if (items.empty()) return;
  Json& list = object[name] = Json::array();
  for (const T& item : items) list.push_back(encode(item));
}

const char* StateName(core::TriggerState state) {
  switch (state) {
    case core::TriggerState::kCalm:
      return "Calm";
    case core::TriggerState::kBreached:
      return "Breached";
    case core::TriggerState::kUnknown:
      break;
  }
  return "Unknown";
}

Json EncodeObservation(const Observation& seen) {
  Json object{{"name", seen.name}, {"state", StateName(seen.memory.state)}};
  Put(object, "observed", seen.observed);
  Put(object, "threshold", seen.threshold);
  Put(object, "for", seen.window);
  Put(object, "source", seen.source);
  Put(object, "observedAt", seen.memory.observed_at);
  Put(object, "breachedSince", seen.memory.breached_since);
  Put(object, "calmSince", seen.memory.calm_since);
  Put(object, "leave", seen.leave);
  Put(object, "leaveSince", seen.memory.leave_since);
  if (seen.memory.state == core::TriggerState::kUnknown) Put(object, "reason", seen.memory.unknown_reason);
  return object;
}

Json EncodeTier(const TierStatus& tier) {
  Json object{{"name", tier.name}};
  Put(object, "enteredAt", tier.entered_at);
  Put(object, "reason", tier.reason);
  Put(object, "message", tier.message);
  if (tier.trigger.has_value()) object["trigger"] = EncodeObservation(*tier.trigger);
  PutList(object, "observations", tier.observations, EncodeObservation);
  return object;
}

Json EncodeReplica(const ReplicaStatus& replica) {
  Json object{{"name", replica.name}, {"healthy", replica.healthy}, {"routed", replica.routed}};
  Put(object, "lag", replica.lag);
  return object;
}

Json EncodeStep(const PlanStep& step) { return {{"name", step.name}, {"reversible", step.reversible}}; }

Json EncodeChange(const SettingChange& change) {
  Json object{{"field", change.field}};
  Put(object, "from", change.from);
  Put(object, "to", change.to);
  return object;
}

Json EncodePlan(const PlanStatus& plan) {
  Json object{{"hash", plan.hash}};
  Put(object, "from", plan.from);
  Put(object, "to", plan.to);
  Put(object, "approvedBy", plan.approved_by);
  PutList(object, "steps", plan.steps, EncodeStep);
  PutList(object, "changes", plan.changes, EncodeChange);
  return object;
}

Json EncodeTransition(const Transition& transition) {
  Json object{{"to", transition.to}};
  Put(object, "from", transition.from);
  Put(object, "at", transition.at);
  Put(object, "reason", transition.reason);
  return object;
}

Json EncodeCondition(const Condition& condition) {
  Json object{{"type", condition.type},
              {"status", condition.status},
              {"reason", condition.reason},
              {"message", condition.message},
              {"observedGeneration", condition.observed_generation}};
  Put(object, "lastTransitionTime", condition.last_transition);
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

void Put(Json& object, const char* name, const Rotation& rotation) {
  if (rotation.request.empty()) return;
  Json& value = object["rotations"][name] = {{"request", rotation.request}};
  Put(value, "at", rotation.at);
}

}  // namespace

Json EncodeStatus(const ScaleTierPolicyStatus& status) {
  Json object{{"observedGeneration", status.observed_generation}, {"summary", EncodeSummary(status.summary)}};
  Put(object, "tier", status.tier);
  Put(object, "tierSince", status.tier_since);
  Put(object, "nextTier", status.next_tier);
  Put(object, "targetTier", status.target_tier);
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
  Put(object, "certificates", status.rotations.certificates);
  PutList(object, "tiers", status.tiers, EncodeTier);
  PutList(object, "replicas", status.replicas, EncodeReplica);
  if (status.scaling.replicas > 0) object["scaling"] = EncodeScaling(status.scaling);
  if (!status.plan.hash.empty()) object["plan"] = EncodePlan(status.plan);
  PutList(object, "history", status.history, EncodeTransition);
  PutList(object, "conditions", status.conditions, EncodeCondition);
  return object;
}

const Condition* FindCondition(const std::vector<Condition>& conditions, const std::string& type) {
  for (const Condition& condition : conditions) {
    if (condition.type == type) return &condition;
  }
  return nullptr;
}

}  // namespace pgtier::crds
