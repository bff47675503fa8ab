// SqlMigration as C++ types: what crds/sqlmigrations.yaml describes, decoded. Absent optional fields stay absent here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crds/ladder.h"

namespace pgtier::crds {

struct CreateIndexStep {
  std::string table, name;
  std::vector<std::string> columns;  // One of these two.
  std::string definition;
  bool unique = false;
};

struct BackfillStep {
  std::string table;
  std::vector<std::string> key;
  std::string set, where;
  std::optional<int64_t> batch_rows;
  std::optional<Duration> pause;
};

struct VerifyStep {
  std::string query, expect;
};

struct PartitionHistoryStep {
  std::string policy, table, column;
  std::optional<Duration> interval;
  std::string engine;  // Auto | Native | Hypertable, or empty.
  std::optional<int64_t> ahead;
};

// Exactly one of what follows the name.
struct MigrationStep {
  std::string name;
  std::string sql;
  std::optional<bool> transaction;  // Of sql.
  std::optional<CreateIndexStep> create_index;
  std::optional<BackfillStep> backfill;
  std::optional<VerifyStep> verify;
  std::optional<PartitionHistoryStep> partition_history;
};

struct SqlMigrationSpec {
  std::string database_kind;      // ScaleTierPolicy, or empty.
  std::string database_name;      // Empty: connection_secret is set.
  std::string connection_secret;  // Name of a Secret.
  std::vector<MigrationStep> steps;
  std::optional<Duration> lock_timeout;
  std::optional<Duration> replica_lag;  // Of throttle, with the next.
  std::optional<double> slot_retained;  // Bytes.
  bool dry_run = false;
  bool require_approval = false;
  std::string approved_plan;
};

struct MigrationStepStatus {
  std::string name;
  std::string state = "Pending";  // Pending | Running | Paused | Done | Failed
  std::optional<WallTime> started_at, finished_at;
  std::string progress, eta, message;
};

struct MigrationSummary {
  std::string step, progress, eta;

  bool operator==(const MigrationSummary&) const = default;
};

struct DryRunStatus {
  std::string hash;  // Empty: there was none.
  std::vector<std::string> lines;

  bool operator==(const DryRunStatus&) const = default;
};

struct SqlMigrationStatus {
  int64_t observed_generation = 0;
  MigrationSummary summary;
  std::string plan_hash;
  std::string approved_by;  // Channel and time; empty: nobody has.
  std::vector<MigrationStepStatus> steps;
  DryRunStatus dry_run;
  std::vector<Condition> conditions;
};

struct SqlMigration {
  Meta meta;
  SqlMigrationSpec spec;
  SqlMigrationStatus status;
  // As ScaleTierPolicy::problems.
  std::vector<std::string> problems;
};

}  // namespace pgtier::crds
