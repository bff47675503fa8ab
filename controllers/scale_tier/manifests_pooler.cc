#include <algorithm>
#include <cctype>
#include <set>

#include "controllers/scale_tier/manifests_common.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/passwords.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

constexpr int kPgBouncerUser = 998;  // images/pgbouncer.Dockerfile
constexpr int kPgCatUser = 998;      // Any: its image has no user of its own.
// Endpoints forget a pod before its pooler stops taking clients.
constexpr int64_t kEndpointsForget = 5;
constexpr char kIni[] = "pooler.ini";
constexpr char kPlainIni[] = "pgbouncer.ini";  // What the image runs unless it is told otherwise.

Json PoolerMatchLabels(const std::string& policy, const std::string& endpoint) {
  return {{kPolicyLabel, policy}, {kEndpointLabel, endpoint}};
}

const char kConfigFolder[] = "/etc/pgbouncer/";

// Another CA has another name, so that a pooler which runs with the old one is seen to.
std::string CaFile(const std::string& pem) {
  return "server-ca-" + std::to_string(std::hash<std::string>{}(pem)) + ".crt";
}

// Where the poolers of an external Postgres connect to, and as whom: pg_shadow is not to be read there, so the roles of
// applications stand in the userlist.
void SetExternal(const crds::ExternalPostgres& external, const Credentials& credentials,
                 poolers::PgBouncerSettings& settings) {
  settings.server_tls_sslmode = external.ssl_mode;
  if (credentials.external->ca_pem.empty()) return;
  settings.server_tls_ca_file = kConfigFolder + CaFile(credentials.external->ca_pem);
}

}  // namespace

Result<poolers::PgBouncerSettings> PoolerSettingsFor(const RenderContext& context, const TierSettings& tier,
                                                     const std::vector<poolers::Server>& servers,
                                                     const Credentials& credentials) {
  const crds::ScaleTierPolicySpec& spec = context.policy.spec;
  const std::string& database = spec.external.has_value() ? spec.external->database : spec.managed->database;
  poolers::PgBouncerSettings settings;
  poolers::PgBouncerDatabase line;
  line.name = database;
  PGTIER_ASSIGN_OR_RETURN(line.hosts, poolers::SpreadByWeight(servers));
  line.port = servers.front().port;
  // PgBouncer has one port for all hosts of a line.
  for (const poolers::Server& server : servers) {
    if (server.port == line.port) continue;
    return MakeError(Code::kInvalidArgument,
                     "PgBouncer takes servers of one port; " + server.host + " has another one");
  }
  settings.databases.push_back(line);
  settings.pool_mode = tier.pooler.pool_mode;
  std::transform(settings.pool_mode.begin(), settings.pool_mode.end(), settings.pool_mode.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  settings.max_client_conn = tier.pooler.max_client_conn;
  settings.default_pool_size = tier.pooler.default_pool_size;
  settings.min_pool_size = tier.pooler.min_pool_size;
  settings.reserve_pool_size = tier.pooler.reserve_pool_size;
  settings.server_idle_timeout = tier.pooler.server_idle_timeout;
  settings.auth_file = std::string(kConfigFolder) + "userlist.txt";
  settings.admin_users = {kPoolerAdmin};
  if (spec.external.has_value()) {
    SetExternal(*spec.external, credentials, settings);
    return settings;
  }
  settings.auth_user = PoolerRole(credentials.rotation.NumberTold());
  settings.auth_query = "SELECT usename, passwd FROM pgtier.pooler_lookup($1)";
  settings.auth_dbname = database;
  return settings;
}

poolers::PgBouncerSettings WithTls(poolers::PgBouncerSettings settings, bool verify_servers) {
  std::string folder = kTlsFolder;
  // Applications that do not ask for TLS go on as they are.
  settings.client_tls_sslmode = "prefer";
  settings.client_tls_cert_file = folder + "/tls.crt";
  settings.client_tls_key_file = folder + "/tls.key";
  // It asks no client for a certificate, and yet refuses to start without this.
  settings.client_tls_ca_file = folder + "/ca.crt";
  // Of several hosts PgBouncer compares the certificate with the whole list as one name ("a,b"). The authority is the
  // policy's own and certifies nobody else's servers.
  bool one_host = std::all_of(settings.databases.begin(), settings.databases.end(),
                              [](const poolers::PgBouncerDatabase& each) { return each.hosts.size() == 1; });
  settings.server_tls_sslmode = !verify_servers ? "prefer" : one_host ? "verify-full" : "verify-ca";
  settings.server_tls_ca_file = folder + "/ca.crt";
  return settings;
}

Status AddSelectedUsers(const RenderContext& context, const TierSettings& tier,
                        const std::vector<poolers::Server>& servers, const Credentials& credentials,
                        poolers::PgBouncerSettings& settings) {
  PGTIER_ASSIGN_OR_RETURN(poolers::PgBouncerSettings selected, PoolerSettingsFor(context, tier, servers, credentials));
  poolers::PgBouncerDatabase line = selected.databases.front();
  line.dbname = line.name;
  line.name += kReplicasSuffix;
  std::set<std::string> users(tier.selected_users.begin(), tier.selected_users.end());
  // Who owns the database logs in by turns as itself and as another role (passwords.h).
  if (users.contains(context.policy.spec.managed->database)) users.insert(kAlternateAppRole);
  std::string list;
  for (const std::string& user : users) {
    // A literal of SQL; with standard_conforming_strings a backslash is one. What else a name may hold, the renderer
    // refuses.
    list += list.empty() ? "'" : ", '";
    for (char c : user) list += c == '\'' ? "''" : std::string(1, c);
    list += "'";
  }
  line.auth_user = settings.auth_user;
  line.auth_dbname = settings.auth_dbname;
  line.auth_query = settings.auth_query + " WHERE usename IN (" + list + ")";
  settings.databases.push_back(std::move(line));
  // SHOW DATABASES does not show a query. A name that no role has tells by which list a pooler runs.
  settings.stats_users = {"pgtier_selected_" + std::to_string(std::hash<std::string>{}(list))};
  return {};
}

Result<Json> RenderPoolerSecret(const RenderContext& context, const std::string& endpoint,
                                const poolers::PgBouncerSettings* settings, const poolers::PgBouncerSettings* plain,
                                const Credentials& credentials) {
  const PasswordRotation& rotation = credentials.rotation;
  std::map<std::string, std::string> users{
      {kPoolerAdmin, rotation.Told() ? credentials.pooler_admin : rotation.pooler_admin}};
  Json files = Json::object();
  if (settings != nullptr) {
    PGTIER_ASSIGN_OR_RETURN(files[kIni], poolers::RenderIni(*settings));
  }
  if (plain != nullptr) {
    PGTIER_ASSIGN_OR_RETURN(files[kPlainIni], poolers::RenderIni(*plain));
  }
  if (credentials.external.has_value()) {
    users[credentials.external->app.user] = credentials.external->app.password;
    const std::string& ca = credentials.external->ca_pem;
    if (!ca.empty()) files[CaFile(ca)] = ca;
  } else {
    users[PoolerRole(rotation.NumberTold())] = rotation.Told() ? credentials.pooler : rotation.pooler;
  }
  PGTIER_ASSIGN_OR_RETURN(std::string userlist, poolers::RenderUserlist(users));
  files["userlist.txt"] = userlist;
  return Json{{"apiVersion", "v1"},
              {"kind", "Secret"},
              {"metadata", ObjectMeta(context, PoolerName(context.policy.meta.name, endpoint))},
              {"type", "Opaque"},
              {"data", EncodeSecretData(files)}};
}

Json RenderPooler(const RenderContext& context, const TierSettings& tier, const std::string& endpoint) {
  const std::string& policy = context.policy.meta.name;
  std::string name = PoolerName(policy, endpoint);
  bool pgcat = IsPgCat(endpoint);
  std::string program = pgcat ? "pgcat" : "pgbouncer";
  Json match = PoolerMatchLabels(policy, endpoint);
  Json labels = PolicyLabels(context);
  labels["app.kubernetes.io/name"] = program;
  labels[kEndpointLabel] = endpoint;
  // The longest of all tiers: a template that differed by tier would replace the pods, and cut clients, at each climb.
  Duration longest{};
  for (const TierSettings& each : context.resolved.tiers) longest = std::max(longest, each.drain_timeout);
  int64_t drain = std::chrono::ceil<std::chrono::seconds>(longest).count();
  // On SIGTERM PgBouncer waits for its clients to finish. PgCat, told to stop, closes who is in no transaction: it is
  // told when the others had their time.
  int64_t wait_first = pgcat ? std::max(drain, kEndpointsForget) : kEndpointsForget;
  int64_t grace = pgcat ? wait_first + 10 : drain + 5;
  Json probe{{"tcpSocket", {{"port", "postgres"}}}, {"periodSeconds", 2}, {"failureThreshold", 2}};
  Json container{
      {"name", program},
      {"image", tier.pooler.image.empty() ? context.images.pgbouncer : tier.pooler.image},
      {"imagePullPolicy", "IfNotPresent"},
      {"ports", Json::array({{{"name", "postgres"}, {"containerPort", kPostgresPort}, {"protocol", "TCP"}}})},
      {"readinessProbe", probe},
      {"lifecycle", {{"preStop", {{"sleep", {{"seconds", wait_first}}}}}}},
      {"resources", {{"requests", {{"cpu", "50m"}, {"memory", "32Mi"}}}}},
      {"securityContext", RestrictedContainerSecurity()},
      {"volumeMounts", Json::array({{{"name", "config"}, {"mountPath", "/etc/" + program}, {"readOnly", true}}})}};
  Json volumes = Json::array({{{"name", "config"}, {"secret", {{"secretName", name}, {"defaultMode", 0440}}}}});
  if (pgcat) {
    container["command"] = Json::array({"pgcat", "/etc/pgcat/pgcat.toml"});
  } else if (context.policy.spec.managed.has_value()) {
    container["args"] = {std::string(kConfigFolder) + kIni};
    container["volumeMounts"].push_back({{"name", kTlsVolume}, {"mountPath", kTlsFolder}, {"readOnly", true}});
    volumes.push_back(
        {{"name", kTlsVolume}, {"secret", {{"secretName", PoolerTlsSecret(policy)}, {"defaultMode", 0440}}}});
  }
  Json pod{{"automountServiceAccountToken", false},
           {"enableServiceLinks", false},
           {"terminationGracePeriodSeconds", grace},
           {"securityContext", RestrictedPodSecurity(pgcat ? kPgCatUser : kPgBouncerUser)},
           {"affinity", SpreadOverNodes(match)},
           {"containers", Json::array({container})},
           {"volumes", volumes}};
  return {{"apiVersion", "apps/v1"},
          {"kind", "Deployment"},
          {"metadata", ObjectMeta(context, name, {{kEndpointLabel, endpoint}})},
          {"spec",
           {{"replicas", tier.pooler.instances},
            {"strategy", {{"type", "RollingUpdate"}, {"rollingUpdate", {{"maxUnavailable", 0}, {"maxSurge", 1}}}}},
            {"selector", {{"matchLabels", match}}},
            {"template", {{"metadata", {{"labels", labels}}}, {"spec", pod}}}}}};
}

Json RenderPoolerBudget(const RenderContext& context, const std::string& endpoint) {
  const std::string& policy = context.policy.meta.name;
  return RenderBudget(context, PoolerName(policy, endpoint), PoolerMatchLabels(policy, endpoint));
}

Json RenderEndpointService(const RenderContext& context, const std::string& name, const std::string& endpoint) {
  return RenderService(context, name, PoolerMatchLabels(context.policy.meta.name, endpoint));
}

}  // namespace pgtier::controllers::scale_tier
