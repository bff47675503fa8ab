#include "controllers/shadow_table/plan.h"

#include <algorithm>
#include <utility>

#include "controllers/ladder/rendering.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/partitions.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;
using shadow::Tier;

class Planner {
 public:
  Planner(const PlanContext& context, const Seen& seen) : context_(context), seen_(seen) {}

  Plan Climb(const core::Decision& decision) {
    if (!HasFinalizer()) plan_.actions.emplace_back(SetFinalizer{true});
    if (!Reachable()) return plan_;
    const shadow::State& state = *seen_.state;
    Result<Tier> to = shadow::ParseTier(decision.to);
    std::string danger = state.tier == Tier::kCdc ? SlotDanger(state.slot, context_.resolved) : "";
    bool leaves = state.tier == Tier::kCdc && (!danger.empty() || !to.has_value() || *to != Tier::kCdc);
    // A way out of cdc waits for nothing: tables can't be changed in it, and what the log holds may be lost.
    if (!leaves && !IsInstalled(state, context_.resolved.spec)) {
      if (state.tier != Tier::kCdc && !Ended()) {
        FinishCdc();  // A table that goes now would take along what the log still holds of it.
      } else {
        Installation(state, to);
      }
      return plan_;
    }
    if (!danger.empty()) {
      Leave(Tier::kCdc);
      plan_.waiting_for = "triggers to write into the histories, because " + danger;
    } else if (state.tier == Tier::kTriggers && !Ended()) {
      EnterTriggers();  // What a way out of cdc has left comes first.
    } else if (to.has_value() && *to == Tier::kCdc) {
      EnterCdc();
    } else if (to.has_value() && *to == Tier::kNotify) {
      EnterNotify();
    } else {
      EnterTriggers();
    }
    // Nothing else waits for it.
    if (plan_.actions.empty() && seen_.audit_events.has_value() && seen_.audit_events->Unmade()) {
      plan_.actions.emplace_back(MakeAuditEvents{});
    }
    return plan_;
  }

  Plan Guard(bool entering) {
    if (!seen_.state.has_value() || seen_.held_slot.empty()) return plan_;
    const shadow::State& state = *seen_.state;
    std::string danger = SlotDanger(state.slot, context_.resolved);
    if (state.tier == Tier::kCdc) {
      if (danger.empty()) return plan_;
      Leave(Tier::kCdc);
      plan_.waiting_for = "triggers to write into the histories, because " + danger;
    } else if (!entering || !danger.empty() || !Ended()) {
      FinishCdc();
    }
    return plan_;
  }

  Plan Delete(bool remove) {
    if (!HasFinalizer()) return plan_;
    if (seen_.database.gone) {
      DeleteWorkers();
      plan_.actions.emplace_back(SetFinalizer{false});
      return plan_;
    }
    if (!Reachable()) return plan_;
    if (seen_.state->installed) {
      EnterTriggers();
      if (!plan_.waiting_for.empty()) return plan_;
      if (remove) {
        plan_.actions.emplace_back(Uninstall{});
      } else if (seen_.state->version == shadow::InstalledVersion()) {
        plan_.actions.emplace_back(Retain{});  // Older functions don't know how.
      }
    } else {
      DeleteWorkers();
    }
    plan_.actions.emplace_back(SetFinalizer{false});
    return plan_;
  }

 private:
  [[nodiscard]] const std::string& Name() const { return context_.policy.meta.name; }

  [[nodiscard]] bool HasFinalizer() const {
    const std::vector<std::string>& finalizers = context_.policy.meta.finalizers;
    return std::find(finalizers.begin(), finalizers.end(), kFinalizer) != finalizers.end();
  }

  bool Reachable() {
    if (seen_.state.has_value()) return true;
    if (seen_.needs_person) {
      plan_.refused = seen_.reason + ": " + seen_.error;
    } else {
      plan_.waiting_for = seen_.error.empty() ? "the database" : seen_.error;
    }
    return false;
  }

  // A table that is gone, or can't be taken in, is no reason to leave the others alone: the worker that they need is
  // kept, and they may go from triggers to notify and back.
  void Installation(const shadow::State& state, const Result<Tier>& to) {
    const bool runs = state.installed && state.tier != Tier::kTriggers;
    // A worker of this program may need functions of this program's.
    const bool known = state.version == shadow::InstalledVersion();
    if (runs && known) AddWorker(state.tier);
    AddInstallation();
    if (plan_.refused.empty()) {
      if (runs && !known) AddWorker(state.tier);
      return;
    }
    if (!state.installed || state.tier == Tier::kCdc || !to.has_value() || *to == Tier::kCdc) return;
    const std::string refused = std::exchange(plan_.refused, "");
    plan_.actions.erase(
        std::remove_if(plan_.actions.begin(), plan_.actions.end(),
                       [](const Action& action) { return !std::holds_alternative<SetFinalizer>(action); }),
        plan_.actions.end());
    if (*to == Tier::kNotify) {
      EnterNotify();
    } else {
      EnterTriggers();
    }
    plan_.refused = refused;
  }

  void AddInstallation() {
    auto preflight = seen_.preflights.find(std::string(shadow::TierName(Tier::kTriggers)));
    if (preflight != seen_.preflights.end()) {
      if (!preflight->second.has_value()) {
        plan_.waiting_for = "what stands in the way: " + preflight->second.error().message;
        return;
      }
      plan_.refused = Blocking(*preflight->second);
      if (!plan_.refused.empty()) return;
    }
    plan_.actions.emplace_back(Install{});
    // Another actor's setting is in the functions of cdc too.
    if (seen_.state->tier == Tier::kCdc) plan_.actions.emplace_back(PrepareCdc{});
    plan_.waiting_for = "histories and triggers of every table";
  }

  // Whether nothing that the preflight of a tier has found stands in its way.
  bool MayEnter(Tier tier) {
    auto preflight = seen_.preflights.find(std::string(shadow::TierName(tier)));
    if (preflight != seen_.preflights.end() && preflight->second.has_value()) {
      plan_.refused = Blocking(*preflight->second);
    }
    return plan_.refused.empty();
  }

  void EnterNotify() {
    const Tier now = seen_.state->tier;
    bool ready = AddWorker(Tier::kNotify);
    if (now == Tier::kTriggers && !MayEnter(Tier::kNotify)) return;
    if (!ready) {
      plan_.waiting_for = WorkerInWords(Tier::kNotify);
      // The other worker goes on: it is still the one that writes, or has something left to write.
      if (seen_.cdc.exists) AddWorker(Tier::kCdc);
      return;
    }
    if (now == Tier::kNotify) {
      FinishCdc();
      if (plan_.waiting_for.empty()) Deliver();
      return;
    }
    if (now == Tier::kCdc) {
      AddWorker(Tier::kCdc);
      plan_.actions.emplace_back(CrossBarrier{Tier::kNotify});
    } else {
      plan_.actions.emplace_back(Swap{Tier::kNotify});
    }
    plan_.waiting_for = "triggers to write into the queue";
  }

  // In tier notify: its delivery is what the spec says, and what came by the other one is in the histories, or the
  // queue.
  void Deliver() {
    const shadow::State& state = *seen_.state;
    const bool payload = context_.resolved.workers.payload;
    if (state.payload.sends != payload) {
      plan_.actions.emplace_back(SetDelivery{payload});
      plan_.waiting_for = payload ? "triggers to send rows in notifications" : "triggers to write into the queue";
    } else if (state.draining) {
      plan_.actions.emplace_back(AskDrained{});
      if (state.payload.under_way)
        plan_.waiting_for = "the worker to hear what was sent, and statements that still send";
    }
  }

  void EnterTriggers() {
    const Tier now = seen_.state->tier;
    if (now == Tier::kTriggers) {
      if (FinishNotify()) FinishCdc();
      return;
    }
    Leave(now);
    plan_.waiting_for = "triggers to write into the histories";
  }

  // Triggers write from here on. The worker stays: the queue, or the log, holds what was written until then. It comes
  // second, so that nothing which stands in its way keeps the tier.
  void Leave(Tier now) {
    if (now == Tier::kCdc) {
      plan_.actions.emplace_back(CrossBarrier{Tier::kTriggers});
    } else {
      plan_.actions.emplace_back(Swap{Tier::kTriggers});
    }
    AddWorker(now);
  }

  void EnterCdc() {
    const shadow::State& state = *seen_.state;
    if (state.tier == Tier::kCdc) {
      if (!AddWorker(Tier::kCdc)) plan_.waiting_for = WorkerInWords(Tier::kCdc);
      FinishNotify();
      return;
    }
    if (state.tier == Tier::kNotify) AddWorker(Tier::kNotify);
    bool held = !seen_.held_slot.empty();
    // After a way out that was not finished, and of a slot that nobody reads: from its beginning.
    if (held && (!Ended() || !SlotDanger(state.slot, context_.resolved).empty())) {
      FinishCdc();
      return;
    }
    if (!MayEnter(Tier::kCdc)) return;
    if (!held) {
      plan_.actions.emplace_back(PrepareCdc{});
      plan_.waiting_for = "publication, replica identities and slot " + context_.resolved.spec.slot;
      return;
    }
    if (!AddWorker(Tier::kCdc)) {
      plan_.waiting_for = WorkerInWords(Tier::kCdc);
      return;
    }
    // Tables may have come since the first time.
    plan_.actions.emplace_back(PrepareCdc{});
    plan_.actions.emplace_back(CrossBarrier{Tier::kCdc});
    plan_.waiting_for = "the barrier, after which the log alone has the changes";
  }

  // What tier notify has left, where another tier writes. Gives whether nothing is.
  bool FinishNotify() {
    const shadow::State& state = *seen_.state;
    if (state.draining || state.queue_depth > 0) {
      AddWorker(Tier::kNotify);
      plan_.actions.emplace_back(AskDrained{});
      plan_.waiting_for = std::to_string(state.queue_depth) + " rows of the queue, and statements that still fill it";
      if (state.payload.under_way) plan_.waiting_for += ", and notifications that carry rows";
      return false;
    }
    DeleteWorker(Tier::kNotify);
    if (seen_.worker.exists) plan_.waiting_for = "the worker to end";
    return !seen_.worker.exists;
  }

  // Whether all that was committed before the last way out of cdc is in the histories.
  [[nodiscard]] bool Ended() const { return !seen_.state->checkpoint.has_value() || seen_.state->checkpoint->ended; }

  // The same of tier cdc: its slot goes when all that was committed before the barrier is in the histories.
  void FinishCdc() {
    const shadow::State& state = *seen_.state;
    if (!Ended() && (!state.slot.exists || state.slot.wal_status == "lost")) {
      plan_.actions.emplace_back(SettleCdc{});
      plan_.waiting_for = "the gap to be written down that a lost slot leaves";
      return;
    }
    if (!Ended()) {
      AddWorker(Tier::kCdc);
      plan_.waiting_for = "the worker " + CdcWorker(Name()) + " to write what was committed before the change";
      if (!seen_.cdc.trouble.empty()) plan_.waiting_for += ": " + seen_.cdc.trouble;
      return;
    }
    DeleteWorker(Tier::kCdc);
    if (seen_.cdc.exists) {
      plan_.waiting_for = "the worker to end";
    } else if (state.slot.active) {
      // The server keeps it until it misses a consumer that is gone.
      plan_.waiting_for = "the server to let go of slot " + context_.resolved.spec.slot;
    } else if (!seen_.held_slot.empty()) {
      plan_.actions.emplace_back(DropCdc{});
      plan_.waiting_for = "slot " + context_.resolved.spec.slot + " to be dropped";
    }
  }

  [[nodiscard]] const WorkerSeen& WorkerOf(Tier tier) const { return tier == Tier::kCdc ? seen_.cdc : seen_.worker; }
  [[nodiscard]] std::string DeploymentOf(Tier tier) const {
    return tier == Tier::kCdc ? CdcWorker(Name()) : NotifyWorker(Name());
  }
  [[nodiscard]] int WantedOf(Tier tier) const { return tier == Tier::kCdc ? 1 : context_.workers; }

  // Gives whether as many workers as wanted run, of the present template.
  bool AddWorker(Tier tier) {
    ManifestContext manifests{context_.policy, context_.resolved, seen_.database, context_.image, WantedOf(tier), tier};
    // It listens until all that was sent has been heard, whatever the spec says by now.
    manifests.payload = context_.resolved.workers.payload || seen_.state->payload.under_way;
    const size_t first = plan_.actions.size();
    bool same = Apply(kube::kSecrets, RenderWorkerSecret(manifests));
    bool known = same;  // What runs has the password: nothing is to be set in each pass.
    same = Apply(kube::kConfigMaps, RenderWorkerConfig(manifests)) && same;
    same = Apply(kube::kDeployments, RenderWorker(manifests)) && same;
    const WorkerSeen& worker = WorkerOf(tier);
    bool ready = same && worker.exists && worker.settled && worker.ready >= WantedOf(tier);
    if (!known || !ready) {
      plan_.actions.insert(plan_.actions.begin() + static_cast<std::ptrdiff_t>(first), SetWorkerPassword{tier});
    }
    return ready;
  }

  std::string WorkerInWords(Tier tier) {
    const WorkerSeen& worker = WorkerOf(tier);
    std::string text = "the worker " + DeploymentOf(tier) + " to be ready (" + std::to_string(worker.ready) + " of " +
                       std::to_string(WantedOf(tier)) + ")";
    return worker.trouble.empty() ? text : text + ": " + worker.trouble;
  }

  // Gives whether the live object is the rendered one already.
  bool Apply(const kube::Resource& resource, Json object) {
    Stamp(object);
    const Json* live = seen_.Object(resource, kube::KeyOf(object).name);
    if (live != nullptr && Covers(*live, object)) return true;
    plan_.actions.emplace_back(ApplyObject{resource, std::move(object)});
    return false;
  }

  // What it mounted goes with the policy.
  void DeleteWorker(Tier tier) {
    const Json* live = seen_.Object(kube::kDeployments, DeploymentOf(tier));
    if (live == nullptr || kube::At(*live, {"metadata"}).contains("deletionTimestamp")) return;
    plan_.actions.emplace_back(
        DeleteObject{kube::kDeployments, DeploymentOf(tier), kube::StringAt(*live, {"metadata", "uid"})});
  }

  void DeleteWorkers() {
    DeleteWorker(Tier::kNotify);
    DeleteWorker(Tier::kCdc);
  }

  const PlanContext& context_;
  const Seen& seen_;
  Plan plan_;
};

}  // namespace

Plan MakePlan(const PlanContext& context, const Seen& seen, const core::Decision& decision) {
  Plan plan = Planner(context, seen).Climb(decision);
  if (plan.refused.empty()) PlanPartitions(context, seen, plan);
  return plan;
}

Plan MakeGuardPlan(const PlanContext& context, const Seen& seen, bool entering) {
  return Planner(context, seen).Guard(entering);
}

Plan MakeDeletionPlan(const PlanContext& context, const Seen& seen) {
  Plan plan;
  PlanPartitionsEnd(seen, plan);
  Plan rest = Planner(context, seen).Delete(context.policy.spec.deletion_policy == "Remove");
  plan.waiting_for = std::move(rest.waiting_for);
  plan.refused = std::move(rest.refused);
  std::move(rest.actions.begin(), rest.actions.end(), std::back_inserter(plan.actions));
  return plan;
}

Plan PlanFor(const PlanContext& context, const Seen& seen, const core::Decision& decision, bool acts) {
  if (context.policy.meta.deleting) return MakeDeletionPlan(context, seen);
  return acts ? MakePlan(context, seen, decision)
              : MakeGuardPlan(context, seen, context.policy.status.target_tier == shadow::TierName(Tier::kCdc));
}

}  // namespace pgtier::controllers::shadow_table
