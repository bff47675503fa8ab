// For the sources of shadow/partition only.
#pragma once

#include <functional>
#include <string>

#include "migrations/step.h"
#include "shadow/partition/partition.h"

namespace pgtier::shadow {

// Whole seconds, as make_interval takes them.
std::string SecondsText(Duration duration);

// Errors: kInvalidArgument.
Status CheckSpec(const PartitionSpec& spec);

// Statements that read a whole table, can't be had in pieces, and hold nobody up.
constexpr Duration kReadAllLimit = std::chrono::hours(6);
// Of a copy, in one transaction: 4 MiB, which is a second or less.
constexpr int kCopyBlocks = 512;

// An error that names them all; nothing where there are none.
Status RefuseFindings(const std::vector<Finding>& findings);

// What is known once a statement's value is.
using Tell = std::function<migrations::Progress(const std::string& value)>;
Tell TellAlways(int64_t finished, int64_t total, const std::string& message);

// What a step's call of Advance works with.
struct StepCall {
  postgres::Connection& connection;
  migrations::StepState& state;
  const migrations::SaveCheckpoint& save;
  Deadline deadline;
};

// One transaction: `sql`, and the progress that its value makes. Gives the value; empty for NULL.
Result<std::string> DoInStep(const StepCall& run, const std::string& sql, const postgres::Params& params,
                             const std::string& stage, const Tell& tell, migrations::Progress& progress);
// Reads samples of the whole table, once a migration.
Status AnalyzeOnce(const StepCall& run, const std::string& table);

// A copy that was begun, by its relation's oid as text.
struct CopyState {
  int64_t next = 0, blocks = 0;
  bool verified = false;
};
Result<CopyState> FindCopy(postgres::Connection& connection, const std::string& part, Deadline deadline);
// The next blocks, or, when all are copied, the comparison; `name` is what the relation is called. Errors:
// kFailedPrecondition: the copy differs, and was dropped.
Result<migrations::Progress> CopyBlocks(const StepCall& run, const std::string& part, const CopyState& copy,
                                        const std::string& name);
Result<migrations::Progress> CompareCopy(const StepCall& run, const PartitionSpec& spec, const std::string& part,
                                         const CopyState& copy, const std::string& name);

// PartitionFindings and HypertableFindings.
Result<std::vector<Finding>> AllFindings(postgres::Connection& connection, const PartitionSpec& spec,
                                         Deadline deadline);

// The step's work where the engine is TimescaleDB: of a plain table, or of a hypertable that is not finished.
Result<migrations::Progress> AdvanceHypertable(const StepCall& run, const PartitionSpec& spec,
                                               const PartitionState& now);
std::vector<std::string> PlanHypertable(const PartitionSpec& spec, const PartitionState& now);

}  // namespace pgtier::shadow
