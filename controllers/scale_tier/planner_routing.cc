#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {

using Json = nlohmann::json;

// Whether the replica took reads in the tier that is being left.
bool Planner::RoutedBefore(const std::string& replica) const {
  const TierSettings* before = context_.resolved.Find(decision_.from);
  if (before == nullptr || !before->UsesReplicas()) return false;
  if (IsExternal()) return before->replicas > 0;
  for (int ordinal : ReplicaOrdinals(seen_.primary_ordinal, before->replicas)) {
    if (replica == InstanceName(policy(), ordinal)) return true;
  }
  return false;
}

poolers::Server Planner::Primary() const {
  if (IsExternal()) return ExternalPrimary();
  return {PrimaryService(policy()) + "." + context_.policy.meta.namespace_ + ".svc", kPostgresPort, 1,
          poolers::ServerRole::kPrimary};
}

poolers::Server Planner::Replica(const std::string& name) const {
  poolers::Server server{name + "." + context_.policy.meta.namespace_ + ".svc", kPostgresPort, 1,
                         poolers::ServerRole::kReplica};
  if (IsExternal()) server = ExternalReplica(name);
  auto weight = tier_.weights.find(name);
  if (tier_.strategy == "Weighted" && weight != tier_.weights.end()) server.weight = weight->second;
  return server;
}

// Reads go to every replica that may take them. While a tier is being entered they stay where they are until all
// are there; with none, they go to the primary.
std::vector<poolers::Server> Planner::ReadServers() {
  bool entering = decision_.from != decision_.to;
  bool enough = static_cast<int>(plan_.routed.size()) >= tier_.enter_with;
  if (entering && !enough) std::erase_if(plan_.routed, [&](const std::string& name) { return !RoutedBefore(name); });
  std::vector<poolers::Server> servers;
  for (const std::string& replica : plan_.routed) servers.push_back(Replica(replica));
  std::erase_if(plan_.routed, [&](const std::string& name) { return Replica(name).weight == 0; });
  std::erase_if(servers, [](const poolers::Server& server) { return server.weight == 0; });
  if (servers.empty()) return {Primary()};
  return servers;
}

void Planner::KeepRouting() {
  for (const crds::ReplicaStatus& replica : context_.policy.status.replicas) {
    if (replica.routed) plan_.routed.push_back(replica.name);
  }
}

Status Planner::AddPoolers() {
  bool pgcat = tier_.pooler.engine == kPgCat;
  // While the primary does not say how the replicas are, reads stay where they are.
  bool made = seen_.Object(kube::kSecrets, PoolerName(policy(), pgcat ? kPgCatReads : kPgBouncerReads)) != nullptr;
  bool told = seen_.primary.answered && !seen_.primary.installed.empty();
  std::vector<poolers::Server> reads;
  bool known = told || !made;
  if (known) {
    reads = ReadServers();
  } else {
    KeepRouting();
  }
  PGTIER_RETURN_IF_ERROR(AddEngine(tier_, false, known ? &reads : nullptr));
  AddEndpoints();
  // One that leaves serves its clients to the end, and a replica that may have no reads leaves it too.
  if (IsThere(pgcat ? kPgBouncer : kPgCat)) {
    PGTIER_RETURN_IF_ERROR(AddEngine(FormerTier(), true, known ? &reads : nullptr));
  }
  AddFormerEngine();
  return {};
}

void Planner::ApplyPooler(const TierSettings& tier, const std::string& endpoint) {
  Apply(kube::kDeployments, RenderPooler(context_, tier, endpoint));
  Apply(kube::kPodDisruptionBudgets, RenderPoolerBudget(context_, endpoint));
  // It may have begun to leave before the policy was changed again.
  const nlohmann::json* live = seen_.Object(kube::kDeployments, PoolerName(policy(), endpoint));
  if (live != nullptr && !kube::StringAt(*live, {"metadata", "annotations", kDrainingAnnotation}).empty()) {
    plan_.actions.emplace_back(MarkDraining{PoolerName(policy(), endpoint), false});
  }
}

void Planner::NoteServing(const TierSettings& tier, const std::string& endpoint, int ready, bool as_wanted) {
  if (ready < tier.pooler.instances) {
    Wait("pooler " + endpoint + ": " + std::to_string(ready) + " of " + std::to_string(tier.pooler.instances) +
         " pods ready");
  } else if (as_wanted) {
    serving_.insert(endpoint);
  }
}

Status Planner::AddReloadsOf(
    const TierSettings& tier, const std::string& endpoint, bool former,
    const std::function<Result<std::vector<poolers::Difference>>(const PoolerPodSeen&)>& differences,
    const std::function<Action(const PoolerPodSeen&)>& reload) {
  int ready = 0;
  bool as_wanted = true;
  for (const PoolerPodSeen& pod : seen_.poolers) {
    if (pod.endpoint != endpoint || !pod.ready) continue;
    ++ready;
    if (!pod.answered) {
      as_wanted = false;
      Wait("the console of " + pod.pod + ": " + pod.error);
      continue;
    }
    PGTIER_ASSIGN_OR_RETURN(std::vector<poolers::Difference> found, differences(pod));
    if (found.empty()) continue;
    as_wanted = false;
    plan_.actions.emplace_back(SyncPodVolumes{pod.pod});
    plan_.actions.push_back(reload(pod));
    Wait(pod.pod + " to take its configuration: " + found.front().what);
  }
  if (!former) NoteServing(tier, endpoint, ready, as_wanted);
  return {};
}

Status Planner::AddPooler(const TierSettings& tier, const std::string& endpoint,
                          const std::vector<poolers::Server>& servers, bool former) {
  bool selects = endpoint == kPgBouncerReads && !tier.selected_users.empty();
  std::vector<poolers::Server> others = selects && !tier.route_reads ? std::vector{Primary()} : servers;
  PGTIER_ASSIGN_OR_RETURN(poolers::PgBouncerSettings plain, PoolerSettingsFor(context_, tier, others, credentials_));
  if (selects) PGTIER_RETURN_IF_ERROR(AddSelectedUsers(context_, tier, servers, credentials_, plain));
  // A session's connection is its client's own for as long as that stays, and keeps PgBouncer's reset. An external
  // server has no heartbeat beside it.
  if (endpoint == kPgBouncerReads && !plan_.routed.empty() && plain.pool_mode != "session" && !IsExternal()) {
    plain.server_release_query = poolers::kLeaveWhenOut;
  }
  poolers::PgBouncerSettings encrypted = WithTls(plain, Encrypted());
  bool all_encrypted = std::all_of(seen_.poolers.begin(), seen_.poolers.end(),
                                   [&](const PoolerPodSeen& pod) { return pod.endpoint != endpoint || pod.encrypted; });
  PGTIER_ASSIGN_OR_RETURN(Json secret,
                          RenderPoolerSecret(context_, endpoint, IsExternal() ? nullptr : &encrypted,
                                             all_encrypted && !IsExternal() ? nullptr : &plain, credentials_));
  Apply(kube::kSecrets, std::move(secret));
  if (!former) ApplyPooler(tier, endpoint);
  auto settings_of = [&](const PoolerPodSeen& pod) -> const poolers::PgBouncerSettings& {
    return pod.encrypted ? encrypted : plain;
  };
  auto certificate_of = [&](const PoolerPodSeen& pod) {
    return pod.encrypted ? credentials_.tls.pooler.fingerprint : "";
  };
  return AddReloadsOf(
      tier, endpoint, former,
      [&](const PoolerPodSeen& pod) -> Result<std::vector<poolers::Difference>> {
        PGTIER_ASSIGN_OR_RETURN(std::vector<poolers::Difference> found,
                                poolers::CompareWithRunning(settings_of(pod), pod.config, pod.databases));
        if (pod.certificate != certificate_of(pod)) {
          found.push_back({"certificate", certificate_of(pod), pod.certificate});
        }
        return found;
      },
      [&](const PoolerPodSeen& pod) {
        return ReloadPooler{pod.pod, pod.ip, settings_of(pod), certificate_of(pod)};
      });
}

void Planner::AddRecord() {
  if (seen_.primary.tier == decision_.to) return;
  plan_.actions.emplace_back(RecordTier{decision_.to, seen_.primary.epoch});
  Wait("the tier to be recorded in the database");
}

}  // namespace pgtier::controllers::scale_tier
