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

class PartitionStep final : public migrations::Step {
 public:
  explicit PartitionStep(PartitionSpec spec) : spec_(std::move(spec)) {}

  Result<std::vector<std::string>> Plan(Connection& connection, Deadline deadline) override {
    PGTIER_RETURN_IF_ERROR(CheckSpec(spec_));
    PGTIER_ASSIGN_OR_RETURN(PartitionState now, InspectPartitions(connection, spec_, deadline));
    if (now.stage == PartitionStage::kHypertable) return PlanHypertable(spec_, now);
    PGTIER_ASSIGN_OR_RETURN(PartitionEngine engine, EngineFor(connection, now, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto findings, FindingsFor(connection, engine, deadline));
    std::vector<std::string> lines;
    for (const Finding& finding : findings) {
      lines.push_back("in the way: " + finding.code + ": " + finding.message + "; " + finding.cure);
    }
    if (!lines.empty()) return lines;
    if (engine == PartitionEngine::kHypertable) return PlanHypertable(spec_, now);
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
    const StepCall run{connection, state, save, deadline};
    switch (now.stage) {
      case PartitionStage::kPlain:
      case PartitionStage::kCopying:
      case PartitionStage::kMarked:
        return Convert(run, now);
      case PartitionStage::kPartitioned:
        return Keep(run, now);
      case PartitionStage::kHypertable:
        return AdvanceHypertable(run, spec_, now);
      default:
        break;
    }
    PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(connection, spec_, deadline));
    PGTIER_RETURN_IF_ERROR(RefuseFindings(findings));
    return MakeError(Code::kFailedPrecondition, spec_.table + " can't be partitioned");
  }

 private:
  // What is under way stays what it is, unless the other is asked for by its name; what has partitions keeps them.
  Result<PartitionEngine> EngineFor(Connection& connection, const PartitionState& now, Deadline deadline) const {
    if (now.stage == PartitionStage::kPartitioned) return PartitionEngine::kNative;
    if (spec_.engine != PartitionEngine::kAuto) return spec_.engine;
    if (now.stage == PartitionStage::kCopying) return PartitionEngine::kHypertable;
    if (now.stage != PartitionStage::kPlain) return PartitionEngine::kNative;
    PGTIER_ASSIGN_OR_RETURN(auto timescale, InspectTimescale(connection, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto against, HypertableFindings(connection, spec_, deadline));
    return ChooseEngine(spec_.engine, timescale, against).engine;
  }

  Result<std::vector<Finding>> FindingsFor(Connection& connection, PartitionEngine engine, Deadline deadline) const {
    if (engine == PartitionEngine::kHypertable) return AllFindings(connection, spec_, deadline);
    return PartitionFindings(connection, spec_, deadline);
  }

  Result<Progress> Convert(const StepCall& run, const PartitionState& now) {
    PGTIER_ASSIGN_OR_RETURN(PartitionEngine engine, EngineFor(run.connection, now, run.deadline));
    bool native = engine == PartitionEngine::kNative;
    if (now.stage == (native ? PartitionStage::kCopying : PartitionStage::kMarked)) {
      PGTIER_RETURN_IF_ERROR(ForgetPartitioning(run.connection, spec_, run.deadline));
      return Progress{false, 0, 0, "took back what was prepared for the other engine"};
    }
    if (now.stage == PartitionStage::kPlain) {
      PGTIER_ASSIGN_OR_RETURN(auto findings, FindingsFor(run.connection, engine, run.deadline));
      PGTIER_RETURN_IF_ERROR(RefuseFindings(findings));
    }
    if (!native) return AdvanceHypertable(run, spec_, now);
    if (now.stage == PartitionStage::kPlain) return Prepare(run);
    return now.proven ? Attach(run) : Prove(run);
  }

  Result<Progress> Prepare(const StepCall& run) {
    Progress progress;
    PGTIER_ASSIGN_OR_RETURN(
        auto until,
        DoInStep(run, "SELECT pgtier.shadow_partition_shell($1, $2, make_interval(secs => $3), $4::integer)",
                 {spec_.table, spec_.column, SecondsText(spec_.interval), std::to_string(spec_.ahead)}, "prepared",
                 TellAlways(1, 4, "made partitions beside " + spec_.table), progress));
    PGTIER_ASSIGN_OR_RETURN(
        std::ignore,
        DoInStep(
            run, "SELECT pgtier.shadow_partition_mark($1, $2)", {spec_.table, spec_.column}, "marked",
            TellAlways(2, 4, "rows of " + spec_.table + " up to " + until + " stay where they are: looking at each"),
            progress));
    return progress;
  }

  Result<Progress> Prove(const StepCall& run) {
    // One that was changed since, or whose time has come near, is prepared anew.
    PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(run.connection, spec_, run.deadline));
    PGTIER_RETURN_IF_ERROR(RefuseFindings(findings));
    PGTIER_ASSIGN_OR_RETURN(Progress again, Prepare(run));
    PGTIER_ASSIGN_OR_RETURN(
        auto table,
        Value(run.connection, "SELECT format('%I.%I', schema_name, table_name) FROM pgtier.shadow_names($1)",
              {spec_.table}, run.deadline));
    auto proven =
        run.connection.Execute("ALTER TABLE " + table.value_or("") + " VALIDATE CONSTRAINT pgtier_partition_bound",
                               Deadline::After(kReadAllLimit));
    if (!proven.has_value()) {
      if (postgres::SqlStateOf(proven.error()) != "23514") return proven.error();
      PGTIER_RETURN_IF_ERROR(ForgetPartitioning(run.connection, spec_, run.deadline));
      return MakeError(Code::kFailedPrecondition,
                       "RowsOutside: " + spec_.table + " has rows whose " + spec_.column +
                           " is NULL or in the future; give them a time that was, and begin again");
    }
    again.finished = 3;
    again.message = "each row of " + spec_.table + " was looked at";
    return again;
  }

  Result<Progress> Attach(const StepCall& run) {
    Progress progress;
    PGTIER_ASSIGN_OR_RETURN(auto how,
                            DoInStep(run, "SELECT pgtier.shadow_partition_attach($1)", {spec_.table}, "attached",
                                     TellAlways(4, 4, spec_.table + " is partitioned"), progress));
    if (how != "again") return progress;
    PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(run.connection, spec_, run.deadline));
    PGTIER_RETURN_IF_ERROR(RefuseFindings(findings));
    return Prepare(run);
  }

  Result<Progress> Keep(const StepCall& run, const PartitionState& now) {
    PGTIER_RETURN_IF_ERROR(EnsureAhead(run.connection, spec_, run.deadline));
    Progress progress;
    if (now.old_part_past) {
      PGTIER_ASSIGN_OR_RETURN(auto part,
                              DoInStep(run, "SELECT pgtier.shadow_split_begin($1, $2, make_interval(secs => $3))::text",
                                       {spec_.table, spec_.column, SecondsText(spec_.interval)}, "splitting",
                                       TellAlways(0, 0, "copying " + now.old_part), progress));
      if (!part.empty()) return Split(run, part, now.old_part);
    }
    PGTIER_RETURN_IF_ERROR(AnalyzeOnce(run, spec_.table));
    return Progress{true, 4, 4, spec_.table + " has " + std::to_string(now.parts) + " partitions"};
  }

  Result<Progress> Split(const StepCall& run, const std::string& part, const std::string& name) const {
    PGTIER_ASSIGN_OR_RETURN(CopyState copy, FindCopy(run.connection, part, run.deadline));
    if (copy.next < copy.blocks) return CopyBlocks(run, part, copy, name);
    if (!copy.verified) return CompareCopy(run, spec_, part, copy, name);
    Progress progress;
    PGTIER_ASSIGN_OR_RETURN(std::ignore, DoInStep(run, "SELECT pgtier.shadow_split_swap($1::oid)", {part}, "split",
                                                  TellAlways(copy.blocks, copy.blocks, name + " is split"), progress));
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
  partition.engine = ParseEngine(text("engine"));
  PGTIER_RETURN_IF_ERROR(CheckSpec(partition));
  return MakePartitionStep(std::move(partition));
}

}  // namespace pgtier::shadow
