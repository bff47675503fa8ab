#include "controllers/scale_tier/manifests_common.h"

#include "controllers/scale_tier/names.h"

namespace pgtier::controllers::scale_tier {

using Json = nlohmann::json;

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
  // No app.kubernetes.io/instance: Argo CD takes what carries the name of an Application there for a part of it that is
  // no longer in Git, and prunes it: of a retained database also the volumes.
  return {{"app.kubernetes.io/managed-by", "pgtier"}, {kPolicyLabel, context.policy.meta.name}};
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
          // A pod that is not ready serves nobody, and holds no drain of a node up.
          {"spec",
           {{"maxUnavailable", 1},
            {"unhealthyPodEvictionPolicy", "AlwaysAllow"},
            {"selector", {{"matchLabels", match_labels}}}}}};
}

}  // namespace pgtier::controllers::scale_tier
