// A primary's way back into its role: from a promotion that could not be proved, or as a person asks it who found it a
// standby. Two must never take writes, so the heir is looked at first.
#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {

using Json = nlohmann::json;

bool Planner::TakesWrites(const std::string& instance) const {
  const postgres::WalPosition* position = Position(instance);
  return position != nullptr && !position->in_recovery;
}

bool Planner::BothTakeWrites() {
  const Promotion& promotion = plan_.promotion;
  bool both = promotion.from != promotion.to && TakesWrites(promotion.from) && TakesWrites(promotion.to);
  if (!both || promotion.force) return false;
  Refuse("TwoPrimaries: " + promotion.from + ", which Service " + PrimaryService(policy()) + " selects, and " +
         promotion.to + " both take writes. kubectl delete pod " + PodName(promotion.to) + " -n " +
         context_.policy.meta.namespace_ + " makes " + promotion.to +
         " a replica again and throws away what it alone " + "has; kubectl pgtier promote " + policy() + " " +
         promotion.to + " --force throws away what " + promotion.from + " alone has");
  Wait("a person to say which of two primaries goes on");
  return true;
}

// By its StatefulSet, or without one; a pod of it that is there may run.
bool Planner::IsStopped(const std::string& instance) const {
  if (seen_.Object(kube::kPods, PodName(instance)) != nullptr) return false;
  return seen_.Object(kube::kStatefulSets, instance) == nullptr || IsGone(instance);
}

std::string Planner::OtherWriter(const std::string& from) const {
  for (const InstanceSeen& each : seen_.instances) {
    if (each.name == from || IsStopped(each.name)) continue;
    if (TakesWrites(each.name)) {
      return each.name + " takes writes: kubectl pgtier promote " + policy() + " " + each.name +
             " --force goes on with it";
    }
    if (Position(each.name) == nullptr) {
      return each.name + " does not answer and may take writes; bring it back, or stop it for good: " +
             "kubectl scale statefulset " + each.name + " --replicas=0";
    }
  }
  return "";
}

Promotion Planner::BeginReturn(Promotion begun) const {
  begun.phase = PromotionPhase::kRefused;
  const postgres::WalPosition* own = Position(begun.from);
  if (own == nullptr) {
    begun.message = begun.from + " does not answer";
    return begun;
  }
  const std::string& known = context_.policy.status.system_identifier;
  if (!known.empty() && own->system_identifier != known) {
    begun.message = begun.from + " is of another database";
    return begun;
  }
  begun.message = OtherWriter(begun.from);
  if (!begun.message.empty()) return begun;
  if (std::string newer = Newer(begun.from, begun.from); !newer.empty() && !begun.force) {
    begun.message = newer + " has received more than " + begun.from + ": promote that one, with --force";
    return begun;
  }
  begun.phase = PromotionPhase::kReturning;
  begun.message = begun.from + " was a standby";
  return begun;
}

// The old primary comes up as a standby, for so it was fenced. It alone is known to hold everything, but its heir may
// have been promoted all the same: by a command that was slow, or by a person.
void Planner::ReturnPrimary() {
  Promotion promotion = plan_.promotion;
  if (BothTakeWrites()) return;
  bool has_heir = promotion.to != promotion.from;
  const postgres::WalPosition* from = Position(promotion.from);
  bool takes_none = from != nullptr ? from->in_recovery : IsStopped(promotion.from);
  if (has_heir && TakesWrites(promotion.to) && takes_none) {
    promotion.phase = PromotionPhase::kFencing;
    promotion.fence = {};
    promotion.message = "it took writes before " + promotion.from + " had its role back";
    MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
    return Wait(promotion.from + " to stop");
  }
  AddInstance(seen_.primary_ordinal);
  const InstanceSeen* instance = seen_.PrimaryInstance();
  if (from == nullptr || instance == nullptr) return Wait(promotion.from + " to return");
  if (from->in_recovery) {
    PromoteInstance action;
    action.instance = promotion.from;
    action.ip = instance->pod_ip;
    // Looked at when it began; that may be long ago.
    std::string other = has_heir ? "" : OtherWriter(promotion.from);
    if (!other.empty()) return Wait(promotion.from + " to return: " + other);
    if (has_heir && IsStopped(promotion.to)) {
      action.old = promotion.to;
    } else if (has_heir && Position(promotion.to) == nullptr) {
      return Wait(promotion.from + " to return: " + promotion.to +
                  " does not answer, and may have become the primary. " +
                  "Bring it back, or stop it for good: kubectl scale statefulset " + promotion.to + " -n " +
                  context_.policy.meta.namespace_ + " --replicas=0, and where its node is off kubectl delete pod " +
                  PodName(promotion.to) + " --force");
    } else if (has_heir) {
      auto heir = std::find_if(seen_.instances.begin(), seen_.instances.end(),
                               [&](const InstanceSeen& each) { return each.name == promotion.to; });
      if (heir != seen_.instances.end()) action.beside = heir->pod_ip;
    }
    plan_.actions.emplace_back(std::move(action));
    return Wait(promotion.from + " to return");
  }
  promotion.phase = has_heir ? PromotionPhase::kReturned : PromotionPhase::kDone;
  promotion.message += "; " + promotion.from + " is the primary again";
  MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
  LetHeldClientsGoOn();
  Wait(promotion.from + " to return");
}

}  // namespace pgtier::controllers::scale_tier
