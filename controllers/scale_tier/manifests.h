// The Kubernetes objects of a policy, rendered. Pure: the same inputs give the same JSON, so an object that needs no
// change can be told from one that does.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "controllers/ladder/rendering.h"
#include "controllers/scale_tier/postgres_config.h"
#include "controllers/scale_tier/resolve.h"
#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_config.h"
#include "lib/poolers/pgcat_config.h"
#include "lib/poolers/server.h"

namespace pgtier::controllers::scale_tier {

// Images of this release, where a policy names none.
struct Images {
  std::string postgres;
  std::string pgbouncer;
  std::string pgcat = {};  // Empty: the release has none; policies must name one.
};

// NetworkPolicies around instances and poolers.
struct NetworkGuard {
  bool enabled = false;
  std::string operator_namespace;  // Where pods of the operator come from.
};

// What every rendering needs.
struct RenderContext {
  const crds::ScaleTierPolicy& policy;
  const Resolved& resolved;
  const Images& images;
  NetworkGuard network = {};
};

// --- Secrets and configuration
nlohmann::json RenderAppSecret(const RenderContext& context, const Credentials& credentials);
nlohmann::json RenderInternalSecret(const RenderContext& context, const Credentials& credentials);
nlohmann::json RenderPostgresConfigMap(const RenderContext& context, const PostgresTerms& terms);
// The authority with its key: for the operator alone.
nlohmann::json RenderAuthoritySecret(const RenderContext& context, const Certificates& certificates);
nlohmann::json RenderPostgresTlsSecret(const RenderContext& context, const ServerCertificate& certificate);
nlohmann::json RenderPoolerTlsSecret(const RenderContext& context, const ServerCertificate& certificate);

// --- Postgres
nlohmann::json RenderInstanceService(const RenderContext& context, int ordinal);
nlohmann::json RenderPrimaryService(const RenderContext& context, int primary_ordinal);
// `image` is pinned: the one that the first instance was made with.
nlohmann::json RenderInstance(const RenderContext& context, int ordinal, const std::string& image);
nlohmann::json RenderInstanceBudget(const RenderContext& context);
// Postgres' port: for the policy's own pods and the operator.
nlohmann::json RenderPostgresNetworkPolicy(const RenderContext& context);

// --- Poolers
// PgBouncer of one endpoint ("rw" | "ro") in a tier, with the servers that it connects to, each by its weight.
Result<poolers::PgBouncerSettings> PoolerSettingsFor(const RenderContext& context, const TierSettings& tier,
                                                     const std::vector<poolers::Server>& servers,
                                                     const Credentials& credentials);
// `settings` with TLS: offered to clients, and of servers demanded (`verify_servers`) or taken where it is offered.
poolers::PgBouncerSettings WithTls(poolers::PgBouncerSettings settings, bool verify_servers);
// `settings` is for pods with a certificate, `plain` for those without: of an external Postgres, or from before there
// were certificates, until they are replaced. Either may be nullptr.
// Adds the database <database>_replicas, which leads to `servers` and lets the tier's selected users in alone:
// PgBouncer routes by database, not by user (docs/decisions/0058).
Status AddSelectedUsers(const RenderContext& context, const TierSettings& tier,
                        const std::vector<poolers::Server>& servers, const Credentials& credentials,
                        poolers::PgBouncerSettings& settings);

Result<nlohmann::json> RenderPoolerSecret(const RenderContext& context, const std::string& endpoint,
                                          const poolers::PgBouncerSettings* settings,
                                          const poolers::PgBouncerSettings* plain, const Credentials& credentials);
// PgCat of one endpoint ("pgcat" | "pgcat-rw" | "pgcat-ro") in a tier.
poolers::PgCatSettings PgCatSettingsFor(const RenderContext& context, const TierSettings& tier,
                                        const std::string& endpoint, const std::vector<poolers::Server>& servers,
                                        const Credentials& credentials);
Result<nlohmann::json> RenderPgCatSecret(const RenderContext& context, const std::string& endpoint,
                                         const poolers::PgCatSettings& settings);
// The Deployment of a pooler of either engine.
nlohmann::json RenderPooler(const RenderContext& context, const TierSettings& tier, const std::string& endpoint);
// Poolers' port, which is their console's too: for the namespace or for all, and for the operator.
nlohmann::json RenderPoolerNetworkPolicy(const RenderContext& context);
nlohmann::json RenderPoolerBudget(const RenderContext& context, const std::string& endpoint);
// `name` is the Service's; `endpoint` the pooler behind it.
nlohmann::json RenderEndpointService(const RenderContext& context, const std::string& name,
                                     const std::string& endpoint);

}  // namespace pgtier::controllers::scale_tier
