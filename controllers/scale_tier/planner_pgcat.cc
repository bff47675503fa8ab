// PgCat's poolers: configuration, and bans for what must not wait for it.
#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"

namespace pgtier::controllers::scale_tier {

Status Planner::AddPgCat(const TierSettings& tier, const std::string& endpoint,
                         const std::vector<poolers::Server>& servers, bool former) {
  poolers::PgCatSettings settings = PgCatSettingsFor(context_, tier, endpoint, servers, credentials_);
  PGTIER_ASSIGN_OR_RETURN(nlohmann::json secret, RenderPgCatSecret(context_, endpoint, settings));
  Apply(kube::kSecrets, std::move(secret));
  if (!former) ApplyPooler(tier, endpoint);
  return AddReloadsOf(
      tier, endpoint, former,
      [&](const PoolerPodSeen& pod) {
        AddBans(pod, servers);
        return poolers::CompareWithRunning(settings, pod.config, pod.databases);
      },
      [&](const PoolerPodSeen& pod) {
        return ReloadPgCat{pod.pod, pod.ip, settings};
      });
}

// A host that must not take reads any more is banned at once. Not the last one: PgCat forgets all bans when every
// replica has one, and without a replica that may take reads only the configuration leads them to the primary.
void Planner::AddBans(const PoolerPodSeen& pod, const std::vector<poolers::Server>& servers) {
  auto wanted = [&](const std::string& host) {
    return std::any_of(servers.begin(), servers.end(),
                       [&](const poolers::Server& server) { return server.host == host; });
  };
  auto is_replica = [](const poolers::DatabaseStats& row) { return row.name.find("_replica_") != std::string::npos; };
  bool another = std::any_of(pod.databases.begin(), pod.databases.end(), [&](const poolers::DatabaseStats& row) {
    return is_replica(row) && !row.disabled && wanted(row.host);
  });
  for (const poolers::DatabaseStats& row : pod.databases) {
    if (!is_replica(row) || row.disabled || wanted(row.host) || !another) continue;
    plan_.actions.emplace_back(BanReplica{pod.pod, pod.ip, row.host});
  }
  for (const std::string& host : pod.banned) {
    if (wanted(host)) plan_.actions.emplace_back(UnbanReplica{pod.pod, pod.ip, host});
  }
}

}  // namespace pgtier::controllers::scale_tier
