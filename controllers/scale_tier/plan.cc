#include "controllers/scale_tier/plan.h"

#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

// A standby that has never reported a lag is admitted once it is this near; one WAL segment.
constexpr uint64_t kCaughtUpBytes = 16 * 1024 * 1024;

}  // namespace

Result<Plan> Planner::Make() {
  if (IsExternal()) return MakeExternal();
  if (PrimaryIsUnknown()) return std::move(plan_);
  if (std::string stranger = Stranger(); !stranger.empty()) {
    Refuse(stranger);
    return std::move(plan_);
  }
  // An operator that ended half way has left them held.
  if (seen_.primary.answered && !seen_.promotion.Runs()) LetHeldClientsGoOn();
  AddSecretsAndConfig();
  if (AddPromotion()) {
    KeepRouting();
    return std::move(plan_);
  }
  AddPrimary();
  AddNetworkPolicies();
  ChooseRestart();
  AddReplicas();
  PGTIER_RETURN_IF_ERROR(AddPoolers());
  RemoveSurplusReplicas();
  AddReloads();
  AddMaterializedViews();
  if (plan_.waiting_for.empty()) AddRecord();
  AddRestart();
  GrowVolumes();
  return std::move(plan_);
}

bool Planner::PrimaryIsUnknown() {
  if (seen_.primary_ordinal != 0) return false;
  Wait("exactly one instance to say that it takes writes: Service " + PrimaryService(policy()) +
       " is gone, and with it which one that is");
  return true;
}

Plan Planner::MakeForRecovery() {
  if (IsExternal()) {
    AddExternalServer();
    return std::move(plan_);
  }
  if (PrimaryIsUnknown()) return std::move(plan_);
  AddSecretsAndConfig();
  // One that runs stands on the Service: it outlives the status, and must be heeded before the primary is touched. One
  // that is asked for may be what makes the primary answer again.
  if (!AddPromotion()) AddPrimary();
  return std::move(plan_);
}

bool Planner::Encrypted() const {
  return std::all_of(seen_.instances.begin(), seen_.instances.end(),
                     [](const InstanceSeen& instance) { return instance.encrypted; });
}

PostgresTerms Planner::Terms() const {
  bool pgcat = IsThere(kPgCat) || std::any_of(context_.resolved.tiers.begin(), context_.resolved.tiers.end(),
                                              [](const TierSettings& tier) { return tier.pooler.engine == kPgCat; });
  return {Encrypted(), pgcat, tier_.max_lag};
}

void Planner::Wait(const std::string& what) {
  if (plan_.waiting_for.empty()) plan_.waiting_for = what;
}

void Planner::Refuse(const std::string& why) {
  if (plan_.refused.empty()) plan_.refused = why;
}

void Planner::Apply(const kube::Resource& resource, nlohmann::json object) {
  Stamp(object);
  const nlohmann::json* live = seen_.Object(resource, object["metadata"]["name"]);
  if (live != nullptr && Covers(*live, object)) return;
  plan_.actions.emplace_back(ApplyObject{resource, std::move(object)});
}

void Planner::RemoveIfThere(const kube::Resource& resource, const std::string& name) {
  const nlohmann::json* live = seen_.Object(resource, name);
  if (live == nullptr || live->at("metadata").contains("deletionTimestamp")) return;
  plan_.actions.emplace_back(DeleteObject{resource, name, kube::UidOf(*live)});
}

const InstanceSeen* Planner::Instance(int ordinal) const {
  auto found = std::find_if(seen_.instances.begin(), seen_.instances.end(),
                            [&](const InstanceSeen& each) { return each.ordinal == ordinal; });
  return found == seen_.instances.end() ? nullptr : &*found;
}

std::vector<int> ReplicaOrdinals(int primary_ordinal, int replicas) {
  std::vector<int> ordinals;
  for (int ordinal = 1; static_cast<int>(ordinals.size()) < replicas; ++ordinal) {
    if (ordinal != primary_ordinal) ordinals.push_back(ordinal);
  }
  return ordinals;
}

bool IsRouted(const crds::ScaleTierPolicyStatus& status, const std::string& replica) {
  return std::any_of(status.replicas.begin(), status.replicas.end(),
                     [&](const crds::ReplicaStatus& each) { return each.name == replica && each.routed; });
}

std::string LagInWords(const InstanceSeen& instance, Duration max_lag) {
  if (instance.lag.value_or(Duration::zero()) > max_lag) {
    // Whole seconds: the text of a condition must not change with every reading.
    Duration lag = *instance.lag;
    if (lag > std::chrono::seconds(2)) lag = std::chrono::floor<std::chrono::seconds>(lag);
    lag = std::chrono::round<std::chrono::milliseconds>(lag);
    return "lags " + FormatDuration(lag) + ", over maxLag " + FormatDuration(max_lag) + "; it takes no reads";
  }
  if (instance.answered && !instance.pod_ready) {
    return "to stay below half of maxLag " + FormatDuration(max_lag) + " before it takes reads";
  }
  return "to catch up with the primary";
}

std::string PausedInWords(const InstanceSeen& instance, const std::string& space) {
  return instance.name + ": its replay is paused. kubectl exec " + PodName(instance.name) + " -n " + space +
         " -- psql -h /run/postgresql -U postgres -c 'SELECT pg_wal_replay_resume()' lets it go on; where its log says "
         "that a setting "
         "is " +
         "lower than the primary's, raise that one and restart it";
}

bool MayTakeReads(const InstanceSeen& instance, const PrimarySeen& primary, Duration max_lag, bool routed) {
  if (!instance.pod_ready || !instance.streaming || !instance.replayed.has_value()) return false;
  // A pooler that is refused has nothing to give its clients: they would see it fail.
  if (!routed && instance.newly_ready) return false;
  // Back only when well below the limit, or a lag near it would move reads to and fro.
  Duration limit = routed ? max_lag : max_lag / 2;
  // An idle, caught-up standby reports no lag; one far behind that has not reported yet does not either.
  if (instance.lag.has_value()) return *instance.lag <= limit;
  return postgres::BytesBehind(*instance.replayed, primary.wal) <= kCaughtUpBytes;
}

Result<Plan> MakePlan(const RenderContext& context, const Seen& seen, const core::Decision& decision,
                      const Credentials& credentials, const Waited& waited) {
  const TierSettings* tier = context.resolved.Find(decision.to);
  if (tier == nullptr) return MakeError(Code::kInvalidArgument, "no tier is named " + decision.to);
  return Planner(context, seen, decision, credentials, *tier, waited).Make();
}

Plan MakeRecoveryPlan(const RenderContext& context, const Seen& seen, const Credentials& credentials,
                      const Waited& waited) {
  core::Decision undecided;
  return Planner(context, seen, undecided, credentials, context.resolved.tiers.front(), waited).MakeForRecovery();
}

}  // namespace pgtier::controllers::scale_tier
