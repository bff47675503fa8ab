// Pieces that the manifests of Postgres and of poolers share.
#pragma once

#include "controllers/scale_tier/manifests.h"

namespace pgtier::controllers::scale_tier {

// metadata with name, namespace, the policy's labels, `more_labels`, and the owner where the policy removes.
nlohmann::json ObjectMeta(const RenderContext& context, const std::string& name,
                          const nlohmann::json& more_labels = nlohmann::json::object());
nlohmann::json PolicyLabels(const RenderContext& context);
// A Service on Postgres' port over the pods with these labels.
nlohmann::json RenderService(const RenderContext& context, const std::string& name, const nlohmann::json& selector);
// A PodDisruptionBudget that lets one pod at a time go.
nlohmann::json RenderBudget(const RenderContext& context, const std::string& name, const nlohmann::json& match_labels);

}  // namespace pgtier::controllers::scale_tier
