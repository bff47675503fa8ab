// A history becomes a hypertable of TimescaleDB's: docs/decisions/0069.
#include "lib/base/time_format.h"
#include "lib/postgres/sqlstate.h"
#include "shadow/internal.h"
#include "shadow/partition/internal.h"

namespace pgtier::shadow {

using migrations::Progress;

namespace {

// Rows that came meanwhile, in one transaction; fewer than that may be left for the last one.
constexpr int kLateRows = 5000;

std::string Literal(const std::string& text) {
  std::string literal = "'";
  for (char c : text) literal += c == '\'' ? "''" : std::string(1, c);
  return literal + "'";
}

}  // namespace

Result<std::vector<Chunk>> ChunksToCompress(postgres::Connection& connection, const PartitionSpec& spec,
                                            Duration older_than, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query("SELECT k.relation::regclass::text AS name,"
                       " to_char(k.upper AT TIME ZONE 'UTC', 'YYYYMMDD\"t\"HH24MI-') || c.relfilenode AS once"
                       " FROM pgtier.shadow_partition_state($1, $2) AS s, pgtier.shadow_chunks(s.relation) AS k"
                       " JOIN pg_class AS c ON c.oid = k.relation WHERE s.state = 'hypertable' AND NOT k.compressed"
                       " AND k.upper <= clock_timestamp() - make_interval(secs => $3)"
                       " AND (SELECT h.managed FROM pgtier.shadow_hypertable_state(s.relation) AS h)"
                       " ORDER BY k.upper LIMIT 16",
                       {spec.table, spec.column, SecondsText(older_than)}, deadline));
  std::vector<Chunk> chunks;
  for (const postgres::Row& row : rows) {
    Chunk& chunk = chunks.emplace_back();
    PGTIER_ASSIGN_OR_RETURN(chunk.name, row.Get<std::string>("name"));
    PGTIER_ASSIGN_OR_RETURN(chunk.once, row.Get<std::string>("once"));
  }
  return chunks;
}

std::string CompressionEnabling(const PartitionSpec& spec) {
  return "SELECT pgtier.shadow_compression_enable(" + Literal(spec.table) + ")";
}

std::string CompressionOf(const Chunk& chunk, const PartitionSpec& spec) {
  return "SELECT pgtier.shadow_chunk_compress(" + Literal(spec.table) + ", " + Literal(chunk.name) + ")";
}

Result<std::vector<Finding>> AllFindings(postgres::Connection& connection, const PartitionSpec& spec,
                                         Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto findings, PartitionFindings(connection, spec, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto more, HypertableFindings(connection, spec, deadline));
  findings.insert(findings.end(), more.begin(), more.end());
  return findings;
}

std::vector<std::string> PlanHypertable(const PartitionSpec& spec, const PartitionState& now) {
  const std::string& t = spec.table;
  if (now.stage == PartitionStage::kHypertable) return {t + " is a hypertable already"};
  return {"make an empty hypertable like " + t + " with chunks of " + FormatDuration(spec.interval) +
              ": ACCESS SHARE on " + t,
          "add triggers to " + t +
              " that keep rows which come from now on: SHARE ROW EXCLUSIVE for some milliseconds, at most 600 ms of "
              "waiting a try",
          "copy " + std::to_string(now.bytes >> 20U) +
              " MiB in pieces, compare the copy with the table: readers and writers go on",
          "add the last of the rows that came meanwhile, at most " + std::to_string(kLateRows) +
              ", and exchange the names: ACCESS EXCLUSIVE for some milliseconds, at most 600 ms of waiting a try",
          "drop what the table was"};
}

Result<Progress> AdvanceHypertable(const StepCall& run, const PartitionSpec& spec, const PartitionState& now) {
  Progress progress;
  if (now.stage == PartitionStage::kHypertable) {
    if (!now.managed) return Progress{true, 0, 0, spec.table + " is a hypertable already"};
    if (now.unfinished) {
      PGTIER_ASSIGN_OR_RETURN(std::ignore,
                              DoInStep(run, "SELECT pgtier.shadow_hypertable_retire($1)", {spec.table}, "retired",
                                       TellAlways(0, 0, "dropped what " + spec.table + " was"), progress));
      return progress;
    }
    PGTIER_RETURN_IF_ERROR(AnalyzeOnce(run, spec.table));
    return Progress{true, 1, 1, spec.table + " is a hypertable of " + std::to_string(now.parts) + " chunks"};
  }
  PGTIER_ASSIGN_OR_RETURN(
      auto table, DoInStep(run, "SELECT pgtier.shadow_hypertable_begin($1, $2, make_interval(secs => $3))::text",
                           {spec.table, spec.column, SecondsText(spec.interval)}, "copying",
                           TellAlways(0, 0, "copying " + spec.table), progress));
  if (table.empty()) return progress;  // It is something else by now.
  PGTIER_ASSIGN_OR_RETURN(CopyState copy, FindCopy(run.connection, table, run.deadline));
  if (copy.next < copy.blocks) return CopyBlocks(run, table, copy, spec.table);
  auto caught_up = [&](const std::string& moved) {
    return Progress{false, copy.blocks, copy.blocks, moved + " rows that came meanwhile are in the copy"};
  };
  PGTIER_ASSIGN_OR_RETURN(auto moved, DoInStep(run, "SELECT pgtier.shadow_hypertable_late($1::oid, $2::integer)",
                                               {table, std::to_string(kLateRows)}, "copying", caught_up, progress));
  if (moved == std::to_string(kLateRows)) return progress;
  if (!copy.verified) return CompareCopy(run, spec, table, copy, spec.table);
  // What came while it was copied: a publication, a view that keeps what it has read.
  PGTIER_ASSIGN_OR_RETURN(auto findings, AllFindings(run.connection, spec, run.deadline));
  if (!findings.empty()) {
    PGTIER_RETURN_IF_ERROR(ForgetPartitioning(run.connection, spec, run.deadline));
    return RefuseFindings(findings).error();
  }
  PGTIER_ASSIGN_OR_RETURN(
      std::ignore, DoInStep(run, "SELECT pgtier.shadow_hypertable_swap($1)", {spec.table}, "swapped",
                            TellAlways(copy.blocks, copy.blocks, "exchanging the names of " + spec.table), progress));
  return progress;
}

}  // namespace pgtier::shadow
