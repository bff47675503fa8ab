#include "controllers/shadow_table/manifests.h"

#include "controllers/ladder/rendering.h"
#include "controllers/scale_tier/names.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/resources.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;

constexpr int kWorkerUser = 65532;  // images/pgtier.Dockerfile
constexpr int kBatchRows = 1000;
constexpr char kBatchInterval[] = "100ms";
constexpr char kSpillMemory[] = "16Mi";
// cdc holds one row at a time, three times or four: as it came, and as it goes. Some rows have a hundred megabytes.
constexpr char kWorkerMemory[] = "1Gi";

bool IsCdc(const ManifestContext& context) { return context.tier == shadow::Tier::kCdc; }

std::string NameOf(const ManifestContext& context) {
  const std::string& policy = context.policy.meta.name;
  return IsCdc(context) ? CdcWorker(policy) : NotifyWorker(policy);
}

Json LabelsOf(const crds::Meta& policy) {
  return {{"app.kubernetes.io/managed-by", "pgtier"}, {kShadowPolicyLabel, policy.name}};
}

// The Deployment is not owned: a foreground deletion of the policy would end the worker before its queue is empty. The
// plan deletes it. What it mounts goes with the policy.
Json ObjectMeta(const ManifestContext& context, bool owned) {
  const crds::Meta& policy = context.policy.meta;
  Json metadata{{"name", NameOf(context)}, {"namespace", policy.namespace_}, {"labels", LabelsOf(policy)}};
  if (owned) {
    metadata["ownerReferences"] = Json::array({{{"apiVersion", kShadowTablePolicies.ApiVersion()},
                                                {"kind", std::string(kShadowTablePolicies.kind)},
                                                {"name", policy.name},
                                                {"uid", policy.uid}}});
  }
  return metadata;
}

bool Verifies(const Database& database) { return database.worker.ssl_mode.starts_with("verify"); }

Json ConfigOf(const ManifestContext& context) {
  const shadow::Spec& spec = context.resolved.spec;
  const WorkerPeer& peer = context.database.worker;
  std::string folder = kCredentialsFolder;
  Json database{{"host", peer.host},
                {"port", peer.port},
                {"name", context.database.admin.database},
                {"user", std::string(IsCdc(context) ? shadow::kCdcRole : shadow::kNotifyRole)},
                {"passwordFile", folder + "/password"},
                {"sslMode", peer.ssl_mode}};
  if (Verifies(context.database)) database["caFile"] = folder + "/ca.crt";
  Json config{{"policy", spec.policy},
              {"mode", std::string(shadow::TierName(context.tier))},
              {"database", database},
              {"batch", {{"rows", kBatchRows}, {"interval", kBatchInterval}}},
              {"listen", {{"address", "0.0.0.0"}, {"port", kWorkerPort}}}};
  if (IsCdc(context)) {
    config["slot"] = spec.slot;
    config["publication"] = shadow::PublicationName(spec);
    config["spill"] = {{"memory", kSpillMemory}, {"directory", kSpillFolder}};
  } else {
    config["channel"] = spec.channel;
    if (context.payload) config["delivery"] = "Payload";
  }
  return config;
}

}  // namespace

Json RenderWorkerSecret(const ManifestContext& context) {
  Json files{{"password", context.database.worker.password}};
  if (Verifies(context.database)) files["ca.crt"] = context.database.worker.ca_pem;
  return {{"apiVersion", "v1"},
          {"kind", "Secret"},
          {"metadata", ObjectMeta(context, true)},
          {"type", "Opaque"},
          {"data", EncodeSecretData(files)}};
}

Json RenderWorkerConfig(const ManifestContext& context) {
  return {{"apiVersion", "v1"},
          {"kind", "ConfigMap"},
          {"metadata", ObjectMeta(context, true)},
          {"data", {{"worker.json", ConfigOf(context).dump(2) + "\n"}}}};
}

Json RenderWorker(const ManifestContext& context) {
  const crds::Meta& policy = context.policy.meta;
  const std::string tier(shadow::TierName(context.tier));
  Json match{{kShadowPolicyLabel, policy.name}, {"app.kubernetes.io/name", "pgtier-worker"}, {kWorkerLabel, tier}};
  Json labels = LabelsOf(policy);
  labels[kWorkerLabel] = tier;
  labels["app.kubernetes.io/name"] = "pgtier-worker";
  // By this the primary's NetworkPolicy lets it in.
  if (!context.policy.spec.database_name.empty()) {
    labels[scale_tier::kDatabaseLabel] = context.policy.spec.database_name;
  }
  auto probe = [](const char* path, int period, int failures) {
    return Json{{"httpGet", {{"path", path}, {"port", "http"}}},
                {"periodSeconds", period},
                {"timeoutSeconds", 2},
                {"failureThreshold", failures}};
  };
  Json container{
      {"name", "worker"},
      {"image", context.image},
      {"imagePullPolicy", "IfNotPresent"},
      {"command", Json::array({"pgtier-worker"})},
      {"args", Json::array({"--config", kConfigFile})},
      {"ports", Json::array({{{"name", "http"}, {"containerPort", kWorkerPort}, {"protocol", "TCP"}}})},
      {"livenessProbe", probe("/healthz", 10, 6)},
      {"readinessProbe", probe("/readyz", 2, 2)},
      {"resources", {{"requests", {{"cpu", "50m"}, {"memory", "32Mi"}}}, {"limits", {{"memory", kWorkerMemory}}}}},
      {"securityContext", RestrictedContainerSecurity()},
      {"volumeMounts",
       Json::array({{{"name", "config"}, {"mountPath", "/etc/pgtier/worker"}, {"readOnly", true}},
                    {{"name", "credentials"}, {"mountPath", kCredentialsFolder}, {"readOnly", true}}})}};
  std::string name = NameOf(context);
  Json pod{
      {"automountServiceAccountToken", false},
      {"enableServiceLinks", false},
      {"terminationGracePeriodSeconds", 20},
      {"securityContext", RestrictedPodSecurity(kWorkerUser)},
      {"affinity", SpreadOverNodes(match)},
      {"containers", Json::array({container})},
      {"volumes", Json::array({{{"name", "config"}, {"configMap", {{"name", name}}}},
                               {{"name", "credentials"}, {"secret", {{"secretName", name}, {"defaultMode", 0440}}}}})}};
  // A slot has one consumer at a time: a second pod would wait for the first to end, and the first for it to be ready.
  Json strategy{{"type", "RollingUpdate"}, {"rollingUpdate", {{"maxUnavailable", 0}, {"maxSurge", 1}}}};
  if (IsCdc(context)) {
    strategy = {{"type", "Recreate"}};
    pod["containers"][0]["volumeMounts"].push_back({{"name", "spill"}, {"mountPath", kSpillFolder}});
    pod["volumes"].push_back({{"name", "spill"}, {"emptyDir", Json::object()}});
  }
  const Json scraped{{"prometheus.io/scrape", "true"}, {"prometheus.io/port", std::to_string(kWorkerPort)}};
  return {{"apiVersion", "apps/v1"},
          {"kind", "Deployment"},
          {"metadata", ObjectMeta(context, false)},
          {"spec",
           {{"replicas", context.workers},
            {"strategy", strategy},
            {"selector", {{"matchLabels", match}}},
            {"template", {{"metadata", {{"labels", labels}, {"annotations", scraped}}}, {"spec", pod}}}}}};
}

}  // namespace pgtier::controllers::shadow_table
