#include "crds/ladder_codec.h"
#include "lib/base/time_format.h"

namespace pgtier::crds {

using Json = nlohmann::json;

void Put(Json& object, const char* name, const std::string& text) {
  if (!text.empty()) object[name] = text;
}

void Put(Json& object, const char* name, const std::optional<WallTime>& time) {
  if (time.has_value()) object[name] = FormatTime(*time);
}

namespace {

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

}  // namespace

Json EncodeCondition(const Condition& condition) {
  Json object{{"type", condition.type},
              {"status", condition.status},
              {"reason", condition.reason},
              {"message", condition.message},
              {"observedGeneration", condition.observed_generation}};
  Put(object, "lastTransitionTime", condition.last_transition);
  return object;
}

Json EncodeLadderStatus(const LadderStatus& status) {
  Json object{{"observedGeneration", status.observed_generation}};
  Put(object, "tier", status.tier);
  Put(object, "tierSince", status.tier_since);
  Put(object, "nextTier", status.next_tier);
  Put(object, "targetTier", status.target_tier);
  PutList(object, "tiers", status.tiers, EncodeTier);
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
