#include "controllers/shadow_table/shadow_table_reconciler.h"

#include <algorithm>

#include "controllers/ladder/approval.h"
#include "controllers/ladder/memory.h"
#include "controllers/shadow_table/resources.h"
#include "controllers/shadow_table/workers.h"
#include "crds/shadow_table_policy_codec.h"
#include "lib/base/log.h"

namespace pgtier::controllers::shadow_table {
namespace {

constexpr Duration kLongestUnfollowed = std::chrono::seconds(15);

}  // namespace

ShadowTableReconciler::ShadowTableReconciler(Parts parts)
    : parts_(std::move(parts)),
      observer_(parts_.client, parts_.prometheus, parts_.children,
                DatabaseFinder(parts_.client, parts_.scale_children, parts_.scale_tiers, parts_.external_hosts)),
      actor_(parts_.client),
      memory_(parts_.clock) {}

Result<Requeue> ShadowTableReconciler::Reconcile(const kube::ObjectKey& key, Deadline deadline,
                                                 const std::stop_token& stop) {
  std::shared_ptr<const crds::ShadowTablePolicy> policy = parts_.lookup(key);
  if (policy == nullptr) {
    Forget(key);
    return Requeue{};
  }
  if (policy->meta.deleting && policy->meta.finalizers.empty()) return Requeue{};

  Resolved resolved = Resolve(*policy, !parts_.image.empty());
  PGTIER_ASSIGN_OR_RETURN(Seen seen, observer_.Observe(*policy, resolved, deadline, stop));
  KeepHeldSlot(seen, resolved);
  FillPreflights(seen, resolved);
  RestAfterRetreat(policy->status, parts_.clock->Now(), resolved);
  FillApprovals(*policy, RunningTier(policy->status, resolved, seen), resolved);
  WallTime now = parts_.clock->Now();
  core::Decision decision = Decide(*policy, resolved, seen, now);
  Outcome outcome{*policy, resolved, seen, decision, {}, {}, false, IsPaused(policy->meta), now};
  outcome.workers = Workers(*policy, resolved, seen, now);
  Carry(outcome, deadline, stop);
  PGTIER_RETURN_IF_ERROR(Report(outcome, deadline, stop));
  LadderPass pass = outcome.Ladder();
  Duration next = memory_.NextLook(pass, resolved.interval);
  // Nobody tells of a source that changes where event triggers can't be made.
  if (seen.state.has_value() && !seen.state->follows_ddl) next = std::min(next, kLongestUnfollowed);
  return Requeue{next, !pass.Complete() && !outcome.needs_person};
}

core::Decision ShadowTableReconciler::Decide(const crds::ShadowTablePolicy& policy, const Resolved& resolved,
                                             const Seen& seen, WallTime now) {
  PassMemory::Rules rules = JudgedBy(RulesIn(policy.spec.tiers));
  core::Memory memory =
      memory_.Recall(policy.meta, policy.status, resolved.ladder, RunningTier(policy.status, resolved, seen), rules);
  core::Decision decision = core::Decide(resolved.ladder, memory, seen.readings, now);
  if (memory_.Remember(policy.meta, decision, std::move(rules))) {
    std::lock_guard lock(mutex_);
    scaling_.erase({policy.meta.namespace_, policy.meta.name});
  }
  return decision;
}

int ShadowTableReconciler::Workers(const crds::ShadowTablePolicy& policy, const Resolved& resolved, const Seen& seen,
                                   WallTime now) {
  std::lock_guard lock(mutex_);
  core::ScalingMemory& memory = scaling_[{policy.meta.namespace_, policy.meta.name}];
  memory = DecideWorkers(resolved, seen, memory, now);
  return memory.replicas;
}

void ShadowTableReconciler::Carry(Outcome& outcome, Deadline deadline, const std::stop_token& stop) {
  PlanContext context{outcome.policy, outcome.resolved, parts_.image, outcome.workers};
  outcome.plan = PlanFor(context, outcome.seen, outcome.decision, Acts(outcome.Ladder()));
  Status acted =
      actor_.Act(outcome.plan, outcome.policy, outcome.resolved, outcome.seen, outcome.version, deadline, stop);
  if (!acted.has_value()) {
    const Error& error = acted.error();
    outcome.failure = error.message;
    // What the database's state forbids stays forbidden until somebody changes it.
    outcome.needs_person = NeedsPerson(error.code) || error.code == Code::kFailedPrecondition;
    log::Warn("action failed", {{"error", error.message}, {"code", CodeName(error.code)}});
    return;
  }
  if (outcome.plan.refused.empty()) return;
  outcome.failure = outcome.plan.refused;
  outcome.needs_person = true;
}

Status ShadowTableReconciler::Report(const Outcome& outcome, Deadline deadline, const std::stop_token& stop) {
  const crds::ShadowTablePolicy& policy = outcome.policy;
  crds::ShadowTablePolicyStatus status = MakeStatus(outcome);
  if (policy.meta.deleting) {
    // It may be gone by now; what holds it is told by an event.
    if (outcome.plan.waiting_for.empty() && outcome.failure.empty()) return {};
    log::Info("deletion waits", {{"for", outcome.Ladder().Progress()}});
  }
  ExportMetrics(outcome, status, *parts_.metrics);
  if (!MustWrite(policy.status, status, outcome.resolved, memory_.LastWrite(policy.meta), outcome.now)) return {};
  std::vector<Note> notes = MakeNotes(policy.status, status);
  // Where the ladder would start: nothing was entered.
  if (outcome.resolved.ladder.observe_only) {
    std::erase_if(notes, [](const Note& note) { return note.reason == "TierEntered"; });
  }
  crds::Meta meta = policy.meta;
  if (!outcome.version.empty()) meta.resource_version = outcome.version;
  PGTIER_RETURN_IF_ERROR(Publish(kShadowTablePolicies, meta, crds::EncodeStatus(status), notes, *parts_.client,
                                 *parts_.events, deadline, stop));
  memory_.NoteWrite(policy.meta, outcome.now);
  return {};
}

void ShadowTableReconciler::Forget(const kube::ObjectKey& key) {
  parts_.metrics->Forget({{"namespace", key.namespace_}, {"shadow_policy", key.name}});
  memory_.Forget(key);
  std::lock_guard lock(mutex_);
  scaling_.erase(key);
}

}  // namespace pgtier::controllers::shadow_table
