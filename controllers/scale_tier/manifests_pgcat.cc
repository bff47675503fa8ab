#include <algorithm>

#include "controllers/scale_tier/manifests_common.h"
#include "controllers/scale_tier/names.h"

namespace pgtier::controllers::scale_tier {
namespace {

// A client that asks while PgCat takes a new configuration has its statement's role by the old one: with no server of
// that role in the new one it would get an error. So whoever takes reads stands there as a replica, the primary too.
std::vector<poolers::Server> ServersOf(const std::string& endpoint, const std::vector<poolers::Server>& servers) {
  std::vector<poolers::Server> all;
  if (endpoint != kPgCatReads) {
    std::copy_if(servers.begin(), servers.end(), std::back_inserter(all),
                 [](const poolers::Server& server) { return server.role == poolers::ServerRole::kPrimary; });
  }
  if (endpoint == kPgCatWrites) return all;
  bool replicas = std::any_of(servers.begin(), servers.end(), [](const poolers::Server& server) {
    return server.role == poolers::ServerRole::kReplica;
  });
  for (poolers::Server server : servers) {
    if (replicas && server.role == poolers::ServerRole::kPrimary) continue;
    server.role = poolers::ServerRole::kReplica;
    all.push_back(server);
  }
  return all;
}

}  // namespace

poolers::PgCatSettings PgCatSettingsFor(const RenderContext& context, const TierSettings& tier,
                                        const std::string& endpoint, const std::vector<poolers::Server>& servers,
                                        const Credentials& credentials) {
  const PoolerSettings& pooler = tier.pooler;
  poolers::PgCatPool pool;
  pool.name = pool.database = context.policy.spec.managed->database;
  pool.servers = ServersOf(endpoint, servers);
  pool.pool_mode = pooler.pool_mode == "Session" ? "session" : "transaction";
  pool.load_balancing_mode = tier.strategy == "Random" ? "random" : "loc";
  pool.idle_timeout = pooler.server_idle_timeout;
  // A session goes where its first statement goes; told apart there, the first SELECT would take writes to a replica.
  pool.splits = endpoint == kPgCatSplit && pool.pool_mode == "transaction";
  // What the parser cannot tell goes to the primary.
  pool.default_role = endpoint == kPgCatReads ? "replica" : "primary";
  // The role that owns the database. Any other one has to be known to PgCat with its password.
  poolers::PgCatUser user;
  user.username = pool.name;
  user.password = credentials.app;
  user.pool_size = pooler.default_pool_size + pooler.reserve_pool_size;
  user.min_pool_size = std::min(pooler.min_pool_size, user.pool_size);
  pool.users = {user};

  poolers::PgCatSettings settings;
  settings.pools = {pool};
  settings.listen_port = kPostgresPort;
  settings.idle_timeout = pool.idle_timeout;
  settings.admin_username = kPoolerAdmin;
  settings.admin_password = credentials.pooler_admin;
  return settings;
}

Result<nlohmann::json> RenderPgCatSecret(const RenderContext& context, const std::string& endpoint,
                                         const poolers::PgCatSettings& settings) {
  PGTIER_ASSIGN_OR_RETURN(std::string toml, poolers::RenderToml(settings));
  return nlohmann::json{{"apiVersion", "v1"},
                        {"kind", "Secret"},
                        {"metadata", ObjectMeta(context, PoolerName(context.policy.meta.name, endpoint))},
                        {"type", "Opaque"},
                        {"data", EncodeSecretData({{"pgcat.toml", toml}})}};
}

}  // namespace pgtier::controllers::scale_tier
