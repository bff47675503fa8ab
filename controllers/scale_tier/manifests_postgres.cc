#include "controllers/scale_tier/manifests_common.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/passwords.h"
#include "controllers/scale_tier/postgres_config.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

constexpr int kPostgresUser = 999;  // images/postgres.Dockerfile

Json Variable(const char* name, const std::string& value) { return {{"name", name}, {"value", value}}; }

Json Mount(const char* name, const char* path, bool read_only) {
  Json mount{{"name", name}, {"mountPath", path}};
  if (read_only) mount["readOnly"] = true;
  return mount;
}

Json PostgresContainer(const RenderContext& context, int ordinal, const std::string& image) {
  const crds::ManagedPostgres& managed = *context.policy.spec.managed;
  const std::string& policy = context.policy.meta.name;
  std::string instance = InstanceName(policy, ordinal);
  // Once is enough: it tries the server twice itself, and a standby that is out is out.
  // An image of before keeps its pods, and has no heartbeat.
  const char* probe =
      "command -v pgtier-heartbeat >/dev/null && exec pgtier-heartbeat ready; "
      "exec pg_isready --quiet --host=/run/postgresql";
  Json ready{{"exec", {{"command", Json::array({"sh", "-c", probe})}}},
             {"periodSeconds", 1},
             {"timeoutSeconds", 8},
             {"failureThreshold", 1}};
  Json container{
      {"name", "postgres"},
      {"image", image},
      {"imagePullPolicy", "IfNotPresent"},
      {"command", Json::array({"pgtier-postgres"})},
      {"env", Json::array({Variable("PGDATA", "/var/lib/postgresql/data/pgdata"), Variable("PGTIER_INSTANCE", instance),
                           Variable("PGTIER_BOOTSTRAP", ordinal == 1 ? "initdb" : "basebackup"),
                           Variable("PGTIER_PRIMARY_HOST", PrimaryService(policy)),
                           Variable("PGTIER_SLOT", SlotName(instance))})},
      {"ports", Json::array({{{"name", "postgres"}, {"containerPort", kPostgresPort}, {"protocol", "TCP"}}})},
      {"readinessProbe", ready},
      {"securityContext", RestrictedContainerSecurity()},
      {"volumeMounts",
       Json::array({Mount("data", "/var/lib/postgresql/data", false), Mount("config", "/etc/pgtier/config", true),
                    Mount("secrets", "/etc/pgtier/secrets", true), Mount(kTlsVolume, kTlsFolder, true),
                    Mount("run", "/run/postgresql", false), Mount("tmp", "/tmp", false),
                    Mount("shm", "/dev/shm", false)})}};
  Json resources = Json::object();
  if (!managed.requests.empty()) resources["requests"] = managed.requests;
  if (!managed.limits.empty()) resources["limits"] = managed.limits;
  if (!resources.empty()) container["resources"] = resources;
  return container;
}

Json Volumes(const std::string& policy) {
  Json secret_items =
      Json::array({{{"key", "superuser"}, {"path", "superuser"}}, {{"key", "replication"}, {"path", "replication"}}});
  return Json::array(
      {{{"name", "config"}, {"configMap", {{"name", PostgresConfig(policy)}}}},
       {{"name", "secrets"},
        {"secret", {{"secretName", InternalSecret(policy)}, {"items", secret_items}, {"defaultMode", 0440}}}},
       {{"name", kTlsVolume}, {"secret", {{"secretName", PostgresTlsSecret(policy)}, {"defaultMode", 0440}}}},
       {{"name", "run"}, {"emptyDir", Json::object()}},
       {{"name", "tmp"}, {"emptyDir", Json::object()}},
       // The runtime's default of 64 MiB is too small for parallel queries.
       {{"name", "shm"}, {"emptyDir", {{"medium", "Memory"}, {"sizeLimit", "1Gi"}}}}});
}

Json VolumeClaim(const RenderContext& context) {
  const crds::ManagedPostgres& managed = *context.policy.spec.managed;
  Json spec{{"accessModes", Json::array({"ReadWriteOnce"})},
            {"resources", {{"requests", {{"storage", managed.storage_size}}}}}};
  if (!managed.storage_class_name.empty()) spec["storageClassName"] = managed.storage_class_name;
  // apiVersion and kind are what the apiserver adds; said here, the object compares equal to the stored one.
  return {{"apiVersion", "v1"},
          {"kind", "PersistentVolumeClaim"},
          {"metadata", {{"name", "data"}, {"labels", PolicyLabels(context)}}},
          {"spec", spec}};
}

void AddScheduling(const crds::ManagedPostgres& managed, Json& pod) {
  if (!managed.node_selector.empty()) pod["nodeSelector"] = managed.node_selector;
  if (!managed.priority_class_name.empty()) pod["priorityClassName"] = managed.priority_class_name;
  for (const crds::Toleration& toleration : managed.tolerations) {
    Json item = Json::object();
    if (!toleration.key.empty()) item["key"] = toleration.key;
    if (!toleration.operator_.empty()) item["operator"] = toleration.operator_;
    if (!toleration.value.empty()) item["value"] = toleration.value;
    if (!toleration.effect.empty()) item["effect"] = toleration.effect;
    if (toleration.seconds.has_value()) item["tolerationSeconds"] = *toleration.seconds;
    pod["tolerations"].push_back(item);
  }
  for (const std::string& secret : managed.image_pull_secrets) pod["imagePullSecrets"].push_back({{"name", secret}});
}

Json Secret(const RenderContext& context, const std::string& name, const std::string& type, const Json& data) {
  return {{"apiVersion", "v1"},
          {"kind", "Secret"},
          {"metadata", ObjectMeta(context, name, {{kUseLabel, "postgres"}})},
          {"type", type},
          {"data", EncodeSecretData(data)}};
}

}  // namespace

Json RenderAppSecret(const RenderContext& context, const Credentials& credentials) {
  const crds::ScaleTierPolicySpec& spec = context.policy.spec;
  bool external = credentials.external.has_value();
  const std::string& database = external ? spec.external->database : spec.managed->database;
  const PasswordRotation& rotation = credentials.rotation;
  const std::string& own = rotation.Told() ? credentials.app : rotation.app;
  std::string host = context.resolved.endpoint + "-rw." + context.policy.meta.namespace_ + ".svc";
  return Secret(context, AppSecret(context.policy.meta.name), "kubernetes.io/basic-auth",
                {{"username", external ? credentials.external->app.user : AppRole(database, rotation.NumberTold())},
                 {"password", external ? credentials.external->app.password : own},
                 {"dbname", database},
                 {"host", host},
                 {"host-ro", context.resolved.endpoint + "-ro." + context.policy.meta.namespace_ + ".svc"},
                 {"port", std::to_string(kPostgresPort)},
                 {"ca.crt", credentials.tls.Trust()}});
}

Json RenderAuthoritySecret(const RenderContext& context, const Certificates& certificates) {
  Json secret = Secret(context, AuthoritySecret(context.policy.meta.name), "Opaque",
                       {{"ca.crt", certificates.authority.certificate},
                        {"ca.key", certificates.authority.key},
                        {"former.crt", certificates.former},
                        {"cross.crt", certificates.cross}});
  secret["metadata"]["annotations"][kRotateCertificatesAnnotation] = certificates.request;
  return secret;
}

Json RenderPostgresTlsSecret(const RenderContext& context, const ServerCertificate& certificate) {
  // postgresql.conf includes this where it is mounted, so the files and the word for them come together.
  std::string folder = kTlsFolder;
  std::string conf = "ssl = on\nssl_cert_file = '" + folder + "/tls.crt'\nssl_key_file = '" + folder +
                     "/tls.key'\nssl_min_protocol_version = 'TLSv1.2'\n";
  return Secret(context, PostgresTlsSecret(context.policy.meta.name), "kubernetes.io/tls",
                {{"tls.crt", certificate.identity.certificate},
                 {"tls.key", certificate.identity.key},
                 {"ca.crt", certificate.trust},
                 {"postgresql.conf", conf}});
}

Json RenderPoolerTlsSecret(const RenderContext& context, const ServerCertificate& certificate) {
  return Secret(context, PoolerTlsSecret(context.policy.meta.name), "kubernetes.io/tls",
                {{"tls.crt", certificate.identity.certificate},
                 {"tls.key", certificate.identity.key},
                 {"ca.crt", certificate.trust}});
}

Json RenderInternalSecret(const RenderContext& context, const Credentials& credentials) {
  if (context.policy.spec.external.has_value()) {
    return Secret(context, InternalSecret(context.policy.meta.name), "Opaque",
                  {{"pooler-admin", credentials.pooler_admin}});
  }
  Json data{{"superuser", credentials.superuser},
            {"replication", credentials.replication},
            {"pooler", credentials.pooler},
            {"monitor", credentials.monitor},
            {"pooler-admin", credentials.pooler_admin}};
  const PasswordRotation& rotation = credentials.rotation;
  if (rotation.number == 0) return Secret(context, InternalSecret(context.policy.meta.name), "Opaque", data);
  // Empty and not left out, so that what is not valid any more goes.
  data["former-superuser"] = rotation.superuser;
  data["former-pooler"] = rotation.pooler;
  data["former-monitor"] = rotation.monitor;
  data["former-pooler-admin"] = rotation.pooler_admin;
  data["app"] = rotation.former ? credentials.app : "";  // Until <policy>-app has it for certain.
  Json secret = Secret(context, InternalSecret(context.policy.meta.name), "Opaque", data);
  Json& annotations = secret["metadata"]["annotations"];
  annotations[kRotatePasswordsAnnotation] = rotation.request;
  annotations[kPasswordNumberAnnotation] = std::to_string(rotation.number);
  annotations[kPasswordsToldAnnotation] = rotation.told.has_value() ? FormatTime(*rotation.told) : "";
  annotations[kPasswordsFormerAnnotation] = rotation.former ? "valid" : "ended";
  return secret;
}

Json RenderPostgresConfigMap(const RenderContext& context, const PostgresTerms& terms) {
  PostgresFiles files = RenderPostgresFiles(context.policy, context.resolved, terms);
  return {
      {"apiVersion", "v1"},
      {"kind", "ConfigMap"},
      {"metadata", ObjectMeta(context, PostgresConfig(context.policy.meta.name))},
      {"data", {{"postgresql.conf", files.conf}, {"pg_hba.conf", files.hba}, {"primary_conninfo", files.conninfo}}}};
}

Json RenderInstanceService(const RenderContext& context, int ordinal) {
  std::string instance = InstanceName(context.policy.meta.name, ordinal);
  return RenderService(context, instance, {{kPolicyLabel, context.policy.meta.name}, {kInstanceLabel, instance}});
}

Json RenderPrimaryService(const RenderContext& context, int primary_ordinal) {
  const std::string& policy = context.policy.meta.name;
  return RenderService(context, PrimaryService(policy),
                       {{kPolicyLabel, policy}, {kInstanceLabel, InstanceName(policy, primary_ordinal)}});
}

Json RenderInstance(const RenderContext& context, int ordinal, const std::string& image) {
  const std::string& policy = context.policy.meta.name;
  std::string instance = InstanceName(policy, ordinal);
  Json labels = PolicyLabels(context);
  labels["app.kubernetes.io/name"] = "postgres";
  labels[kInstanceLabel] = instance;
  Json pod{{"automountServiceAccountToken", false},
           {"enableServiceLinks", false},
           // A fast shutdown writes a checkpoint; killed before its end, the next start replays WAL.
           {"terminationGracePeriodSeconds", 120},
           {"securityContext", RestrictedPodSecurity(kPostgresUser)},
           {"affinity", SpreadOverNodes({{kPolicyLabel, policy}, {"app.kubernetes.io/name", "postgres"}})},
           {"containers", Json::array({PostgresContainer(context, ordinal, image)})},
           {"volumes", Volumes(policy)}};
  AddScheduling(*context.policy.spec.managed, pod);
  bool remove = context.policy.spec.deletion_policy == "Remove";
  return {{"apiVersion", "apps/v1"},
          {"kind", "StatefulSet"},
          {"metadata", ObjectMeta(context, instance, {{kInstanceLabel, instance}})},
          {"spec",
           {{"replicas", 1},
            {"serviceName", instance},
            {"selector", {{"matchLabels", {{kPolicyLabel, policy}, {kInstanceLabel, instance}}}}},
            // A new template restarts Postgres: that is for the operator to time, not for an edit to cause.
            {"updateStrategy", {{"type", "OnDelete"}}},
            {"persistentVolumeClaimRetentionPolicy",
             {{"whenDeleted", remove ? "Delete" : "Retain"}, {"whenScaled", "Retain"}}},
            {"template", {{"metadata", {{"labels", labels}}}, {"spec", pod}}},
            {"volumeClaimTemplates", Json::array({VolumeClaim(context)})}}}};
}

Json RenderInstanceBudget(const RenderContext& context) {
  const std::string& policy = context.policy.meta.name;
  return RenderBudget(context, PostgresConfig(policy),
                      {{kPolicyLabel, policy}, {"app.kubernetes.io/name", "postgres"}});
}

}  // namespace pgtier::controllers::scale_tier
