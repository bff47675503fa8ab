#include "shadow/partition/step.h"

#include <algorithm>
#include <functional>

#include "lib/base/time_format.h"
#include "lib/postgres/sqlstate.h"
#include "shadow/internal.h"
#include "shadow/partition/internal.h"

namespace pgtier::shadow {
namespace {

using migrations::Progress;
using migrations::SaveCheckpoint;
using migrations::StepState;
using postgres::Connection;

// Statements that read a whole table, can't be had in pieces, and hold nobody up.
constexpr Duration kReadAllLimit = std::chrono::hours(6);
// Of a copy, in one transaction: 4 MiB, which is a second or less.
constexpr int kCopyBlocks = 512;
constexpr size_t kMaxDifference = 500;  // of an error's text

Status RefuseFindings(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += (text.empty() ? "" : "; ") + finding.code + ": " + finding.message + "; " + finding.cure;
  }
  if (text.empty()) return {};
  return MakeError(Code::kFailedPrecondition, text);
}

class PartitionStep final : public migrations::Step {
 public:
  explicit PartitionStep(PartitionSpec spec) : spec_(std::move(spec)) {}

  Result<std::vector<std::string>> Plan(Connection& connection, Deadline deadline) override {
    PGTIER_RETURN_IF_ERROR(CheckSpec(spec_));
    PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(connection, spec_, deadline));
    PGTIER_ASSIGN_OR_RETURN(PartitionState now, InspectPartitions(connection, spec_, deadline));
    std::vector<std::string> lines;
    for (const Finding& finding : findings) {
      lines.push_back("in the way: " + finding.code + ": " + finding.message + "; " + finding.cure);
    }
    if (!lines.empty()) return lines;
    const std::string& t = spec_.table;
    std::string periods = FormatDuration(spec_.interval);
    if (now.stage == PartitionStage::kPartitioned) {
      lines.push_back("add partitions of " + periods + " to " + t + " for " + std::to_string(spec_.ahead) +
                      " periods ahead: SHARE UPDATE EXCLUSIVE, writers go on");
      if (now.old_part_past) {
        lines.push_back("split " + now.old_part + " into partitions of " + periods +
                        " by a copy that is compared with it: readers and writers go on; then ACCESS EXCLUSIVE for some"
                        " milliseconds, at most 600 ms of waiting a try");
      }
      return lines;
    }
    return std::vector<std::string>{"make an empty partitioned table like " + t + " with partitions of " + periods +
                                        " for " + std::to_string(spec_.ahead) + " periods ahead: ACCESS SHARE on " + t,
                                    "add a CHECK to " + t + " that " + spec_.column +
                                        " is below the first of them, NOT VALID: ACCESS EXCLUSIVE for some "
                                        "milliseconds, at most 600 ms of waiting a try",
                                    "VALIDATE the CHECK, which reads " + std::to_string(now.bytes >> 20U) +
                                        " MiB: SHARE UPDATE EXCLUSIVE, readers and writers go on",
                                    "exchange the names and ATTACH " + t +
                                        " as the first partition, without a scan: ACCESS EXCLUSIVE for some"
                                        " milliseconds, at most 600 ms of waiting a try"};
  }

  Result<Progress> Advance(Connection& connection, StepState& state, const SaveCheckpoint& save,
                           Deadline deadline) override {
    PGTIER_RETURN_IF_ERROR(CheckSpec(spec_));
    PGTIER_ASSIGN_OR_RETURN(PartitionState now, InspectPartitions(connection, spec_, deadline));
    switch (now.stage) {
      case PartitionStage::kPlain:
        return Prepare(connection, state, save, deadline);
      case PartitionStage::kMarked:
        return now.proven ? Attach(connection, state, save, deadline) : Prove(connection, state, save, deadline);
      case PartitionStage::kPartitioned:
        return Keep(connection, now, state, save, deadline);
      case PartitionStage::kHypertable: {
        Progress progress;
        progress.done = true;
        progress.message = spec_.table + " is a hypertable already";
        return progress;
      }
      default:
        break;
    }
    PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(connection, spec_, deadline));
    PGTIER_RETURN_IF_ERROR(RefuseFindings(findings));
    return MakeError(Code::kFailedPrecondition, spec_.table + " can't be partitioned");
  }

 private:
  // What is known once a statement's value is.
  using Tell = std::function<Progress(const std::string& value)>;

  // One transaction: `sql`, and the progress that its value makes. Gives the value; empty for NULL.
  static Result<std::string> Do(Connection& connection, const std::string& sql, const postgres::Params& params,
                                const std::string& stage, StepState& state, const Tell& tell, Progress& progress,
                                const SaveCheckpoint& save, Deadline deadline) {
    PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto value, Value(connection, sql, params, deadline));
    progress = tell(value.value_or(""));
    state.checkpoint["stage"] = stage;
    PGTIER_RETURN_IF_ERROR(save(state, progress, deadline));
    PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
    return value.value_or("");
  }

  static Tell Always(int64_t finished, int64_t total, const std::string& message) {
    return [=](const std::string&) { return Progress{false, finished, total, message}; };
  }

  Result<Progress> Prepare(Connection& connection, StepState& state, const SaveCheckpoint& save, Deadline deadline) {
    PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(connection, spec_, deadline));
    PGTIER_RETURN_IF_ERROR(RefuseFindings(findings));
    Progress progress;
    PGTIER_ASSIGN_OR_RETURN(
        auto until,
        Do(connection, "SELECT pgtier.shadow_partition_shell($1, $2, make_interval(secs => $3), $4::integer)",
           {spec_.table, spec_.column, SecondsText(spec_.interval), std::to_string(spec_.ahead)}, "prepared", state,
           Always(1, 4, "made partitions beside " + spec_.table), progress, save, deadline));
    PGTIER_ASSIGN_OR_RETURN(
        std::ignore,
        Do(connection, "SELECT pgtier.shadow_partition_mark($1, $2)", {spec_.table, spec_.column}, "marked", state,
           Always(2, 4, "rows of " + spec_.table + " up to " + until + " stay where they are: looking at each"),
           progress, save, deadline));
    return progress;
  }

  Result<Progress> Prove(Connection& connection, StepState& state, const SaveCheckpoint& save, Deadline deadline) {
    // One that was changed since, or whose time has come near, is prepared anew.
    PGTIER_ASSIGN_OR_RETURN(Progress again, Prepare(connection, state, save, deadline));
    PGTIER_ASSIGN_OR_RETURN(
        auto table, Value(connection, "SELECT format('%I.%I', schema_name, table_name) FROM pgtier.shadow_names($1)",
                          {spec_.table}, deadline));
    auto proven =
        connection.Execute("ALTER TABLE " + table.value_or("") + " VALIDATE CONSTRAINT pgtier_partition_bound",
                           Deadline::After(kReadAllLimit));
    if (!proven.has_value()) {
      if (postgres::SqlStateOf(proven.error()) != "23514") return proven.error();
      PGTIER_RETURN_IF_ERROR(ForgetPartitioning(connection, spec_, deadline));
      return MakeError(Code::kFailedPrecondition,
                       "RowsOutside: " + spec_.table + " has rows whose " + spec_.column +
                           " is NULL or in the future; give them a time that was, and begin again");
    }
    again.finished = 3;
    again.message = "each row of " + spec_.table + " was looked at";
    return again;
  }

  Result<Progress> Attach(Connection& connection, StepState& state, const SaveCheckpoint& save, Deadline deadline) {
    Progress progress;
    PGTIER_ASSIGN_OR_RETURN(
        auto how, Do(connection, "SELECT pgtier.shadow_partition_attach($1)", {spec_.table}, "attached", state,
                     Always(4, 4, spec_.table + " is partitioned"), progress, save, deadline));
    if (how != "again") return progress;
    return Prepare(connection, state, save, deadline);
  }

  Result<Progress> Keep(Connection& connection, const PartitionState& now, StepState& state, const SaveCheckpoint& save,
                        Deadline deadline) {
    PGTIER_RETURN_IF_ERROR(EnsureAhead(connection, spec_, deadline));
    Progress progress;
    if (now.old_part_past) {
      PGTIER_ASSIGN_OR_RETURN(
          auto part, Do(connection, "SELECT pgtier.shadow_split_begin($1, $2, make_interval(secs => $3))::text",
                        {spec_.table, spec_.column, SecondsText(spec_.interval)}, "splitting", state,
                        Always(0, 0, "copying " + now.old_part), progress, save, deadline));
      if (!part.empty()) return Split(connection, part, now, state, save, deadline);
    }
    // The whole has no statistics of its own until somebody asks for them.
    if (!state.checkpoint.is_object() || state.checkpoint.value("stage", "") != "analyzed") {
      PGTIER_ASSIGN_OR_RETURN(std::ignore, Do(connection, "SELECT pgtier.shadow_partition_analyze($1)", {spec_.table},
                                              "analyzed", state, Always(4, 4, "reading samples of " + spec_.table),
                                              progress, save, Deadline::After(kReadAllLimit)));
    }
    return Progress{true, 4, 4, spec_.table + " has " + std::to_string(now.parts) + " partitions"};
  }

  Result<Progress> Split(Connection& connection, const std::string& part, const PartitionState& now, StepState& state,
                         const SaveCheckpoint& save, Deadline deadline) {
    PGTIER_ASSIGN_OR_RETURN(
        auto rows,
        connection.Query("SELECT next_block, blocks, verified FROM pgtier.shadow_splits WHERE relation = $1::oid",
                         {part}, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(auto next, row.Get<int64_t>("next_block"));
    PGTIER_ASSIGN_OR_RETURN(auto total, row.Get<int64_t>("blocks"));
    PGTIER_ASSIGN_OR_RETURN(auto verified, row.Get<bool>("verified"));
    Progress progress;
    if (next < total) {
      PGTIER_ASSIGN_OR_RETURN(std::ignore,
                              Do(
                                  connection, "SELECT finished FROM pgtier.shadow_split_copy($1::oid, $2)",
                                  {part, std::to_string(kCopyBlocks)}, "splitting", state,
                                  [&](const std::string& finished) {
                                    int64_t blocks = finished.empty() ? 0 : std::stoll(finished);
                                    return Progress{false, blocks, total, "blocks of " + now.old_part + " are copied"};
                                  },
                                  progress, save, deadline));
      return progress;
    }
    if (!verified) {
      PGTIER_ASSIGN_OR_RETURN(
          auto differs, Do(connection, "SELECT pgtier.shadow_split_verify($1::oid, $2, make_interval(secs => $3))",
                           {part, spec_.column, SecondsText(spec_.interval)}, "splitting", state,
                           Always(total, total, "comparing " + now.old_part + " with its copy"), progress, save,
                           Deadline::After(kReadAllLimit)));
      if (differs.empty()) return progress;
      Status given_up = WithLockRetries(connection, "giving the copy up", deadline, [&]() -> Status {
        auto done = connection.Query("SELECT pgtier.shadow_split_forget($1::oid)", {part}, deadline);
        return done.has_value() ? Status() : Status(done.error());
      });
      PGTIER_RETURN_IF_ERROR(given_up);
      return MakeError(Code::kFailedPrecondition, "CopyDiffers: the copy of " + now.old_part +
                                                      " has other rows than it: " + differs.substr(0, kMaxDifference) +
                                                      "; it was dropped");
    }
    PGTIER_ASSIGN_OR_RETURN(std::ignore,
                            Do(connection, "SELECT pgtier.shadow_split_swap($1::oid)", {part}, "split", state,
                               Always(total, total, now.old_part + " is split"), progress, save, deadline));
    return progress;
  }

  PartitionSpec spec_;
};

}  // namespace

std::unique_ptr<migrations::Step> MakePartitionStep(PartitionSpec spec) {
  return std::make_unique<PartitionStep>(std::move(spec));
}

Result<std::unique_ptr<migrations::Step>> MakePartitionHistoryStep(const nlohmann::json& spec) {
  auto text = [&](const char* key) {
    auto found = spec.find(key);
    return found != spec.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  PartitionSpec partition;
  // As it is stored: SQL folds what is not quoted.
  std::string stored = text("table");
  bool quote = stored.find('"') == std::string::npos &&
               std::any_of(stored.begin(), stored.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (quote) {
    size_t dot = stored.find('.');
    partition.table = dot == std::string::npos ? '"' + stored + '"'
                                               : '"' + stored.substr(0, dot) + "\".\"" + stored.substr(dot + 1) + '"';
  } else {
    partition.table = stored;
  }
  if (partition.table.empty()) return MakeError(Code::kInvalidArgument, "partitionHistory names no table");
  if (!text("column").empty()) partition.column = text("column");
  if (!text("interval").empty()) {
    PGTIER_ASSIGN_OR_RETURN(partition.interval, ParseDuration(text("interval")));
  }
  if (auto ahead = spec.find("ahead"); ahead != spec.end() && ahead->is_number_integer()) {
    partition.ahead = ahead->get<int>();
  }
  if (text("engine") == "Hypertable") {
    return MakeError(Code::kUnimplemented, "NotAvailable: partitionHistory.engine Hypertable; take Native or Auto");
  }
  PGTIER_RETURN_IF_ERROR(CheckSpec(partition));
  return MakePartitionStep(std::move(partition));
}

}  // namespace pgtier::shadow
