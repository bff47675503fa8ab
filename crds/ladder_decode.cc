#include "crds/ladder_codec.h"

namespace pgtier::crds {
namespace {

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

}  // namespace

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

void DecodeTierRule(const FieldReader& field, TierRule& tier) {
  tier.name = field.String("name");
  tier.approval = field.String("approval");
  FieldReader enter_when = field.Child("enterWhen");
  tier.match = enter_when.Has("all") ? core::Match::kAll : core::Match::kAny;
  enter_when.ForEach(enter_when.Has("all") ? "all" : "any",
                     [&](const FieldReader& item) { tier.triggers.push_back(DecodeTrigger(item)); });
}

void DecodeLadderSpec(const FieldReader& field, LadderSpec& spec) {
  spec.observe_only = field.String("mode") == "Observe";
  FieldReader metrics = field.Child("metrics");
  spec.metrics_interval = metrics.OptionalDuration("interval");
  FieldReader prometheus = metrics.Child("prometheus");
  spec.prometheus_url = prometheus.String("url");
  spec.prometheus_token_secret = prometheus.Child("bearerTokenSecret").String("name");
  spec.prometheus_ca_secret = prometheus.Child("caSecret").String("name");
  FieldReader transitions = field.Child("transitions");
  spec.cooldown = transitions.OptionalDuration("cooldown");
  spec.maintenance_windows = transitions.StringList("maintenanceWindows");
  spec.down = transitions.OptionalString("down").value_or("Never");
  spec.pin = field.String("pin");
  spec.demands = field.StringList("demands");
  spec.approved_plan = field.String("approvedPlan");
  spec.deletion_policy = field.OptionalString("deletionPolicy").value_or("Retain");
}

std::vector<Condition> DecodeConditions(const FieldReader& field) {
  std::vector<Condition> conditions;
  field.ForEach("conditions", [&](const FieldReader& item) {
    conditions.push_back({item.String("type"), item.String("status"), item.String("reason"), item.String("message"),
                          item.OptionalInt("observedGeneration").value_or(0), item.OptionalTime("lastTransitionTime")});
  });
  return conditions;
}

void DecodeLadderStatus(const FieldReader& field, LadderStatus& status) {
  status.observed_generation = field.OptionalInt("observedGeneration").value_or(0);
  status.tier = field.String("tier");
  status.tier_since = field.OptionalTime("tierSince");
  status.next_tier = field.String("nextTier");
  status.target_tier = field.String("targetTier");
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
  status.conditions = DecodeConditions(field);
}

}  // namespace pgtier::crds
