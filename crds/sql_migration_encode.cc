#include "crds/ladder_codec.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/time_format.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

Json EncodeMigrationStepStatus(const MigrationStepStatus& step) {
  Json object{{"name", step.name}, {"state", step.state}};
  Put(object, "startedAt", step.started_at);
  Put(object, "finishedAt", step.finished_at);
  Put(object, "progress", step.progress);
  Put(object, "eta", step.eta);
  Put(object, "message", step.message);
  return object;
}

}  // namespace

Json EncodeMigrationStep(const MigrationStep& step) {
  Json object{{"name", step.name}};
  Put(object, "sql", step.sql);
  if (step.transaction.has_value()) object["transaction"] = *step.transaction;
  if (step.create_index.has_value()) {
    Json& index = object["createIndex"] = {{"table", step.create_index->table}, {"name", step.create_index->name}};
    if (!step.create_index->columns.empty()) index["columns"] = step.create_index->columns;
    Put(index, "definition", step.create_index->definition);
    if (step.create_index->unique) index["unique"] = true;
  }
  if (step.backfill.has_value()) {
    Json& backfill = object["backfill"] = {{"table", step.backfill->table}, {"set", step.backfill->set}};
    if (!step.backfill->key.empty()) backfill["key"] = step.backfill->key;
    Put(backfill, "where", step.backfill->where);
    if (step.backfill->batch_rows.has_value()) backfill["batchRows"] = *step.backfill->batch_rows;
    if (step.backfill->pause.has_value()) backfill["pause"] = FormatDuration(*step.backfill->pause);
  }
  if (step.verify.has_value()) {
    object["verify"] = {{"query", step.verify->query}, {"expect", step.verify->expect}};
  }
  if (step.partition_history.has_value()) {
    const PartitionHistoryStep& partition = *step.partition_history;
    Json& history = object["partitionHistory"] = {{"policy", partition.policy}, {"table", partition.table}};
    Put(history, "column", partition.column);
    if (partition.interval.has_value()) history["interval"] = FormatDuration(*partition.interval);
    Put(history, "engine", partition.engine);
    if (partition.ahead.has_value()) history["ahead"] = *partition.ahead;
  }
  return object;
}

Json EncodeStatus(const SqlMigrationStatus& status) {
  Json object{{"observedGeneration", status.observed_generation}};
  Json& summary = object["summary"] = Json::object();
  Put(summary, "step", status.summary.step);
  Put(summary, "progress", status.summary.progress);
  Put(summary, "eta", status.summary.eta);
  if (!status.plan_hash.empty()) {
    Json& plan = object["plan"] = {{"hash", status.plan_hash}};
    Put(plan, "approvedBy", status.approved_by);
  }
  PutList(object, "steps", status.steps, EncodeMigrationStepStatus);
  if (!status.dry_run.hash.empty()) {
    Json& dry_run = object["dryRun"] = {{"hash", status.dry_run.hash}};
    if (!status.dry_run.lines.empty()) dry_run["lines"] = status.dry_run.lines;
  }
  PutList(object, "conditions", status.conditions, EncodeCondition);
  return object;
}

}  // namespace pgtier::crds
