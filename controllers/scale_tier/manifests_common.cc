#include "controllers/scale_tier/manifests_common.h"

#include <cmath>
#include <functional>

#include "controllers/scale_tier/names.h"
#include "lib/base/base64.h"
#include "lib/base/quantity.h"

namespace pgtier::controllers::scale_tier {

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

Json ObjectMeta(const RenderContext& context, const std::string& name, const Json& more_labels) {
  const crds::Meta& policy = context.policy.meta;
  Json metadata{{"name", name}, {"namespace", policy.namespace_}, {"labels", PolicyLabels(context)}};
  metadata["labels"].update(more_labels);
  // With Retain nothing is owned: not even a foreground deletion of the policy may take the database with it.
  if (context.policy.spec.deletion_policy == "Remove") {
    metadata["ownerReferences"] = Json::array({{{"apiVersion", std::string(crds::kGroup) + "/" + crds::kVersion},
                                                {"kind", "ScaleTierPolicy"},
                                                {"name", policy.name},
                                                {"uid", policy.uid},
                                                {"controller", true},
                                                {"blockOwnerDeletion", true}}});
  }
  return metadata;
}

Json PolicyLabels(const RenderContext& context) {
  return {{"app.kubernetes.io/managed-by", "pgtier"},
          {"app.kubernetes.io/instance", context.policy.meta.name},
          {kPolicyLabel, context.policy.meta.name}};
}

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

Json RenderService(const RenderContext& context, const std::string& name, const Json& selector) {
  Json port{{"name", "postgres"}, {"port", kPostgresPort}, {"targetPort", "postgres"}, {"protocol", "TCP"}};
  return {{"apiVersion", "v1"},
          {"kind", "Service"},
          {"metadata", ObjectMeta(context, name)},
          {"spec", {{"type", "ClusterIP"}, {"selector", selector}, {"ports", Json::array({port})}}}};
}

Json RenderBudget(const RenderContext& context, const std::string& name, const Json& match_labels) {
  return {{"apiVersion", "policy/v1"},
          {"kind", "PodDisruptionBudget"},
          {"metadata", ObjectMeta(context, name)},
          {"spec", {{"maxUnavailable", 1}, {"selector", {{"matchLabels", match_labels}}}}}};
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

}  // namespace pgtier::controllers::scale_tier
