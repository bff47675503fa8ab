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

std::string Planner::OtherWriter(const Promotion& promotion, Silent silent) const {
  for (const InstanceSeen& each : seen_.instances) {
    if (each.name == promotion.from || each.name == promotion.to || IsStopped(each.name)) continue;
    if (TakesWrites(each.name)) {
      return each.name + " takes writes: kubectl pgtier promote " + policy() + " " + each.name +
             " --force goes on with it";
    }
    if (silent == Silent::kIsSuspect && Position(each.name) == nullptr) {
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
  begun.message = OtherWriter(begun, Silent::kIsSuspect);
  if (!begun.message.empty()) return begun;
  if (std::string newer = Newer(begun.from, begun.from); !newer.empty() && !begun.force) {
    begun.message = newer + " has received more than " + begun.from + ": promote that one, with --force";
    return begun;
  }
  begun.phase = PromotionPhase::kReturning;
  begun.message = begun.from + " was a standby";
  return begun;
}

bool Planner::HeedRequest(const std::string& annotation) {
  Promotion& promotion = plan_.promotion;
  Result<PromotionRequest> asked = ParsePromotionRequest(annotation);
  if (!asked.has_value() || annotation == promotion.request) return false;
  auto note = [&](const std::string& waits) {
    MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
    Wait(waits);
    return true;
  };
  if (promotion.to == promotion.from) {
    // What the person asks for instead is judged in the next pass, as any request.
    promotion.phase = PromotionPhase::kRefused;
    promotion.message += "; another was asked for";
    return note("the promotion's end to be noted");
  }
  bool goes_back = promotion.phase == PromotionPhase::kReturning;
  if (asked->target == promotion.from) {
    // One that runs as a primary has to be stopped before: its data directory may say already that it is a standby.
    const postgres::WalPosition* from = Position(promotion.from);
    bool takes_none = from != nullptr ? from->in_recovery : IsStopped(promotion.from);
    if (!goes_back && !takes_none) return false;
    promotion.request = annotation;
    // With the loss accepted the heir may have been told to take writes before it had replayed everything, and does so
    // whenever it has: it is stopped first, whatever is asked for now.
    promotion.force = asked->force || promotion.force;
    if (!goes_back) promotion.message = promotion.from + " was asked for again";
    promotion.phase = PromotionPhase::kReturning;
    return note(promotion.from + " to return");
  }
  if (!asked->force) return false;
  if (asked->target != promotion.to) return TakeAnotherHeir(annotation, asked->target);
  promotion.request = annotation;
  promotion.force = true;
  if (goes_back) {
    // Forward again. The old primary may have taken writes since, so where it was fenced means nothing any more.
    promotion.phase = PromotionPhase::kFencing;
    promotion.fence = {};
    promotion.message.clear();
  }
  return note(promotion.from + " to be fenced");
}

// The heir of before may have been told to take writes, and may do so as soon as nobody looks: it is stopped first.
bool Planner::TakeAnotherHeir(const std::string& annotation, const std::string& heir) {
  Promotion& promotion = plan_.promotion;
  bool exists = std::any_of(seen_.instances.begin(), seen_.instances.end(),
                            [&](const InstanceSeen& each) { return each.name == heir; });
  if (!exists) return false;
  // Asked before the former one is stopped, whose position is not known any more then.
  const postgres::WalPosition* own = Position(heir);
  const std::string& known = context_.policy.status.system_identifier;
  std::string hindrance;
  if (own == nullptr) {
    hindrance = heir + " does not answer";
  } else if (!known.empty() && own->system_identifier != known) {
    hindrance = heir + " is of another database";
  } else if (std::string newer = Newer(promotion.from, heir); !newer.empty()) {
    hindrance =
        newer + " has received more than " + heir + ": kubectl pgtier promote " + policy() + " " + newer + " --force";
  }
  if (!hindrance.empty()) {
    Wait(heir + " to be promoted instead of " + promotion.to + ": " + hindrance);
    return true;
  }
  if (!StopHeir(heir + " takes its place")) return true;
  if (promotion.phase == PromotionPhase::kReturning) promotion.fence = {};
  promotion.request = annotation;
  promotion.phase = PromotionPhase::kFencing;
  promotion.message = heir + " was asked for instead of " + promotion.to;
  promotion.to = heir;
  promotion.force = true;
  MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
  Wait(promotion.from + " to be fenced");
  return true;
}

void Planner::StopInstance(int ordinal) {
  Json stopped = RenderInstance(context_, ordinal, plan_.image);
  KeepVolume(stopped);
  KeepBoot(stopped, ordinal);
  stopped["spec"]["replicas"] = 0;
  Apply(kube::kStatefulSets, std::move(stopped));
}

bool Planner::StopHeir(const std::string& before_what) {
  const std::string& heir = plan_.promotion.to;
  if (IsStopped(heir)) return true;
  const Json* set = seen_.Object(kube::kStatefulSets, heir);
  bool wanted = set == nullptr || kube::IntAt(*set, {"spec", "replicas"}, 1) != 0;
  for (const InstanceSeen& each : seen_.instances) {
    if (each.name == heir && wanted) StopInstance(each.ordinal);
  }
  Wait(heir + " to stop, before " + before_what + ". Where its node is off: kubectl delete pod " + PodName(heir) +
       " -n " + context_.policy.meta.namespace_ + " --force");
  return false;
}

// The old primary comes up as a standby, for so it was fenced. It alone is known to hold everything, but its heir may
// have been promoted all the same: by a command that was slow, or by a person.
void Planner::ReturnPrimary() {
  Promotion promotion = plan_.promotion;
  if (BothTakeWrites()) return;
  bool has_heir = promotion.to != promotion.from;
  const postgres::WalPosition* from = Position(promotion.from);
  bool takes_none = from != nullptr ? from->in_recovery : IsStopped(promotion.from);
  if (has_heir && promotion.force) {
    // A person wants the old primary, whatever has become of the heir.
    if (!StopHeir(promotion.from + " returns")) return;
  } else if (has_heir && TakesWrites(promotion.to) && takes_none) {
    promotion.phase = PromotionPhase::kFencing;
    promotion.fence = {};
    promotion.message = "it took writes before " + promotion.from + " had its role back";
    MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
    return Wait(promotion.from + " to stop");
  }
  std::string stop_it = "kubectl scale statefulset " + promotion.to + " -n " + context_.policy.meta.namespace_ +
                        " --replicas=0, and where its node is off kubectl delete pod " + PodName(promotion.to) +
                        " --force. kubectl pgtier promote " + policy() + " " + promotion.from + " --force stops it too";
  if (has_heir && promotion.fence.value == 0 && from == nullptr && !IsStopped(promotion.to)) {
    return Wait(promotion.to + " to be stopped: " + promotion.from +
                " was not fenced, and comes back as a primary at once. " + stop_it);
  }
  AddInstance(seen_.primary_ordinal);
  const InstanceSeen* instance = seen_.PrimaryInstance();
  if (from == nullptr || instance == nullptr) return Wait(promotion.from + " to return");
  if (from->in_recovery) {
    PromoteInstance action;
    action.instance = promotion.from;
    action.ip = instance->pod_ip;
    // Looked at when it began; that may be long ago.
    std::string other = OtherWriter(promotion, has_heir ? Silent::kMayBe : Silent::kIsSuspect);
    if (!other.empty()) return Wait(promotion.from + " to return: " + other);
    if (has_heir && IsStopped(promotion.to)) {
      action.old = promotion.to;
    } else if (has_heir && Position(promotion.to) == nullptr) {
      return Wait(promotion.from + " to return: " + promotion.to +
                  " does not answer, and may have become the primary. " +
                  "Bring it back, or stop it for good: " + stop_it);
    } else if (has_heir) {
      auto heir = std::find_if(seen_.instances.begin(), seen_.instances.end(),
                               [&](const InstanceSeen& each) { return each.name == promotion.to; });
      if (heir != seen_.instances.end()) action.beside = heir->pod_ip;
    }
    plan_.actions.emplace_back(std::move(action));
    return Wait(promotion.from + " to return");
  }
  // One that was stopped and not looked at may have been a primary too, of a timeline with the number of this one's: no
  // rewind would find a difference.
  if (has_heir && IsStopped(promotion.to)) RemoveInstance(promotion.to);
  promotion.phase = has_heir ? PromotionPhase::kReturned : PromotionPhase::kDone;
  promotion.message += "; " + promotion.from + " is the primary again";
  MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
  LetHeldClientsGoOn();
  Wait(promotion.from + " to return");
}

}  // namespace pgtier::controllers::scale_tier
