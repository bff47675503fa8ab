// Pieces that the manifests of Postgres and of poolers share.
#pragma once

#include "controllers/scale_tier/manifests.h"

namespace pgtier::controllers::scale_tier {

// metadata with name, namespace, the policy's labels, `more_labels`, and the owner where the policy removes.
nlohmann::json ObjectMeta(const RenderContext& context, const std::string& name,
                          const nlohmann::json& more_labels = nlohmann::json::object());
nlohmann::json PolicyLabels(const RenderContext& context);
// `data` of a Secret: every value in base64. (stringData would not compare equal to what the apiserver returns.)
nlohmann::json EncodeSecretData(const nlohmann::json& texts);
// Security contexts of the Pod Security Standard "restricted".
nlohmann::json RestrictedPodSecurity(int user);
nlohmann::json RestrictedContainerSecurity();
// Affinity that prefers one pod with these labels a node.
nlohmann::json SpreadOverNodes(const nlohmann::json& match_labels);
// A Service on Postgres' port over the pods with these labels.
nlohmann::json RenderService(const RenderContext& context, const std::string& name, const nlohmann::json& selector);
// A PodDisruptionBudget that lets one pod at a time go.
nlohmann::json RenderBudget(const RenderContext& context, const std::string& name, const nlohmann::json& match_labels);

}  // namespace pgtier::controllers::scale_tier
