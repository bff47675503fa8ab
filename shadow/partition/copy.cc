// What both engines share: a step's transactions, and a copy in pieces that is compared.
#include "lib/postgres/sqlstate.h"
#include "shadow/internal.h"
#include "shadow/partition/internal.h"

namespace pgtier::shadow {

using migrations::Progress;

namespace {

constexpr size_t kMaxDifference = 500;  // of an error's text

Status GiveCopyUp(const StepCall& run, const std::string& part) {
  return WithLockRetries(run.connection, "giving the copy up", run.deadline, [&]() -> Status {
    auto done = run.connection.Query("SELECT pgtier.shadow_split_forget($1::oid)", {part}, run.deadline);
    return done.has_value() ? Status() : Status(done.error());
  });
}

}  // namespace

Status RefuseFindings(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += (text.empty() ? "" : "; ") + finding.code + ": " + finding.message + "; " + finding.cure;
  }
  if (text.empty()) return {};
  return MakeError(Code::kFailedPrecondition, text);
}

Tell TellAlways(int64_t finished, int64_t total, const std::string& message) {
  return [=](const std::string&) { return Progress{false, finished, total, message}; };
}

Result<std::string> DoInStep(const StepCall& run, const std::string& sql, const postgres::Params& params,
                             const std::string& stage, const Tell& tell, Progress& progress) {
  PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(run.connection, run.deadline));
  PGTIER_ASSIGN_OR_RETURN(auto value, Value(run.connection, sql, params, run.deadline));
  progress = tell(value.value_or(""));
  run.state.checkpoint["stage"] = stage;
  PGTIER_RETURN_IF_ERROR(run.save(run.state, progress, run.deadline));
  PGTIER_RETURN_IF_ERROR(transaction.Commit(run.deadline));
  return value.value_or("");
}

Status AnalyzeOnce(const StepCall& run, const std::string& table) {
  // The whole has no statistics of its own until somebody asks for them.
  const nlohmann::json& checkpoint = run.state.checkpoint;
  if (checkpoint.is_object() && checkpoint.value("stage", "") == "analyzed") return {};
  Progress progress;
  const StepCall patient{run.connection, run.state, run.save, Deadline::After(kReadAllLimit)};
  PGTIER_ASSIGN_OR_RETURN(std::ignore, DoInStep(patient, "SELECT pgtier.shadow_partition_analyze($1)", {table},
                                                "analyzed", TellAlways(4, 4, "reading samples of " + table), progress));
  return {};
}

Result<CopyState> FindCopy(postgres::Connection& connection, const std::string& part, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query("SELECT next_block, blocks, verified FROM pgtier.shadow_splits WHERE relation = $1::oid", {part},
                       deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  CopyState copy;
  PGTIER_ASSIGN_OR_RETURN(copy.next, row.Get<int64_t>("next_block"));
  PGTIER_ASSIGN_OR_RETURN(copy.blocks, row.Get<int64_t>("blocks"));
  PGTIER_ASSIGN_OR_RETURN(copy.verified, row.Get<bool>("verified"));
  return copy;
}

Result<Progress> CopyBlocks(const StepCall& run, const std::string& part, const CopyState& copy,
                            const std::string& name) {
  Progress progress;
  auto tell = [&](const std::string& finished) {
    return Progress{false, finished.empty() ? 0 : std::stoll(finished), copy.blocks,
                    "blocks of " + name + " are copied"};
  };
  auto copied = DoInStep(run, "SELECT finished FROM pgtier.shadow_split_copy($1::oid, $2)",
                         {part, std::to_string(kCopyBlocks)}, "splitting", tell, progress);
  if (copied.has_value()) return progress;
  if (postgres::SqlStateOf(copied.error()) != "23502") return copied.error();
  PGTIER_RETURN_IF_ERROR(GiveCopyUp(run, part));
  return MakeError(Code::kFailedPrecondition,
                   "RowsOutside: " + name + " has rows without a time, which have no place in " +
                       "a chunk: " + copied.error().message + "; give them one, and begin again");
}

Result<Progress> CompareCopy(const StepCall& run, const PartitionSpec& spec, const std::string& part,
                             const CopyState& copy, const std::string& name) {
  Progress progress;
  const StepCall patient{run.connection, run.state, run.save, Deadline::After(kReadAllLimit)};
  PGTIER_ASSIGN_OR_RETURN(
      auto differs, DoInStep(patient, "SELECT pgtier.shadow_split_verify($1::oid, $2, make_interval(secs => $3))",
                             {part, spec.column, SecondsText(spec.interval)}, "splitting",
                             TellAlways(copy.blocks, copy.blocks, "comparing " + name + " with its copy"), progress));
  if (differs.empty()) return progress;
  PGTIER_RETURN_IF_ERROR(GiveCopyUp(run, part));
  return MakeError(Code::kFailedPrecondition, "CopyDiffers: the copy of " + name + " has other rows than it: " +
                                                  differs.substr(0, kMaxDifference) + "; it was dropped");
}

}  // namespace pgtier::shadow
