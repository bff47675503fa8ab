#include "controllers/sql_migration/manifests.h"

#include "controllers/ladder/rendering.h"
#include "controllers/scale_tier/names.h"
#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/resources.h"
#include "lib/base/sha256.h"
#include "lib/base/time_format.h"
#include "migrations/runner.h"

namespace pgtier::controllers::sql_migration {
namespace {

using Json = nlohmann::json;

constexpr int kUser = 65532;              // images/pgtier.Dockerfile
constexpr int kGraceSeconds = 30;         // the runner ends its batch within eight
constexpr int kBackoffLimit = 1'000'000;  // what may pass is tried for as long as it takes
constexpr size_t kHashLength = 16;

Json ObjectMeta(const ManifestContext& context) {
  const crds::Meta& migration = context.migration.meta;
  return {{"name", MigrationJob(migration.name)},
          {"namespace", migration.namespace_},
          {"labels", {{"app.kubernetes.io/managed-by", "pgtier"}, {kMigrationLabel, migration.name}}},
          {"ownerReferences", Json::array({{{"apiVersion", kSqlMigrations.ApiVersion()},
                                            {"kind", std::string(kSqlMigrations.kind)},
                                            {"name", migration.name},
                                            {"uid", migration.uid}}})}};
}

bool Verifies(const Database& database) { return database.worker.ssl_mode.starts_with("verify"); }

Json ConfigOf(const ManifestContext& context) {
  const crds::SqlMigrationSpec& spec = context.migration.spec;
  const WorkerPeer& peer = context.database.worker;
  Json database{{"host", peer.host},
                {"port", peer.port},
                {"name", context.database.admin.database},
                {"user", context.database.admin.user},
                {"passwordFile", std::string(kCredentialsFolder) + "/password"},
                {"sslMode", peer.ssl_mode}};
  if (Verifies(context.database)) database["caFile"] = std::string(kConfigFolder) + "/" + kAuthorityKey;
  Json config{{"migration", context.resolved.name},
              {"database", database},
              {"resultFile", kResultFile},
              {"steps", Json::array()}};
  for (const migrations::StepConfig& step : context.resolved.steps) config["steps"].push_back(step.definition);
  if (spec.lock_timeout.has_value()) config["lockTimeout"] = FormatDuration(*spec.lock_timeout);
  if (spec.replica_lag.has_value()) config["throttle"]["replicaLag"] = FormatDuration(*spec.replica_lag);
  if (spec.slot_retained.has_value()) {
    config["throttle"]["slotRetained"] = std::to_string(static_cast<int64_t>(*spec.slot_retained));
  }
  if (spec.dry_run) config["dryRun"] = true;
  return config;
}

Json PodTemplate(const ManifestContext& context) {
  const crds::Meta& migration = context.migration.meta;
  Json labels = ObjectMeta(context)["labels"];
  labels["app.kubernetes.io/name"] = "pgtier-migrate";
  // By this the primary's NetworkPolicy lets it in.
  if (!context.migration.spec.database_name.empty()) {
    labels[scale_tier::kDatabaseLabel] = context.migration.spec.database_name;
  }
  Json container{{"name", kContainer},
                 {"image", context.image},
                 {"imagePullPolicy", "IfNotPresent"},
                 {"command", Json::array({"pgtier-migrate"})},
                 {"args", Json::array({"--config", std::string(kConfigFolder) + "/" + kConfigKey})},
                 {"terminationMessagePath", kResultFile},
                 {"resources", {{"requests", {{"cpu", "50m"}, {"memory", "32Mi"}}}, {"limits", {{"memory", "256Mi"}}}}},
                 {"securityContext", RestrictedContainerSecurity()},
                 {"volumeMounts",
                  Json::array({{{"name", "config"}, {"mountPath", kConfigFolder}, {"readOnly", true}},
                               {{"name", "credentials"}, {"mountPath", kCredentialsFolder}, {"readOnly", true}}})}};
  Json secret{{"secretName", context.database.worker.admin_secret},
              {"defaultMode", 0440},
              {"items", Json::array({{{"key", context.database.worker.admin_key}, {"path", "password"}}})}};
  Json pod{{"automountServiceAccountToken", false},
           {"enableServiceLinks", false},
           {"restartPolicy", "Never"},
           {"terminationGracePeriodSeconds", kGraceSeconds},
           {"securityContext", RestrictedPodSecurity(kUser)},
           {"containers", Json::array({container})},
           {"volumes", Json::array({{{"name", "config"}, {"configMap", {{"name", MigrationJob(migration.name)}}}},
                                    {{"name", "credentials"}, {"secret", secret}}})}};
  return {{"metadata", {{"labels", labels}}}, {"spec", pod}};
}

Json OnExit(const char* action, std::vector<int> codes) {
  return {{"action", action}, {"onExitCodes", {{"containerName", kContainer}, {"operator", "In"}, {"values", codes}}}};
}

}  // namespace

std::string HashOfJob(const ManifestContext& context) {
  return Sha256Hex(ConfigOf(context).dump() + PodTemplate(context).dump()).substr(0, kHashLength);
}

Json RenderConfig(const ManifestContext& context) {
  Json data{{kConfigKey, ConfigOf(context).dump(2) + "\n"}};
  if (Verifies(context.database)) data[kAuthorityKey] = context.database.worker.ca_pem;
  return {{"apiVersion", "v1"}, {"kind", "ConfigMap"}, {"metadata", ObjectMeta(context)}, {"data", data}};
}

Json RenderJob(const ManifestContext& context) {
  Json metadata = ObjectMeta(context);
  metadata["annotations"][kHashAnnotation] = HashOfJob(context);
  Json disrupted{{"action", "Ignore"},
                 {"onPodConditions", Json::array({{{"type", "DisruptionTarget"}, {"status", "True"}}})}};
  return {{"apiVersion", "batch/v1"},
          {"kind", "Job"},
          {"metadata", metadata},
          {"spec",
           {{"backoffLimit", kBackoffLimit},
            {"completions", 1},
            {"parallelism", 1},
            {"suspend", false},
            // A pod that ends is replaced once it has ended, so that two never wait for one another's lock.
            {"podReplacementPolicy", "Failed"},
            {"podFailurePolicy",
             {{"rules", Json::array({OnExit("FailJob", {migrations::kExitRefused, migrations::kExitFailed}),
                                     OnExit("Ignore", {migrations::kExitStopped}), disrupted})}}},
            {"template", PodTemplate(context)}}}};
}

}  // namespace pgtier::controllers::sql_migration
