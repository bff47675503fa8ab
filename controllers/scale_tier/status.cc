#include <algorithm>

#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "controllers/scale_tier/report.h"
#include "core/words.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::scale_tier {
namespace {

std::string InWords(const std::optional<Duration>& lag) {
  if (!lag.has_value()) return "0s";
  // A lag below a millisecond is none; longer ones in steps that do not rewrite the object at every pass.
  constexpr Duration kStep = std::chrono::milliseconds(10);
  return *lag < kStep ? "<10ms" : FormatDuration(std::chrono::round<std::chrono::milliseconds>(*lag) / kStep * kStep);
}

void FillReplicas(const Outcome& outcome, const TierSettings& tier, crds::ScaleTierPolicyStatus& status) {
  status.replicas.clear();
  int healthy = 0;
  std::optional<Duration> worst;
  for (const InstanceSeen& instance : outcome.seen.instances) {
    if (instance.ordinal == outcome.seen.primary_ordinal) continue;
    crds::ReplicaStatus replica;
    replica.name = instance.name;
    replica.healthy =
        MayTakeReads(instance, outcome.seen.primary, tier.max_lag, IsRouted(outcome.policy.status, instance.name));
    const std::vector<std::string>& routed = outcome.plan.routed;
    replica.routed = std::find(routed.begin(), routed.end(), instance.name) != routed.end();
    if (instance.streaming) {
      replica.lag = InWords(instance.lag);
      worst = std::max(worst.value_or(Duration::zero()), instance.lag.value_or(Duration::zero()));
    }
    if (replica.healthy) ++healthy;
    status.replicas.push_back(std::move(replica));
  }
  status.summary.replicas = std::to_string(healthy) + "/" + std::to_string(tier.replicas);
  status.summary.lag = worst.has_value() ? InWords(worst) : "";
}

void FillSummary(const Outcome& outcome, const TierSettings& tier, crds::ScaleTierPolicyStatus& status) {
  bool pgcat = tier.pooler.engine == kPgCat;
  long ready = std::count_if(outcome.seen.poolers.begin(), outcome.seen.poolers.end(),
                             [&](const PoolerPodSeen& pod) { return pod.ready && IsPgCat(pod.endpoint) == pgcat; });
  status.summary.pooler =
      tier.pooler.engine + " " + std::to_string(ready) + "/" + std::to_string((pgcat ? 3 : 2) * tier.pooler.instances);
  status.summary.endpoint = outcome.resolved.endpoint + "-rw." + outcome.policy.meta.namespace_;
  status.summary.closest = FillNext(outcome.Ladder(), status);
}

// The plan of the change under way, else of the one that is due, else of the next rung.
void FillPlan(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  const Resolved& resolved = outcome.resolved;
  std::string to = status.next_tier;
  if (outcome.decision.from == status.tier && !outcome.decision.due.empty()) to = outcome.decision.due;
  if (!status.target_tier.empty()) to = status.target_tier;
  const TierSettings* from = resolved.Find(status.tier);
  const TierSettings* target = resolved.Find(to);
  status.plan = {};
  if (from == nullptr || target == nullptr) return;
  Change change =
      DescribeChange(outcome.policy, resolved, *from, *target, outcome.seen.primary_ordinal, status.tier_since);
  status.plan = PlanStatusOf(outcome.policy.meta, outcome.policy.spec, outcome.policy.status.plan, change, outcome.now);
}

void FillPromotion(const Outcome& outcome, crds::ScaleTierPolicyStatus& status) {
  // Where nothing was planned, or what was planned failed, the Service's word stands.
  const Promotion& planned = outcome.plan.promotion;
  bool moved = outcome.failure.empty() && !planned.request.empty();
  const Promotion& promotion = moved ? planned : outcome.seen.promotion;
  status.promotion = {promotion.request, NameOf(promotion.phase), promotion.from, promotion.to, promotion.message};
  if (outcome.seen.primary_ordinal == 0 || outcome.seen.instances.empty()) return;
  status.primary = InstanceName(outcome.policy.meta.name, outcome.seen.primary_ordinal);
  bool done_now = moved && outcome.seen.promotion.Runs() && promotion.phase == PromotionPhase::kDone;
  if (done_now) status.primary = promotion.to;
}

}  // namespace

std::string RunningTier(const crds::ScaleTierPolicyStatus& status, const Resolved& resolved, const Seen& seen) {
  const std::string& recorded = seen.primary.tier;
  bool known = core::FindTier(resolved.ladder, recorded).has_value();
  return known && recorded != status.target_tier ? recorded : status.tier;
}

crds::ScaleTierPolicyStatus MakeStatus(const Outcome& outcome) {
  crds::ScaleTierPolicyStatus status = outcome.policy.status;
  status.observed_generation = outcome.policy.meta.generation;
  AdvanceLadder(outcome.Ladder(), status);
  status.image = outcome.plan.image.empty() ? status.image : outcome.plan.image;
  // Done once everybody presents the new ones.
  if (outcome.Complete() && outcome.plan.certificates_request != status.rotations.certificates.request) {
    status.rotations.certificates = {outcome.plan.certificates_request, outcome.now};
  }
  // Told by now, and read back from the poolers.
  if (outcome.Complete() && !outcome.plan.passwords.request.empty()) {
    crds::Rotation& passwords = status.rotations.passwords;
    if (passwords.request != outcome.plan.passwords.request) passwords = {outcome.plan.passwords.request, outcome.now};
    passwords.former_until = outcome.plan.passwords.former_until;
  }
  const PrimarySeen& primary = outcome.seen.primary;
  if (status.system_identifier.empty() && !primary.installed.empty()) {
    status.system_identifier = primary.system_identifier;
  }
  status.scaling = outcome.scaling.status;
  if (outcome.failure.empty()) status.closed_clients += outcome.plan.closed_clients;
  FillPromotion(outcome, status);
  if (const TierSettings* tier = outcome.resolved.Find(outcome.decision.to)) {
    FillReplicas(outcome, *tier, status);
    FillSummary(outcome, *tier, status);
  }
  FillPlan(outcome, status);
  status.conditions = MakeConditions(outcome, status);
  return status;
}

bool MustWrite(const crds::ScaleTierPolicyStatus& before, const crds::ScaleTierPolicyStatus& after,
               const Resolved& resolved, std::optional<WallTime> last_write, WallTime now) {
  Changes changes = CompareLadders(before, after, resolved.ladder, now);
  if (changes.decisive || before.image != after.image ||
      before.rotations.certificates.request != after.rotations.certificates.request ||
      before.rotations.passwords.request != after.rotations.passwords.request ||
      before.rotations.passwords.former_until != after.rotations.passwords.former_until ||
      before.system_identifier != after.system_identifier || before.primary != after.primary ||
      !(before.promotion == after.promotion) || before.summary.replicas != after.summary.replicas ||
      before.summary.pooler != after.summary.pooler || before.summary.endpoint != after.summary.endpoint ||
      before.replicas.size() != after.replicas.size() || before.closed_clients != after.closed_clients) {
    return true;
  }
  if (ScalingMustBeWritten(before.scaling, after.scaling, resolved, after.tier, now)) return true;
  changes.numbers = changes.numbers || before.scaling.needed != after.scaling.needed ||
                    before.summary.closest != after.summary.closest || before.summary.lag != after.summary.lag;
  for (size_t i = 0; i < after.replicas.size(); ++i) {
    const crds::ReplicaStatus& was = before.replicas[i];
    const crds::ReplicaStatus& is = after.replicas[i];
    if (was.name != is.name || was.healthy != is.healthy || was.routed != is.routed) return true;
    changes.numbers = changes.numbers || was.lag != is.lag;
  }
  return changes.numbers && NumbersAreDue(last_write, resolved.interval, now);
}

}  // namespace pgtier::controllers::scale_tier
