#include "crds/field_reader.h"
#include "crds/scale_tier_policy_codec.h"

namespace pgtier::crds {
namespace {

Meta DecodeMeta(const FieldReader& metadata) {
  Meta meta;
  meta.namespace_ = metadata.String("namespace");
  meta.name = metadata.String("name");
  meta.uid = metadata.String("uid");
  meta.resource_version = metadata.String("resourceVersion");
  meta.generation = metadata.OptionalInt("generation").value_or(0);
  meta.deleting = metadata.Has("deletionTimestamp");
  meta.finalizers = metadata.StringList("finalizers");
  for (auto& [key, value] : metadata.StringMap("annotations")) {
    if (key.starts_with("pgtier.dev/")) meta.annotations[key] = value;
  }
  return meta;
}

ManagedPostgres DecodeManaged(const FieldReader& field) {
  ManagedPostgres managed;
  managed.image = field.String("image");
  managed.database = field.String("database");
  managed.storage_size = field.Child("storage").IntOrString("size");
  managed.storage_class_name = field.Child("storage").String("storageClassName");
  managed.requests = field.Child("resources").StringMap("requests");
  managed.limits = field.Child("resources").StringMap("limits");
  managed.parameters = field.StringMap("parameters");
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

core::Unit DecodeUnit(const FieldReader& field) {
  std::string unit = field.String("unit");
  if (unit.empty()) return core::Unit::kNone;
  if (unit == "Seconds") return core::Unit::kSeconds;
  if (unit == "Ratio") return core::Unit::kRatio;
  if (unit == "Bytes") return core::Unit::kBytes;
  if (unit == "Count") return core::Unit::kCount;
  if (unit == "PerSecond") return core::Unit::kPerSecond;
  field.Problem("unit", "is not a unit that pgtier knows: " + unit);
  return core::Unit::kNone;
}

void DecodeSource(const FieldReader& field, TriggerSpec& trigger) {
  struct Known {
    const char* name;
    Source source;
  };
  for (const Known& known :
       {Known{"prometheus", Source::kPrometheus}, Known{"pooler", Source::kPooler}, Known{"sql", Source::kSql},
        Known{"http", Source::kHttp}, Known{"status", Source::kStatus}, Known{"demand", Source::kDemand}}) {
    if (!field.Has(known.name)) continue;
    trigger.source = known.source;
    trigger.rule.source = known.name;
  }
  if (trigger.rule.source.empty()) field.Problem("name", "the trigger has no source");
  trigger.query = field.Child("prometheus").String("query");
  trigger.pooler_metric = field.Child("pooler").String("metric");
  FieldReader sql = field.Child("sql");
  trigger.sql = {sql.String("query"), sql.String("rowsOf"), sql.String("count")};
  FieldReader http = field.Child("http");
  trigger.http = {http.String("url"),
                  http.String("jsonPath"),
                  http.String("timestampPath"),
                  http.OptionalQuantity("scale"),
                  http.OptionalDuration("maxAge"),
                  http.Child("bearerTokenSecret").String("name"),
                  http.Child("caSecret").String("name")};
  trigger.status_field = field.Child("status").String("field");
}

core::Leave DecodeLeave(const FieldReader& field) {
  core::Leave leave;
  std::optional<double> below = field.OptionalQuantity("below");
  std::optional<double> above = field.OptionalQuantity("above");
  if (below.has_value() == above.has_value()) field.Problem("below", "exactly one of below, above is needed");
  leave.comparison = below.has_value() ? core::Comparison::kBelow : core::Comparison::kAbove;
  leave.threshold = below.value_or(above.value_or(0));
  leave.window = field.OptionalDuration("for").value_or(Duration::zero());
  return leave;
}

TriggerSpec DecodeTrigger(const FieldReader& field) {
  TriggerSpec trigger;
  core::Trigger& rule = trigger.rule;
  rule.name = field.String("name");
  rule.unit = DecodeUnit(field);
  rule.window = field.OptionalDuration("for").value_or(Duration::zero());
  rule.gap = field.Child("tolerate").OptionalDuration("gap").value_or(Duration::zero());
  rule.dip = field.Child("tolerate").OptionalDuration("dip").value_or(Duration::zero());
  if (field.Has("leave")) rule.leave = DecodeLeave(field.Child("leave"));
  DecodeSource(field, trigger);
  struct Known {
    const char* name;
    core::Comparison comparison;
  };
  bool compared = false;
  for (const Known& known : {Known{"above", core::Comparison::kAbove}, Known{"atLeast", core::Comparison::kAtLeast},
                             Known{"below", core::Comparison::kBelow}}) {
    std::optional<double> threshold = field.OptionalQuantity(known.name);
    if (!threshold.has_value()) continue;
    rule.comparison = known.comparison;
    rule.threshold = *threshold;
    compared = true;
  }
  if (trigger.source == Source::kDemand) {
    rule.comparison = core::Comparison::kDemand;
  } else if (!compared) {
    field.Problem("above", "exactly one of above, atLeast, below is needed");
  }
  return trigger;
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
  tier.name = field.String("name");
  tier.approval = field.String("approval");
  FieldReader enter_when = field.Child("enterWhen");
  tier.match = enter_when.Has("all") ? core::Match::kAll : core::Match::kAny;
  enter_when.ForEach(enter_when.Has("all") ? "all" : "any",
                     [&](const FieldReader& item) { tier.triggers.push_back(DecodeTrigger(item)); });
  tier.pooler = DecodePooler(field.Child("pooler"));
  tier.has_read_replicas = field.Has("readReplicas");
  tier.read_replicas = DecodeReadReplicas(field.Child("readReplicas"));
  tier.routing = DecodeRouting(field.Child("routing"));
  field.ForEach("materializedViews", [&](const FieldReader&) { ++tier.materialized_views; });
  tier.sharding = field.Has("sharding");
  FieldReader sharding = field.Child("sharding");
  if (sharding.Has("citus")) tier.citus = DecodeCitus(sharding.Child("citus"));
  return tier;
}

ScaleTierPolicySpec DecodeSpec(const FieldReader& field) {
  ScaleTierPolicySpec spec;
  spec.observe_only = field.String("mode") == "Observe";
  FieldReader postgres = field.Child("postgres");
  if (postgres.Has("managed")) spec.managed = DecodeManaged(postgres.Child("managed"));
  if (postgres.Has("external")) spec.external = DecodeExternal(postgres.Child("external"));
  spec.endpoint_name = field.Child("endpoint").String("name");
  spec.endpoint_clients = field.Child("endpoint").String("clients");
  FieldReader metrics = field.Child("metrics");
  spec.metrics_interval = metrics.OptionalDuration("interval");
  FieldReader prometheus = metrics.Child("prometheus");
  spec.prometheus_url = prometheus.String("url");
  spec.prometheus_token_secret = prometheus.Child("bearerTokenSecret").String("name");
  spec.prometheus_ca_secret = prometheus.Child("caSecret").String("name");
  spec.pooler = DecodePooler(field.Child("pooler"));
  spec.has_read_replicas = field.Has("readReplicas");
  spec.read_replicas = DecodeReadReplicas(field.Child("readReplicas"));
  spec.routing = DecodeRouting(field.Child("routing"));
  field.ForEach("tiers", [&](const FieldReader& item) { spec.tiers.push_back(DecodeTier(item)); });
  if (spec.tiers.empty()) field.Problem("tiers", "at least one tier is needed");
  FieldReader transitions = field.Child("transitions");
  spec.cooldown = transitions.OptionalDuration("cooldown");
  spec.maintenance_windows = transitions.StringList("maintenanceWindows");
  spec.down = transitions.OptionalString("down").value_or("Never");
  spec.pin = field.String("pin");
  spec.demands = field.StringList("demands");
  spec.approved_plan = field.String("approvedPlan");
  spec.deletion_policy = field.OptionalString("deletionPolicy").value_or("Retain");
  return spec;
}

Observation DecodeObservation(const FieldReader& field) {
  Observation seen;
  seen.name = field.String("name");
  seen.observed = field.String("observed");
  seen.threshold = field.String("threshold");
  seen.window = field.String("for");
  seen.source = field.String("source");
  std::string state = field.String("state");
  seen.memory.state = state == "Breached" ? core::TriggerState::kBreached
                      : state == "Calm"   ? core::TriggerState::kCalm
                                          : core::TriggerState::kUnknown;
  seen.memory.observed_at = field.OptionalTime("observedAt");
  seen.memory.breached_since = field.OptionalTime("breachedSince");
  seen.memory.calm_since = field.OptionalTime("calmSince");
  seen.memory.leave_since = field.OptionalTime("leaveSince");
  seen.leave = field.String("leave");
  seen.memory.unknown_reason = field.String("reason");
  // The number itself is read again at each pass; its text is only kept for people.
  return seen;
}

ScaleTierPolicyStatus DecodeStatus(const FieldReader& field) {
  ScaleTierPolicyStatus status;
  status.observed_generation = field.OptionalInt("observedGeneration").value_or(0);
  status.closed_clients = field.OptionalInt("closedClients").value_or(0);
  status.tier = field.String("tier");
  status.tier_since = field.OptionalTime("tierSince");
  status.next_tier = field.String("nextTier");
  status.target_tier = field.String("targetTier");
  status.system_identifier = field.String("systemIdentifier");
  status.primary = field.String("primary");
  FieldReader promotion = field.Child("promotion");
  status.promotion = {promotion.String("request"), promotion.String("phase"), promotion.String("from"),
                      promotion.String("to"), promotion.String("message")};
  status.image = field.String("image");
  FieldReader certificates = field.Child("rotations").Child("certificates");
  status.rotations.certificates = {certificates.String("request"), certificates.OptionalTime("at")};
  FieldReader summary = field.Child("summary");
  status.summary = {summary.String("closest"), summary.String("replicas"), summary.String("pooler"),
                    summary.String("lag"), summary.String("endpoint")};
  field.ForEach("tiers", [&](const FieldReader& item) {
    TierStatus tier;
    tier.name = item.String("name");
    tier.entered_at = item.OptionalTime("enteredAt");
    tier.reason = item.String("reason");
    tier.message = item.String("message");
    if (item.Has("trigger")) tier.trigger = DecodeObservation(item.Child("trigger"));
    item.ForEach("observations",
                 [&](const FieldReader& seen) { tier.observations.push_back(DecodeObservation(seen)); });
    status.tiers.push_back(std::move(tier));
  });
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
  FieldReader plan = field.Child("plan");
  status.plan = {plan.String("hash"), plan.String("from"), plan.String("to"), plan.String("approvedBy"), {}, {}};
  plan.ForEach("steps", [&](const FieldReader& item) {
    status.plan.steps.push_back({item.String("name"), item.Bool("reversible")});
  });
  plan.ForEach("changes", [&](const FieldReader& item) {
    status.plan.changes.push_back({item.String("field"), item.String("from"), item.String("to")});
  });
  field.ForEach("history", [&](const FieldReader& item) {
    status.history.push_back({item.String("from"), item.String("to"), item.OptionalTime("at"), item.String("reason")});
  });
  field.ForEach("conditions", [&](const FieldReader& item) {
    status.conditions.push_back({item.String("type"), item.String("status"), item.String("reason"),
                                 item.String("message"), item.OptionalInt("observedGeneration").value_or(0),
                                 item.OptionalTime("lastTransitionTime")});
  });
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
