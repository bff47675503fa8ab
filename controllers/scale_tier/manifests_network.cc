#include "controllers/scale_tier/manifests_common.h"
#include "controllers/scale_tier/names.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

Json FromOperator(const RenderContext& context) {
  return {
      {"namespaceSelector", {{"matchLabels", {{"kubernetes.io/metadata.name", context.network.operator_namespace}}}}},
      {"podSelector", {{"matchLabels", {{"app.kubernetes.io/name", "pgtier"}}}}}};
}

// `from` empty: from anywhere.
Json Policy(const RenderContext& context, const std::string& name, const Json& pods, const Json& from) {
  Json rule{{"ports", Json::array({{{"protocol", "TCP"}, {"port", kPostgresPort}}})}};
  if (!from.empty()) rule["from"] = from;
  return {
      {"apiVersion", "networking.k8s.io/v1"},
      {"kind", "NetworkPolicy"},
      {"metadata", ObjectMeta(context, name)},
      {"spec", {{"podSelector", pods}, {"policyTypes", Json::array({"Ingress"})}, {"ingress", Json::array({rule})}}}};
}

}  // namespace

Json RenderPostgresNetworkPolicy(const RenderContext& context) {
  const std::string& policy = context.policy.meta.name;
  Json pods{{"matchLabels", {{kPolicyLabel, policy}, {"app.kubernetes.io/name", "postgres"}}}};
  // Instances and poolers carry the policy's label, and nobody else's pods.
  Json own{{"podSelector", {{"matchLabels", {{kPolicyLabel, policy}}}}}};
  // Workers of ShadowTablePolicies.
  Json workers{{"podSelector", {{"matchLabels", {{kDatabaseLabel, policy}}}}}};
  return Policy(context, PostgresConfig(policy), pods, Json::array({own, workers, FromOperator(context)}));
}

Json RenderPoolerNetworkPolicy(const RenderContext& context) {
  const std::string& policy = context.policy.meta.name;
  Json exists{{"key", kEndpointLabel}, {"operator", "Exists"}};
  Json pods{{"matchLabels", {{kPolicyLabel, policy}}}, {"matchExpressions", Json::array({exists})}};
  Json from = Json::array();
  if (context.policy.spec.endpoint_clients != "Any") {
    from = Json::array({{{"podSelector", Json::object()}}, FromOperator(context)});
  }
  return Policy(context, PoolersNetworkPolicy(policy), pods, from);
}

}  // namespace pgtier::controllers::scale_tier
