#include "controllers/ladder/rendering.h"

#include <cmath>
#include <functional>

#include "controllers/ladder/names.h"
#include "lib/base/base64.h"
#include "lib/base/quantity.h"

namespace pgtier::controllers {

using Json = nlohmann::json;

namespace {

// The apiserver writes quantities in its own way: 0.5 as 500m, 1024Mi as 1Gi.
bool SameQuantity(const Json& live, const Json& desired) {
  if (!live.is_string() || !desired.is_string()) return false;
  Result<double> a = ParseResourceQuantity(live.get<std::string>());
  Result<double> b = ParseResourceQuantity(desired.get<std::string>());
  return a.has_value() && b.has_value() && std::fabs(*a - *b) <= 1e-9 * std::fabs(*b);
}

}  // namespace

Json EncodeSecretData(const Json& texts) {
  Json data = Json::object();
  for (const auto& [key, text] : texts.items()) data[key] = EncodeBase64(text.get<std::string>());
  return data;
}

Json RestrictedPodSecurity(int user) {
  return {{"runAsNonRoot", true},
          {"runAsUser", user},
          {"runAsGroup", user},
          {"fsGroup", user},
          {"fsGroupChangePolicy", "OnRootMismatch"},
          {"seccompProfile", {{"type", "RuntimeDefault"}}}};
}

Json RestrictedContainerSecurity() {
  return {{"allowPrivilegeEscalation", false},
          {"readOnlyRootFilesystem", true},
          {"capabilities", {{"drop", Json::array({"ALL"})}}}};
}

Json SpreadOverNodes(const Json& match_labels) {
  return {{"podAntiAffinity",
           {{"preferredDuringSchedulingIgnoredDuringExecution",
             Json::array({{{"weight", 100},
                           {"podAffinityTerm",
                            {{"labelSelector", {{"matchLabels", match_labels}}},
                             {"topologyKey", "kubernetes.io/hostname"}}}}})}}}};
}

void Stamp(Json& object) {
  size_t hash = std::hash<std::string>{}(object.dump());
  object["metadata"]["annotations"][kHashAnnotation] = std::to_string(hash);
}

bool Covers(const Json& live, const Json& desired) {
  if (desired.is_object()) {
    if (!live.is_object()) return false;
    for (const auto& [name, value] : desired.items()) {
      auto found = live.find(name);
      if (found == live.end()) {
        // The apiserver drops empty maps and lists.
        if ((value.is_object() || value.is_array()) && value.empty()) continue;
        return false;
      }
      if (!Covers(*found, value)) return false;
    }
    return true;
  }
  if (desired.is_array()) {
    if (!live.is_array() || live.size() != desired.size()) return false;
    for (size_t i = 0; i < desired.size(); ++i) {
      if (!Covers(live[i], desired[i])) return false;
    }
    return true;
  }
  return live == desired || SameQuantity(live, desired);
}

}  // namespace pgtier::controllers
