#include "cli/writes.h"

#include <algorithm>

#include "cli/plan_report.h"
#include "controllers/ladder/names.h"
#include "controllers/scale_tier/names.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::cli {
namespace {

using controllers::kApproveAnnotation;
using controllers::kPausedAnnotation;
using Json = nlohmann::json;

constexpr int kTries = 5;

std::vector<std::string> TakingDemands(const Policy& policy) {
  std::vector<std::string> names;
  for (const crds::TierRule* tier : policy.tiers()) {
    for (const crds::TriggerSpec& trigger : tier->triggers) {
      if (trigger.source == crds::Source::kDemand) names.push_back(trigger.rule.name);
    }
  }
  return names;
}

kube::ObjectKey KeyOf(const Policy& policy) { return kube::KeyOf(policy.object); }

Result<Policy> ReadAgain(kube::Client& client, const Policy& policy, Deadline deadline) {
  bool scale = std::holds_alternative<crds::ScaleTierPolicy>(policy.decoded);
  return ReadPolicy(client, scale ? Kind::kScaleTier : Kind::kShadowTable, KeyOf(policy), deadline);
}

// The patch from the list as it was read; a missing list tests as null (RFC 6902's test of the API server's library).
Json DemandPatch(const Json& object, const std::string& trigger, bool off) {
  const Json& demands = kube::At(object, {"spec", "demands"});
  Json after = demands.is_array() ? demands : Json::array();
  if (off) {
    after.erase(std::remove(after.begin(), after.end(), Json(trigger)), after.end());
  } else {
    after.push_back(trigger);
  }
  return Json::array({{{"op", "test"}, {"path", "/spec/demands"}, {"value", demands}},
                      {{"op", "add"}, {"path", "/spec/demands"}, {"value", after}}});
}

}  // namespace

std::string GitOwner(const Json& object) {
  const Json& metadata = kube::At(object, {"metadata"});
  const Json& annotations = kube::At(metadata, {"annotations"});
  const Json& labels = kube::At(metadata, {"labels"});
  auto has = [](const Json& map, const char* name) { return map.is_object() && map.contains(name); };
  if (has(annotations, "argocd.argoproj.io/tracking-id") || has(labels, "argocd.argoproj.io/instance"))
    return "Argo CD";
  if (has(labels, "kustomize.toolkit.fluxcd.io/name") || has(labels, "helm.toolkit.fluxcd.io/name")) return "Flux";
  if (has(annotations, "meta.helm.sh/release-name")) return "Helm";
  return "";
}

Result<Done> Pause(kube::Client& client, const Policy& policy, bool pause, Deadline deadline) {
  auto found = policy.meta().annotations.find(kPausedAnnotation);
  bool paused = found != policy.meta().annotations.end() && found->second != "false";
  Done done;
  done.action = pause ? "pause" : "resume";
  done.changed = paused != pause;
  bool shadow = std::holds_alternative<crds::ShadowTablePolicy>(policy.decoded);
  done.message = !pause   ? "resumed: pgtier acts again"
                 : shadow ? "paused: changes are kept as before; pgtier looks and reports, and acts only where a slot "
                            "would fill the disk"
                          : "paused: pgtier looks and reports, and does nothing";
  if (!done.changed) {
    done.message = pause ? "was paused already" : "was not paused";
    return done;
  }
  Json value = pause ? Json("true") : Json();
  Json patch{{"metadata", {{"annotations", {{kPausedAnnotation, value}}}}}};
  Result<Json> patched = client.MergePatch(policy.resource(), KeyOf(policy), patch, deadline);
  if (!patched.has_value()) return patched.error();
  std::string owner = GitOwner(policy.object);
  if (!owner.empty() && !pause && found != policy.meta().annotations.end()) {
    done.notes.push_back(owner + " may bring the annotation back if it stands in Git");
  }
  return done;
}

Result<Done> Demand(kube::Client& client, const Policy& policy, const std::string& trigger, bool off,
                    Deadline deadline) {
  std::vector<std::string> names = TakingDemands(policy);
  if (std::find(names.begin(), names.end(), trigger) == names.end()) {
    std::string known;
    for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
    return MakeError(Code::kInvalidArgument,
                     "no trigger \"" + trigger + "\" with `demand: {}` in this policy" +
                         (known.empty() ? "; none takes a demand" : "; these take one: " + known));
  }
  Done done;
  done.action = "demand";
  Policy latest = policy;
  for (int i = 0;; ++i) {
    const std::vector<std::string>& demands = latest.spec().demands;
    bool on = std::find(demands.begin(), demands.end(), trigger) != demands.end();
    done.changed = on == off;
    if (!done.changed) {
      done.message = off ? trigger + " was not demanded" : trigger + " was demanded already";
      return done;
    }
    Result<Json> patched =
        client.JsonPatch(latest.resource(), KeyOf(latest), DemandPatch(latest.object, trigger, off), deadline);
    if (patched.has_value()) break;
    // A test that fails and a value that is refused are both 422; only a list that has changed is worth another try.
    PGTIER_ASSIGN_OR_RETURN(Policy again, ReadAgain(client, latest, deadline));
    bool same = kube::At(again.object, {"spec", "demands"}) == kube::At(latest.object, {"spec", "demands"});
    if (same || i == kTries) return patched.error();
    latest = std::move(again);
  }
  done.message = off ? trigger + " is no longer demanded; a tier that was entered stays"
                     : trigger + " is demanded: its tier is entered when the gates allow (kubectl pgtier why " +
                           latest.Named() + ")";
  std::string owner = GitOwner(latest.object);
  done.notes.push_back(
      owner.empty() ? "spec.demands was changed in the cluster only; where Git owns this policy, write it there too"
                    : owner + " owns this policy: write spec.demands in Git too, or its next sync takes this back");
  return done;
}

Result<Done> Approve(kube::Client& client, const Policy& policy, const std::string& hash, Deadline deadline) {
  RecordedPlan plan = ReadPlan(policy.object);
  const std::string name = policy.Named();
  if (plan.hash.empty()) {
    return MakeError(Code::kFailedPrecondition, "no plan waits for approval; kubectl pgtier why " + name +
                                                    " shows what is missing until one does");
  }
  if (!hash.empty() && hash != plan.hash) {
    return MakeError(Code::kFailedPrecondition, "the plan is another one now: its hash is " + plan.hash + ", not " +
                                                    hash + "; look at it again: kubectl pgtier plan " + name);
  }
  if (policy.status().observed_generation != policy.meta().generation) {
    return MakeError(Code::kFailedPrecondition,
                     "the operator has not seen the last edit yet, so the plan is of the one before; try again");
  }
  Done done;
  done.action = "approve";
  auto found = policy.meta().annotations.find(kApproveAnnotation);
  done.changed = found == policy.meta().annotations.end() || found->second != plan.hash;
  done.message = done.changed ? "approved plan " + plan.hash : "plan " + plan.hash + " was approved already";
  if (!done.changed) return done;
  // The version: what is approved is what was read.
  Json patch{
      {"metadata",
       {{"resourceVersion", policy.meta().resource_version}, {"annotations", {{kApproveAnnotation, plan.hash}}}}}};
  Result<Json> patched = client.MergePatch(policy.resource(), KeyOf(policy), patch, deadline);
  if (patched.has_value()) return done;
  if (patched.error().code != Code::kAborted) return patched.error();
  // Status moves all the time; only another plan matters.
  PGTIER_ASSIGN_OR_RETURN(Policy again, ReadAgain(client, policy, deadline));
  return Approve(client, again, plan.hash, deadline);
}

Result<Done> Promote(kube::Client& client, const Policy& policy, const std::string& replica, bool force, WallTime now,
                     std::string& request, Deadline deadline) {
  const auto* scale = std::get_if<crds::ScaleTierPolicy>(&policy.decoded);
  if (scale == nullptr) {
    return MakeError(Code::kFailedPrecondition,
                     "a ShadowTablePolicy has no instances: promote a replica of the ScaleTierPolicy of its database");
  }
  if (!scale->spec.managed.has_value()) {
    return MakeError(Code::kFailedPrecondition, "this Postgres is not run by pgtier: promote where it runs");
  }
  const crds::PromotionStatus& running = scale->status.promotion;
  // The old primary's own name asks for the way back.
  if (!force && replica != running.from && (running.phase == "Fencing" || running.phase == "Returning")) {
    return MakeError(Code::kFailedPrecondition,
                     "a promotion runs already: " + running.to + " in place of " + running.from);
  }
  request = replica + "/" + FormatMicroTime(now) + (force ? "/accept-data-loss" : "");
  Json patch{{"metadata", {{"annotations", {{controllers::scale_tier::kPromoteAnnotation, request}}}}}};
  Result<Json> patched = client.MergePatch(policy.resource(), KeyOf(policy), patch, deadline);
  if (!patched.has_value()) return patched.error();
  Done done;
  done.action = "promote";
  done.message = "asked for " + replica + " to become the primary";
  auto paused = policy.meta().annotations.find(kPausedAnnotation);
  if (paused != policy.meta().annotations.end() && paused->second != "false") {
    done.notes.push_back("the policy is paused: nothing happens before kubectl pgtier resume " + policy.meta().name);
  }
  return done;
}

Result<Done> AwaitPromotion(kube::Client& client, const kube::ObjectKey& key, const std::string& request,
                            Deadline deadline) {
  constexpr Duration kPoll = std::chrono::milliseconds(500);
  std::string last = "the operator has not taken it up";
  while (!deadline.Expired()) {
    Result<Policy> policy = ReadPolicy(client, Kind::kScaleTier, key, deadline);
    if (!policy.has_value() && policy.error().code != Code::kUnavailable) return policy.error();
    const auto* scale = policy.has_value() ? std::get_if<crds::ScaleTierPolicy>(&policy->decoded) : nullptr;
    if (scale != nullptr && scale->status.promotion.request == request) {
      const crds::PromotionStatus& promotion = scale->status.promotion;
      bool back = request.starts_with(promotion.from + "/");
      // Back is where who asked for the old primary wanted to be, unless its heir had taken writes by then.
      bool there = back && promotion.to != promotion.from ? promotion.phase == "Returned" : promotion.phase == "Done";
      if (there) return Done{"promote", true, promotion.message, {}};
      if (promotion.phase == "Done") return MakeError(Code::kFailedPrecondition, promotion.message);
      if (promotion.phase == "Refused" || promotion.phase == "Returned") {
        return MakeError(Code::kFailedPrecondition,
                         (promotion.phase == "Refused" ? "refused: " : "taken back: ") + promotion.message);
      }
      const crds::Condition* says = crds::FindCondition(scale->status.conditions, "Promoting");
      last = says == nullptr ? promotion.phase : says->message;
    }
    SleepFor(kPoll, {});
  }
  return MakeError(Code::kDeadlineExceeded, "not done yet, and goes on: " + last);
}

}  // namespace pgtier::cli
