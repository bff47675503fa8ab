#include "controllers/shadow_table/plan.h"

#include <algorithm>

#include "controllers/ladder/rendering.h"
#include "controllers/shadow_table/names.h"
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
    if (!IsInstalled(state, context_.resolved.spec)) {
      AddInstallation();
      return plan_;
    }
    Result<Tier> to = shadow::ParseTier(decision.to);
    if (!to.has_value() || *to == Tier::kCdc || state.tier == Tier::kCdc) {
      plan_.refused = "NotAvailable: this release does not do tier cdc yet";
      return plan_;
    }
    if (*to == Tier::kNotify) {
      EnterNotify();
    } else {
      LeaveNotify();
    }
    return plan_;
  }

  Plan Delete(bool remove) {
    if (!HasFinalizer()) return plan_;
    if (seen_.database.gone) {
      DeleteWorker();
      plan_.actions.emplace_back(SetFinalizer{false});
      return plan_;
    }
    if (!Reachable()) return plan_;
    if (seen_.state->installed) {
      LeaveNotify();
      if (!plan_.waiting_for.empty()) return plan_;
      if (remove) plan_.actions.emplace_back(Uninstall{});
    } else {
      DeleteWorker();
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
    plan_.waiting_for = "histories and triggers of every table";
  }

  void EnterNotify() {
    bool swapped = seen_.state->tier == Tier::kNotify;
    bool ready = AddWorker();
    if (swapped) {
      if (!ready) plan_.waiting_for = WorkerInWords();
      return;
    }
    auto preflight = seen_.preflights.find(std::string(shadow::TierName(Tier::kNotify)));
    if (preflight != seen_.preflights.end() && preflight->second.has_value()) {
      plan_.refused = Blocking(*preflight->second);
      if (!plan_.refused.empty()) return;
    }
    if (!ready) {
      plan_.waiting_for = WorkerInWords();
      return;
    }
    plan_.actions.emplace_back(Swap{Tier::kNotify});
    plan_.waiting_for = "triggers to write into the queue";
  }

  void LeaveNotify() {
    const shadow::State& state = *seen_.state;
    if (state.tier == Tier::kNotify) {
      AddWorker();
      plan_.actions.emplace_back(Swap{Tier::kTriggers});
      plan_.waiting_for = "triggers to write into the histories";
      return;
    }
    if (state.draining || state.queue_depth > 0) {
      AddWorker();
      plan_.actions.emplace_back(AskDrained{});
      plan_.waiting_for = std::to_string(state.queue_depth) + " rows of the queue, and statements that still fill it";
      return;
    }
    DeleteWorker();
    if (seen_.worker.exists) plan_.waiting_for = "the worker to end";
  }

  // Gives whether as many workers as wanted run, of the present template.
  bool AddWorker() {
    ManifestContext manifests{context_.policy, context_.resolved, seen_.database, context_.image, context_.workers};
    const size_t first = plan_.actions.size();
    bool same = Apply(kube::kSecrets, RenderWorkerSecret(manifests));
    bool known = same;  // What runs has the password: nothing is to be set in each pass.
    same = Apply(kube::kConfigMaps, RenderWorkerConfig(manifests)) && same;
    same = Apply(kube::kDeployments, RenderWorker(manifests)) && same;
    const WorkerSeen& worker = seen_.worker;
    bool ready = same && worker.exists && worker.settled && worker.ready >= context_.workers;
    if (!known || !ready) {
      plan_.actions.insert(plan_.actions.begin() + static_cast<std::ptrdiff_t>(first), SetWorkerPassword{});
    }
    return ready;
  }

  std::string WorkerInWords() {
    std::string text = "the worker " + NotifyWorker(Name()) + " to be ready (" + std::to_string(seen_.worker.ready) +
                       " of " + std::to_string(context_.workers) + ")";
    return seen_.worker.trouble.empty() ? text : text + ": " + seen_.worker.trouble;
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
  void DeleteWorker() {
    const Json* live = seen_.Object(kube::kDeployments, NotifyWorker(Name()));
    if (live == nullptr || kube::At(*live, {"metadata"}).contains("deletionTimestamp")) return;
    plan_.actions.emplace_back(
        DeleteObject{kube::kDeployments, NotifyWorker(Name()), kube::StringAt(*live, {"metadata", "uid"})});
  }

  const PlanContext& context_;
  const Seen& seen_;
  Plan plan_;
};

}  // namespace

bool IsInstalled(const shadow::State& state, const shadow::Spec& spec) {
  if (!state.installed || state.version != shadow::InstalledVersion()) return false;
  // As many as in the spec: one that it names no longer is to be taken out.
  return state.tables.size() == spec.tables.size() &&
         std::all_of(state.tables.begin(), state.tables.end(),
                     [](const shadow::TableState& table) { return table.installed; });
}

std::string Blocking(const std::vector<shadow::Finding>& findings) {
  std::string text;
  for (const shadow::Finding& finding : findings) {
    if (!finding.blocks) continue;
    text += (text.empty() ? "" : "; ") + finding.code + ": " + finding.object + ": " + finding.message;
    if (!finding.cure.empty()) text += ": " + finding.cure;
  }
  return text;
}

Plan MakePlan(const PlanContext& context, const Seen& seen, const core::Decision& decision) {
  return Planner(context, seen).Climb(decision);
}

Plan MakeDeletionPlan(const PlanContext& context, const Seen& seen) {
  return Planner(context, seen).Delete(context.policy.spec.deletion_policy == "Remove");
}

}  // namespace pgtier::controllers::shadow_table
