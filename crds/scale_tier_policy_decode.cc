#include "crds/field_reader.h"
#include "crds/ladder_codec.h"
#include "crds/scale_tier_policy_codec.h"

namespace pgtier::crds {
namespace {

ManagedPostgres DecodeManaged(const FieldReader& field) {
  ManagedPostgres managed;
  managed.image = field.String("image");
  managed.database = field.String("database");
  managed.storage_size = field.Child("storage").IntOrString("size");
  managed.storage_class_name = field.Child("storage").String("storageClassName");
  managed.requests = field.Child("resources").StringMap("requests");
  managed.limits = field.Child("resources").StringMap("limits");
  managed.parameters = field.StringMap("parameters");
  managed.password_grace = field.OptionalDuration("passwordGrace");
  managed.extensions = field.StringList("extensions");
  FieldReader scheduling = field.Child("scheduling");
  managed.node_selector = scheduling.StringMap("nodeSelector");
  managed.priority_class_name = scheduling.String("priorityClassName");
  scheduling.ForEach("tolerations", [&](const FieldReader& item) {
    managed.tolerations.push_back({item.String("key"), item.String("operator"), item.String("value"),
                                   item.String("effect"), item.OptionalInt("tolerationSeconds")});
  });
  field.ForEach("imagePullSecrets",
                [&](const FieldReader& item) { managed.image_pull_secrets.push_back(item.String("name")); });
  return managed;
}

ExternalPostgres DecodeExternal(const FieldReader& field) {
  ExternalPostgres external;
  external.host = field.String("host");
  external.port = field.OptionalSmallInt("port").value_or(external.port);
  external.database = field.String("database");
  external.ssl_mode = field.OptionalString("sslMode").value_or(external.ssl_mode);
  external.ca_secret = field.Child("caSecret").String("name");
  external.admin_secret = field.Child("adminSecret").String("name");
  external.monitor_secret = field.Child("monitorSecret").String("name");
  external.app_secret = field.Child("appSecret").String("name");
  field.ForEach("replicas", [&](const FieldReader& item) {
    external.replicas.push_back(
        {item.String("host"), item.OptionalSmallInt("port"), item.OptionalSmallInt("weight").value_or(1)});
  });
  return external;
}

Pooler DecodePooler(const FieldReader& field) {
  Pooler pooler;
  pooler.engine = field.OptionalString("engine");
  pooler.image = field.OptionalString("image");
  pooler.instances = field.OptionalSmallInt("instances");
  pooler.pool_mode = field.OptionalString("poolMode");
  pooler.max_client_conn = field.OptionalSmallInt("maxClientConn");
  pooler.default_pool_size = field.OptionalSmallInt("defaultPoolSize");
  pooler.min_pool_size = field.OptionalSmallInt("minPoolSize");
  pooler.reserve_pool_size = field.OptionalSmallInt("reservePoolSize");
  pooler.server_idle_timeout = field.OptionalDuration("serverIdleTimeout");
  return pooler;
}

ReadReplicas DecodeReadReplicas(const FieldReader& field) {
  return {field.OptionalSmallInt("min"),       field.OptionalSmallInt("max"),
          field.OptionalDuration("maxLag"),    field.OptionalDuration("drainTimeout"),
          field.OptionalDuration("growAfter"), field.OptionalDuration("shrinkAfter"),
          field.OptionalString("cpuQuery")};
}

Routing DecodeRouting(const FieldReader& field) {
  Routing routing{field.OptionalString("strategy"),
                  field.OptionalString("rollout"),
                  field.Child("selected").StringList("users"),
                  {}};
  field.ForEach("weights", [&](const FieldReader& item) {
    routing.weights[item.String("name")] = item.OptionalSmallInt("weight").value_or(1);
  });
  return routing;
}

CitusSharding DecodeCitus(const FieldReader& field) {
  CitusSharding citus;
  citus.workers = field.OptionalSmallInt("workers").value_or(0);
  field.ForEach("tables", [&](const FieldReader& item) {
    citus.tables.push_back({item.String("name"), item.String("column"), item.String("colocateWith")});
  });
  return citus;
}

TierSpec DecodeTier(const FieldReader& field) {
  TierSpec tier;
  DecodeTierRule(field, tier);
  tier.pooler = DecodePooler(field.Child("pooler"));
  tier.has_read_replicas = field.Has("readReplicas");
  tier.read_replicas = DecodeReadReplicas(field.Child("readReplicas"));
  tier.routing = DecodeRouting(field.Child("routing"));
  field.ForEach("materializedViews", [&](const FieldReader& view) {
    tier.materialized_views.emplace(view.String("name"), view.OptionalDuration("every").value_or(Duration::zero()));
  });
  tier.sharding = field.Has("sharding");
  FieldReader sharding = field.Child("sharding");
  if (sharding.Has("citus")) tier.citus = DecodeCitus(sharding.Child("citus"));
  return tier;
}

ScaleTierPolicySpec DecodeSpec(const FieldReader& field) {
  ScaleTierPolicySpec spec;
  DecodeLadderSpec(field, spec);
  FieldReader postgres = field.Child("postgres");
  if (postgres.Has("managed")) spec.managed = DecodeManaged(postgres.Child("managed"));
  if (postgres.Has("external")) spec.external = DecodeExternal(postgres.Child("external"));
  spec.endpoint_name = field.Child("endpoint").String("name");
  spec.endpoint_clients = field.Child("endpoint").String("clients");
  spec.pooler = DecodePooler(field.Child("pooler"));
  spec.has_read_replicas = field.Has("readReplicas");
  spec.read_replicas = DecodeReadReplicas(field.Child("readReplicas"));
  spec.routing = DecodeRouting(field.Child("routing"));
  field.ForEach("tiers", [&](const FieldReader& item) { spec.tiers.push_back(DecodeTier(item)); });
  if (spec.tiers.empty()) field.Problem("tiers", "at least one tier is needed");
  return spec;
}

ScaleTierPolicyStatus DecodeStatus(const FieldReader& field) {
  ScaleTierPolicyStatus status;
  DecodeLadderStatus(field, status);
  status.closed_clients = field.OptionalInt("closedClients").value_or(0);
  status.system_identifier = field.String("systemIdentifier");
  status.primary = field.String("primary");
  FieldReader promotion = field.Child("promotion");
  status.promotion = {promotion.String("request"), promotion.String("phase"), promotion.String("from"),
                      promotion.String("to"), promotion.String("message")};
  status.image = field.String("image");
  FieldReader certificates = field.Child("rotations").Child("certificates");
  status.rotations.certificates = {certificates.String("request"), certificates.OptionalTime("at"), {}};
  FieldReader passwords = field.Child("rotations").Child("passwords");
  status.rotations.passwords = {passwords.String("request"), passwords.OptionalTime("at"),
                                passwords.OptionalTime("formerUntil")};
  FieldReader summary = field.Child("summary");
  status.summary = {summary.String("closest"), summary.String("replicas"), summary.String("pooler"),
                    summary.String("lag"), summary.String("endpoint")};
  field.ForEach("replicas", [&](const FieldReader& item) {
    status.replicas.push_back({item.String("name"), item.String("lag"), item.Bool("healthy"), item.Bool("routed")});
  });
  FieldReader scaling = field.Child("scaling");
  status.scaling = {scaling.OptionalSmallInt("replicas").value_or(0),
                    scaling.OptionalSmallInt("needed").value_or(0),
                    scaling.String("phase"),
                    scaling.String("message"),
                    scaling.OptionalTime("changedAt"),
                    scaling.OptionalTime("growSince"),
                    scaling.OptionalTime("shrinkSince"),
                    scaling.OptionalTime("observedAt")};
  return status;
}

}  // namespace

Result<ScaleTierPolicy> DecodeScaleTierPolicy(const nlohmann::json& object) {
  ScaleTierPolicy policy;
  FieldReader root(&object, "", nullptr);
  policy.meta = DecodeMeta(root.Child("metadata"));
  if (policy.meta.name.empty()) return MakeError(Code::kInvalidArgument, "a ScaleTierPolicy without a name");
  auto spec = object.find("spec");
  policy.spec = DecodeSpec(FieldReader(spec == object.end() ? nullptr : &*spec, "spec", &policy.problems));
  // A status that cannot be read is derived anew: nothing in it is the user's problem.
  policy.status = DecodeStatus(root.Child("status"));
  return policy;
}

}  // namespace pgtier::crds
