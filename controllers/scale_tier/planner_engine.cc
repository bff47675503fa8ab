// Which engine the Services lead to, and how the former one leaves: the new one serves first, then the Services follow,
// then the former one's clients finish, then it goes.
#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

// New connections may still come for as long as every node takes to learn of a Service's change.
constexpr Duration kServicesFollow = std::chrono::seconds(5);

std::vector<std::string> PoolersOf(const std::string& engine) {
  if (engine == kPgCat) return {kPgCatWrites, kPgCatSplit, kPgCatReads};
  return {kPgBouncerWrites, kPgBouncerReads};
}

const char* OtherEngine(const std::string& engine) { return engine == kPgCat ? kPgBouncer : kPgCat; }

}  // namespace

bool Planner::IsThere(const std::string& engine) const {
  std::vector<std::string> poolers = PoolersOf(engine);
  return std::any_of(poolers.begin(), poolers.end(), [&](const std::string& pooler) {
    return seen_.Object(kube::kDeployments, PoolerName(policy(), pooler)) != nullptr;
  });
}

TierSettings Planner::FormerTier() const {
  const char* engine = OtherEngine(tier_.pooler.engine);
  const TierSettings* before = context_.resolved.Find(decision_.from);
  if (before != nullptr && before->pooler.engine == engine) return *before;
  for (const TierSettings& tier : context_.resolved.tiers) {
    if (tier.pooler.engine == engine) return tier;
  }
  // No tier has it any more: its pods serve on with the sizes of the new one.
  TierSettings former = tier_;
  former.pooler.engine = engine;
  if (former.pooler.pool_mode == "Statement") former.pooler.pool_mode = "Transaction";
  former.strategy = "RoundRobin";
  return former;
}

Status Planner::AddEngine(const TierSettings& tier, bool former, const std::vector<poolers::Server>* reads) {
  if (tier.pooler.engine == kPgBouncer) {
    PGTIER_RETURN_IF_ERROR(AddPooler(tier, kPgBouncerWrites, {Primary()}, former));
    return reads == nullptr ? Status() : AddPooler(tier, kPgBouncerReads, *reads, former);
  }
  PGTIER_RETURN_IF_ERROR(AddPgCat(tier, kPgCatWrites, {Primary()}, former));
  if (reads == nullptr) return {};
  std::vector<poolers::Server> all{Primary()};
  std::copy_if(reads->begin(), reads->end(), std::back_inserter(all),
               [](const poolers::Server& server) { return server.role == poolers::ServerRole::kReplica; });
  PGTIER_RETURN_IF_ERROR(AddPgCat(tier, kPgCatSplit, all, former));
  return AddPgCat(tier, kPgCatReads, *reads, former);
}

std::string Planner::SelectedBy(const std::string& service) const {
  const nlohmann::json* live = seen_.Object(kube::kServices, service);
  return live == nullptr ? "" : kube::StringAt(*live, {"spec", "selector", kEndpointLabel});
}

// All Services change in one pass, and only to poolers that have been seen to serve as wanted.
void Planner::AddEndpoints() {
  bool pgcat = tier_.pooler.engine == kPgCat;
  std::vector<std::string> wanted = PoolersOf(tier_.pooler.engine);
  bool all_serve =
      std::all_of(wanted.begin(), wanted.end(), [&](const std::string& pooler) { return serving_.contains(pooler); });
  for (const Endpoint& endpoint : kEndpoints) {
    std::string service = context_.resolved.endpoint + endpoint.suffix;
    std::string target = pgcat ? endpoint.pgcat : endpoint.pgbouncer;
    std::string now = SelectedBy(service);
    bool of_former =
        !now.empty() && IsPgCat(now) != pgcat && seen_.Object(kube::kDeployments, PoolerName(policy(), now)) != nullptr;
    Apply(kube::kServices, RenderEndpointService(context_, service, of_former && !all_serve ? now : target));
  }
}

void Planner::AddFormerEngine() {
  for (const std::string& pooler : PoolersOf(OtherEngine(tier_.pooler.engine))) RetirePooler(pooler);
}

void Planner::RetirePooler(const std::string& pooler) {
  std::string name = PoolerName(policy(), pooler);
  const nlohmann::json* deployment = seen_.Object(kube::kDeployments, name);
  if (deployment == nullptr) {
    // Its Secret stays for the next time: it holds nothing that <policy>-app and <policy>-internal do not hold.
    RemoveIfThere(kube::kPodDisruptionBudgets, name);
    return;
  }
  int64_t clients = 0;
  bool silent = false;
  for (const PoolerPodSeen& pod : seen_.poolers) {
    if (pod.endpoint != pooler) continue;
    clients += pod.clients;
    silent = silent || !pod.answered;
  }
  Wait(name + ": " + std::to_string(clients) + " clients to finish");
  bool selected = std::any_of(std::begin(kEndpoints), std::end(kEndpoints), [&](const Endpoint& endpoint) {
    return SelectedBy(context_.resolved.endpoint + endpoint.suffix) == pooler;
  });
  Result<WallTime> since = ParseTime(kube::StringAt(*deployment, {"metadata", "annotations", kDrainingAnnotation}));
  if (selected || !since.has_value()) {
    if (selected == since.has_value()) plan_.actions.emplace_back(MarkDraining{name, !selected});
    return;
  }
  Duration drained = seen_.now - *since;
  bool done = clients == 0 && !silent && drained >= kServicesFollow;
  if (!done && drained < std::max(tier_.drain_timeout, kServicesFollow)) return;
  RemoveIfThere(kube::kDeployments, name);
  RemoveIfThere(kube::kPodDisruptionBudgets, name);
  plan_.closed_clients += clients;
  for (const PoolerPodSeen& pod : seen_.poolers) {
    if (pod.endpoint == pooler && pod.clients > 0)
      plan_.actions.emplace_back(ShutDownPooler{pod.pod, pod.ip, IsPgCat(pooler)});
  }
}

}  // namespace pgtier::controllers::scale_tier
