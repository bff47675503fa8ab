#include "controllers/scale_tier/scale_tier_reconciler.h"

#include <algorithm>

#include "controllers/ladder/approval.h"
#include "controllers/ladder/memory.h"
#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/credentials.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/passwords.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/base/log.h"

namespace pgtier::controllers::scale_tier {
namespace {

kube::ObjectKey KeyOf(const crds::ScaleTierPolicy& policy) { return {policy.meta.namespace_, policy.meta.name}; }

}  // namespace

ScaleTierReconciler::ScaleTierReconciler(Parts parts)
    : parts_(std::move(parts)),
      observer_(parts_.client, parts_.prometheus, parts_.children, parts_.external_hosts),
      actor_(parts_.client, parts_.external_hosts),
      memory_(parts_.clock) {}

Result<Requeue> ScaleTierReconciler::Reconcile(const kube::ObjectKey& key, Deadline deadline,
                                               const std::stop_token& stop) {
  std::shared_ptr<const crds::ScaleTierPolicy> policy = parts_.lookup(key);
  if (policy == nullptr) {
    Forget(key);
    return Requeue{};
  }
  // Nothing to clean up: with Remove everything is owned and Kubernetes collects it, with Retain nothing is.
  if (policy->meta.deleting) return Requeue{};

  Resolved resolved = Resolve(*policy, parts_.images.pgcat);
  PGTIER_ASSIGN_OR_RETURN(Seen seen, observer_.Observe(*policy, resolved, parts_.clock->Now(), deadline, stop));
  for (const auto& [tier, findings] : seen.preflights) FillPreflight(tier, findings, resolved);
  PrepareScaling(*policy, seen, resolved);
  FillApprovals(*policy, RunningTier(policy->status, resolved, seen), seen.primary_ordinal, resolved);
  WallTime now = parts_.clock->Now();
  seen.now = now;
  seen.maintenance = std::any_of(resolved.ladder.windows.begin(), resolved.ladder.windows.end(),
                                 [&](const core::MaintenanceWindow& window) { return core::IsOpen(window, now); });
  core::Decision decision = Decide(*policy, resolved, seen, now);
  Outcome outcome{*policy, resolved, seen, decision, {}, {}, false, IsPaused(policy->meta), now};
  outcome.scaling = Scale(outcome);
  Carry(outcome, deadline, stop);
  memory_.NoteLasting(policy->meta, outcome.plan.lasting);
  PGTIER_RETURN_IF_ERROR(Report(outcome, deadline, stop));
  return Requeue{memory_.NextLook(outcome.Ladder(), resolved.interval), !outcome.Complete() && !outcome.needs_person};
}

core::Decision ScaleTierReconciler::Decide(const crds::ScaleTierPolicy& policy, const Resolved& resolved,
                                           const Seen& seen, WallTime now) {
  PassMemory::Rules rules = JudgedBy(RulesIn(policy.spec.tiers));
  core::Memory memory =
      memory_.Recall(policy.meta, policy.status, resolved.ladder, RunningTier(policy.status, resolved, seen), rules);
  core::Decision decision = core::Decide(resolved.ladder, memory, seen.readings, now);
  bool tier_is_unknown = memory.tier.empty() && !seen.instances.empty() && !seen.primary.answered;
  if (tier_is_unknown && !resolved.ladder.observe_only) {
    // A server runs and status does not say in which tier. Starting at the first would take replicas from it.
    decision.verdict = core::Verdict::kHold;
    decision.to.clear();
    decision.reason = "Recovering";
    decision.message = "the primary to say in which tier the database is";
  }
  if (memory_.Remember(policy.meta, decision, std::move(rules))) {
    std::lock_guard lock(mutex_);
    scaling_.erase(KeyOf(policy));
  }
  return decision;
}

Scaling ScaleTierReconciler::Scale(const Outcome& outcome) {
  std::lock_guard lock(mutex_);
  std::optional<core::ScalingMemory>& remembered = scaling_[KeyOf(outcome.policy)];
  Scaling scaling = DecideReplicas(outcome.policy, outcome.resolved, outcome.seen, outcome.decision, outcome.Acts(),
                                   remembered, outcome.now);
  remembered = scaling.memory;
  return scaling;
}

void ScaleTierReconciler::Carry(Outcome& outcome, Deadline deadline, const std::stop_token& stop) {
  const Resolved& resolved = outcome.resolved;
  if (!outcome.Acts()) return;
  auto fail = [&](const Error& error) {
    outcome.failure = error.message;
    outcome.needs_person = NeedsPerson(error.code);
    log::Warn("action failed", {{"error", error.message}, {"code", CodeName(error.code)}});
  };
  bool recovering = outcome.decision.to.empty();
  Result<Credentials> credentials = CompleteCredentials(outcome.seen.credentials);
  if (!credentials.has_value()) return fail(credentials.error());
  if (outcome.policy.spec.managed.has_value()) {
    int last = 0;
    for (const InstanceSeen& instance : outcome.seen.instances) last = std::max(last, instance.ordinal);
    Result<Certificates> certificates = Renew(credentials->tls, NeedsOf(outcome.policy, resolved, last), outcome.now);
    if (!certificates.has_value()) return fail(certificates.error().WithContext("certificates"));
    credentials->tls = *std::move(certificates);
    if (!recovering) credentials = RotatePasswords(*credentials, outcome.policy, resolved, outcome.seen, outcome.now);
    if (!credentials.has_value()) return fail(credentials.error());
  }
  RenderContext context{outcome.policy, resolved, parts_.images, parts_.network};
  Waited waited = memory_.WaitedFor(outcome.policy.meta);
  Result<Plan> plan = recovering ? MakeRecoveryPlan(context, outcome.seen, *credentials, waited)
                                 : MakePlan(context, outcome.seen, outcome.decision, *credentials, waited);
  if (!plan.has_value()) return fail(plan.error());
  if (recovering && plan->waiting_for.empty()) plan->waiting_for = outcome.decision.message;
  outcome.plan = *std::move(plan);
  Status acted = actor_.Act(outcome.plan, outcome.policy, outcome.seen, *credentials, deadline, stop);
  if (!acted.has_value()) return fail(acted.error());
  if (!outcome.plan.refused.empty()) fail(MakeError(Code::kInvalidArgument, outcome.plan.refused));
}

Status ScaleTierReconciler::Report(const Outcome& outcome, Deadline deadline, const std::stop_token& stop) {
  const crds::ScaleTierPolicy& policy = outcome.policy;
  crds::ScaleTierPolicyStatus status = MakeStatus(outcome);
  ExportMetrics(outcome, status, *parts_.metrics);
  std::optional<WallTime> last_write = memory_.LastWrite(policy.meta);
  if (!MustWrite(policy.status, status, outcome.resolved, last_write, outcome.now)) return {};
  std::vector<Note> notes = MakeNotes(policy.status, status);
  // Where the ladder would start: nothing was entered.
  if (outcome.resolved.ladder.observe_only) {
    std::erase_if(notes, [](const Note& note) { return note.reason == "TierEntered"; });
  }
  PGTIER_RETURN_IF_ERROR(Publish(kScaleTierPolicies, policy.meta, crds::EncodeStatus(status), notes, *parts_.client,
                                 *parts_.events, deadline, stop));
  memory_.NoteWrite(policy.meta, outcome.now);
  return {};
}

void ScaleTierReconciler::Forget(const kube::ObjectKey& key) {
  parts_.metrics->Forget({{"namespace", key.namespace_}, {"policy", key.name}});
  memory_.Forget(key);
  std::lock_guard lock(mutex_);
  scaling_.erase(key);
}

}  // namespace pgtier::controllers::scale_tier
