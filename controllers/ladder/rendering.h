// Pieces of the Kubernetes objects that controllers render, and how rendered ones are compared with live ones. Pure.
#pragma once

#include <nlohmann/json.hpp>

namespace pgtier::controllers {

// `data` of a Secret: every value in base64. (stringData would not compare equal to what the apiserver returns.)
nlohmann::json EncodeSecretData(const nlohmann::json& texts);
// Security contexts of the Pod Security Standard "restricted".
nlohmann::json RestrictedPodSecurity(int user);
nlohmann::json RestrictedContainerSecurity();
// Affinity that prefers one pod with these labels a node.
nlohmann::json SpreadOverNodes(const nlohmann::json& match_labels);
// Puts the hash of `object` into its annotation pgtier.dev/hash.
void Stamp(nlohmann::json& object);
// Whether `live` holds everything that `desired` says: members of objects, elements of lists by place.
bool Covers(const nlohmann::json& live, const nlohmann::json& desired);

}  // namespace pgtier::controllers
