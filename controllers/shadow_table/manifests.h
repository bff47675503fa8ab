// The Kubernetes objects of a policy, rendered. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "controllers/database/database.h"
#include "controllers/shadow_table/resolve.h"
#include "crds/shadow_table_policy.h"

namespace pgtier::controllers::shadow_table {

struct ManifestContext {
  const crds::ShadowTablePolicy& policy;
  const Resolved& resolved;
  const Database& database;
  const std::string& image;
  int workers = 1;
  shadow::Tier tier = shadow::Tier::kNotify;  // Whose worker: notify or cdc.
  bool payload = false;                       // That of notify listens for rows.
};

// Of a tier's worker: its role's password and the authority to trust; worker.json; pgtier-worker.
nlohmann::json RenderWorkerSecret(const ManifestContext& context);
nlohmann::json RenderWorkerConfig(const ManifestContext& context);
nlohmann::json RenderWorker(const ManifestContext& context);

}  // namespace pgtier::controllers::shadow_table
