#include "crds/field_reader.h"
#include "crds/ladder_codec.h"
#include "crds/sql_migration_codec.h"

namespace pgtier::crds {
namespace {

MigrationStep DecodeMigrationStep(const FieldReader& field) {
  MigrationStep step;
  step.name = field.String("name");
  step.sql = field.String("sql");
  if (field.Has("transaction")) step.transaction = field.Bool("transaction");
  if (field.Has("createIndex")) {
    FieldReader index = field.Child("createIndex");
    step.create_index = CreateIndexStep{index.String("table"), index.String("name"), index.StringList("columns"),
                                        index.String("definition"), index.Bool("unique")};
  }
  if (field.Has("backfill")) {
    FieldReader backfill = field.Child("backfill");
    step.backfill =
        BackfillStep{backfill.String("table"), backfill.StringList("key"),        backfill.String("set"),
                     backfill.String("where"), backfill.OptionalInt("batchRows"), backfill.OptionalDuration("pause")};
  }
  if (field.Has("verify")) {
    FieldReader verify = field.Child("verify");
    step.verify = VerifyStep{verify.String("query"), verify.String("expect")};
  }
  if (field.Has("partitionHistory")) {
    FieldReader partition = field.Child("partitionHistory");
    step.partition_history = PartitionHistoryStep{partition.String("policy"), partition.String("table"),
                                                  partition.String("column"), partition.OptionalDuration("interval"),
                                                  partition.String("engine"), partition.OptionalInt("ahead")};
  }
  int kinds = (step.sql.empty() ? 0 : 1) + (step.create_index ? 1 : 0) + (step.backfill ? 1 : 0) +
              (step.verify ? 1 : 0) + (step.partition_history ? 1 : 0);
  if (kinds != 1)
    field.Problem("name",
                  "the step is not exactly one of sql, createIndex, backfill, verify, "
                  "partitionHistory");
  return step;
}

SqlMigrationSpec DecodeMigrationSpec(const FieldReader& field) {
  SqlMigrationSpec spec;
  FieldReader database = field.Child("databaseRef");
  spec.database_kind = database.String("kind");
  spec.database_name = database.String("name");
  spec.connection_secret = field.Child("connectionSecret").String("name");
  field.ForEach("steps", [&](const FieldReader& item) { spec.steps.push_back(DecodeMigrationStep(item)); });
  if (spec.steps.empty()) field.Problem("steps", "at least one step is needed");
  spec.lock_timeout = field.OptionalDuration("lockTimeout");
  FieldReader throttle = field.Child("throttle");
  spec.replica_lag = throttle.OptionalDuration("replicaLag");
  spec.slot_retained = throttle.OptionalQuantity("slotRetained");
  spec.dry_run = field.Bool("dryRun");
  spec.require_approval = field.Bool("requireApproval");
  spec.approved_plan = field.String("approvedPlan");
  return spec;
}

SqlMigrationStatus DecodeMigrationStatus(const FieldReader& field) {
  SqlMigrationStatus status;
  status.observed_generation = field.OptionalInt("observedGeneration").value_or(0);
  FieldReader summary = field.Child("summary");
  status.summary = {summary.String("step"), summary.String("progress"), summary.String("eta")};
  FieldReader plan = field.Child("plan");
  status.plan_hash = plan.String("hash");
  status.approved_by = plan.String("approvedBy");
  field.ForEach("steps", [&](const FieldReader& item) {
    status.steps.push_back({item.String("name"), item.String("state"), item.OptionalTime("startedAt"),
                            item.OptionalTime("finishedAt"), item.String("progress"), item.String("eta"),
                            item.String("message")});
  });
  FieldReader dry_run = field.Child("dryRun");
  status.dry_run = {dry_run.String("hash"), dry_run.StringList("lines")};
  status.conditions = DecodeConditions(field);
  return status;
}

}  // namespace

Result<SqlMigration> DecodeSqlMigration(const nlohmann::json& object) {
  SqlMigration migration;
  FieldReader root(&object, "", nullptr);
  migration.meta = DecodeMeta(root.Child("metadata"));
  if (migration.meta.name.empty()) return MakeError(Code::kInvalidArgument, "a SqlMigration without a name");
  auto spec = object.find("spec");
  migration.spec =
      DecodeMigrationSpec(FieldReader(spec == object.end() ? nullptr : &*spec, "spec", &migration.problems));
  migration.status = DecodeMigrationStatus(root.Child("status"));
  return migration;
}

}  // namespace pgtier::crds
