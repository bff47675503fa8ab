// What a scene's poolers do with what they are told.
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {

void Scene::SetPaused(const std::vector<PoolerConsole>& consoles, bool held) {
  for (const PoolerConsole& console : consoles) {
    for (PoolerPodSeen& pod : seen.poolers) {
      for (poolers::DatabaseStats& row : pod.databases) {
        if (pod.pod == console.pod && row.name == console.database) row.paused = held;
      }
    }
  }
}

void Scene::SetBan(const std::string& pod, const std::string& host, bool banned) {
  for (PoolerPodSeen& each : seen.poolers) {
    if (each.pod != pod) continue;
    for (poolers::DatabaseStats& row : each.databases) {
      if (row.host == host) row.disabled = banned;
    }
    std::erase(each.banned, host);
    if (banned) each.banned.push_back(host);
  }
}

std::string Scene::RoutedTo(const std::string& endpoint) const {
  for (const PoolerPodSeen& pod : seen.poolers) {
    if (pod.endpoint != endpoint) continue;
    std::string hosts;
    for (const poolers::DatabaseStats& row : pod.databases) {
      if (!row.disabled) hosts += (hosts.empty() ? "" : ",") + row.host;
    }
    return hosts;
  }
  return "";
}

}  // namespace pgtier::controllers::scale_tier
