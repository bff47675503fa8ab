// The plan for a Postgres that pgtier does not run: poolers and Services before it, and pgtier's own schema in it.
#include <functional>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "sql/scale_tier.h"

namespace pgtier::controllers::scale_tier {

Result<Plan> Planner::MakeExternal() {
  AddExternalServer();
  // Without its Secrets there is nothing to configure a pooler with; those that run go on as they are.
  if (!credentials_.external.has_value()) {
    for (const crds::ReplicaStatus& replica : context_.policy.status.replicas) {
      if (replica.routed) plan_.routed.push_back(replica.name);
    }
    return std::move(plan_);
  }
  Apply(kube::kSecrets, RenderAppSecret(context_, credentials_));
  Apply(kube::kSecrets, RenderInternalSecret(context_, credentials_));
  AddExternalReplicas();
  PGTIER_RETURN_IF_ERROR(AddPoolers());
  if (plan_.waiting_for.empty()) AddRecord();
  return std::move(plan_);
}

poolers::Server Planner::ExternalPrimary() const {
  const crds::ExternalPostgres& external = *context_.policy.spec.external;
  return {external.host, external.port, 1, poolers::ServerRole::kPrimary};
}

poolers::Server Planner::ExternalReplica(const std::string& host) const {
  poolers::Server server{host, kPostgresPort, 1, poolers::ServerRole::kReplica};
  for (const crds::ExternalReplica& replica : context_.policy.spec.external->replicas) {
    if (replica.host == host) server.port = replica.port.value_or(kPostgresPort);
  }
  return server;
}

void Planner::AddExternalServer() {
  const PrimarySeen& primary = seen_.primary;
  if (!primary.answered) {
    Wait(context_.policy.spec.external->host + " to serve: " + primary.reason + ": " + primary.error);
    if (primary.needs_person) Refuse(primary.reason + ": " + primary.error);
    return;
  }
  if (!credentials_.external.has_value()) return;
  std::string wanted = ExternalHash();
  if (primary.installed == wanted) return;
  plan_.actions.emplace_back(Bootstrap{wanted});
  Wait("schema pgtier to be made in the database");
}

// Of everything that makes Bootstrap differ: another schema, or another content of a Secret, runs it again. No password
// goes into it: the hash stands in the database, where it could be guessed at.
std::string Planner::ExternalHash() const {
  return std::to_string(std::hash<std::string>{}(sql::kScaleTierExternal + context_.policy.spec.external->database +
                                                 "\n" + credentials_.external->versions));
}

// Every standby that is listed and may take reads does. On the way into a tier so many must as its `min` says.
void Planner::AddExternalReplicas() {
  if (!seen_.primary.answered || tier_.replicas == 0) return;
  std::string waiting;
  int healthy = 0;
  for (const InstanceSeen& instance : seen_.instances) {
    if (instance.ordinal == seen_.primary_ordinal) continue;
    bool routed = IsRouted(context_.policy.status, instance.name);
    if (MayTakeReads(instance, seen_.primary, tier_.max_lag, routed)) {
      ++healthy;
      if (tier_.UsesReplicas()) plan_.routed.push_back(instance.name);
    } else if (waiting.empty()) {
      waiting = instance.name + (instance.trouble.empty() ? ": to catch up with the primary" : ": " + instance.trouble);
    }
  }
  bool entering = decision_.from != decision_.to;
  bool enough = healthy >= tier_.enter_with;
  if (!waiting.empty() && !(entering && enough)) Wait(waiting);
}

}  // namespace pgtier::controllers::scale_tier
