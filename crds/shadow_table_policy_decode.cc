#include "crds/field_reader.h"
#include "crds/ladder_codec.h"
#include "crds/shadow_table_policy_codec.h"

namespace pgtier::crds {
namespace {

ShadowTierSpec DecodeShadowTier(const FieldReader& field) {
  ShadowTierSpec tier;
  DecodeTierRule(field, tier);
  FieldReader workers = field.Child("workers");
  tier.workers_min = workers.OptionalSmallInt("min");
  tier.workers_max = workers.OptionalSmallInt("max");
  tier.delivery = field.OptionalString("delivery");
  tier.queue_alert = field.OptionalInt("queueAlert");
  tier.slot = field.OptionalString("slot");
  tier.max_retained_wal = field.OptionalQuantity("maxRetainedWAL");
  return tier;
}

Partitioning DecodePartitioning(const FieldReader& field) {
  FieldReader compression = field.Child("compression");
  Partitioning partitioning;
  partitioning.rows = field.OptionalInt("rows");
  partitioning.column = field.String("column");
  partitioning.interval = field.OptionalDuration("interval");
  partitioning.engine = field.String("engine");
  partitioning.ahead = field.OptionalSmallInt("ahead");
  partitioning.retain = field.OptionalDuration("retain");
  partitioning.compression = field.Has("compression");
  partitioning.compression_rows = compression.OptionalInt("rows");
  partitioning.compression_older_than = compression.OptionalDuration("olderThan");
  return partitioning;
}

ShadowTablePolicySpec DecodeShadowSpec(const FieldReader& field) {
  ShadowTablePolicySpec spec;
  DecodeLadderSpec(field, spec);
  FieldReader database = field.Child("databaseRef");
  spec.database_kind = database.String("kind");
  spec.database_name = database.String("name");
  spec.connection_secret = field.Child("connectionSecret").String("name");
  spec.channel = field.String("channel");
  field.ForEach("tables", [&](const FieldReader& item) {
    spec.tables.push_back({item.String("name"), item.String("shadow")});
  });
  if (spec.tables.empty()) field.Problem("tables", "at least one table is needed");
  spec.audit_events_table = field.Child("auditEvents").String("table");
  spec.actor_setting = field.Child("actor").String("setting");
  field.ForEach("tiers", [&](const FieldReader& item) { spec.tiers.push_back(DecodeShadowTier(item)); });
  if (spec.tiers.empty()) field.Problem("tiers", "at least one tier is needed");
  if (field.Has("partitioning")) spec.partitioning = DecodePartitioning(field.Child("partitioning"));
  return spec;
}

ShadowTablePolicyStatus DecodeShadowStatus(const FieldReader& field) {
  ShadowTablePolicyStatus status;
  DecodeLadderStatus(field, status);
  status.epoch = field.OptionalInt("epoch").value_or(0);
  FieldReader summary = field.Child("summary");
  status.summary = {summary.String("closest"), summary.String("queue"), summary.String("lag"), summary.String("tables"),
                    summary.String("workers")};
  field.ForEach("tables", [&](const FieldReader& item) {
    status.tables.push_back(
        {item.String("name"), item.String("shadow"), item.Bool("installed"), item.String("finding")});
  });
  status.database = field.String("database");
  FieldReader audit = field.Child("auditEvents");
  status.audit_events = {audit.String("table"), audit.Bool("exists"), audit.String("rows"), audit.String("finding")};
  FieldReader slot = field.Child("slot");
  status.slot = {slot.String("name"), slot.String("walStatus"), slot.Bool("active")};
  return status;
}

}  // namespace

Result<ShadowTablePolicy> DecodeShadowTablePolicy(const nlohmann::json& object) {
  ShadowTablePolicy policy;
  FieldReader root(&object, "", nullptr);
  policy.meta = DecodeMeta(root.Child("metadata"));
  if (policy.meta.name.empty()) return MakeError(Code::kInvalidArgument, "a ShadowTablePolicy without a name");
  auto spec = object.find("spec");
  policy.spec = DecodeShadowSpec(FieldReader(spec == object.end() ? nullptr : &*spec, "spec", &policy.problems));
  policy.status = DecodeShadowStatus(root.Child("status"));
  return policy;
}

}  // namespace pgtier::crds
