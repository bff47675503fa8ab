#include "shadow/partition/partition.h"

#include <cmath>

#include "shadow/internal.h"
#include "shadow/partition/internal.h"

namespace pgtier::shadow {
namespace {

using postgres::Connection;
using postgres::Row;

Result<PartitionStage> StageOf(const Row& row) {
  PGTIER_ASSIGN_OR_RETURN(auto text, row.Get<std::string>("state"));
  if (text == "missing") return PartitionStage::kMissing;
  if (text == "plain") return PartitionStage::kPlain;
  if (text == "begun") return PartitionStage::kMarked;
  if (text == "copying") return PartitionStage::kCopying;
  if (text == "partitioned") return PartitionStage::kPartitioned;
  if (text == "hypertable") return PartitionStage::kHypertable;
  return PartitionStage::kOther;
}

Result<std::vector<std::string>> ExpiredOids(Connection& connection, const PartitionSpec& spec, Duration retain,
                                             const char* column, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows,
                          connection.Query("SELECT relation::text, name FROM pgtier.shadow_partition_expired($1, $2,"
                                           " make_interval(secs => $3))",
                                           {spec.table, spec.column, SecondsText(retain)}, deadline));
  std::vector<std::string> found;
  for (const Row& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(found.emplace_back(), row.Get<std::string>(column));
  }
  return found;
}

Status ReadHypertable(const Row& row, PartitionState& state) {
  PGTIER_ASSIGN_OR_RETURN(state.managed, row.Get<bool>("managed"));
  PGTIER_ASSIGN_OR_RETURN(state.unfinished, row.Get<bool>("unfinished"));
  PGTIER_ASSIGN_OR_RETURN(state.rows, row.Get<int64_t>("chunk_rows"));
  PGTIER_ASSIGN_OR_RETURN(state.bytes, row.Get<int64_t>("chunk_bytes"));
  PGTIER_ASSIGN_OR_RETURN(auto chunks, row.Get<int64_t>("chunks"));
  PGTIER_ASSIGN_OR_RETURN(auto compressed, row.Get<int64_t>("compressed"));
  PGTIER_ASSIGN_OR_RETURN(auto seconds, row.Find<int64_t>("chunk_seconds"));
  state.parts = static_cast<int>(chunks);
  state.compressed = static_cast<int>(compressed);
  state.chunk = std::chrono::seconds(seconds.value_or(0));
  return {};
}

Result<std::vector<Finding>> FindingsOf(Connection& connection, const char* sql, const PartitionSpec& spec,
                                        Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(sql, {spec.table, spec.column}, deadline));
  std::vector<Finding> findings;
  for (const Row& row : rows) {
    Finding& finding = findings.emplace_back();
    PGTIER_ASSIGN_OR_RETURN(finding.code, row.Get<std::string>("code"));
    PGTIER_ASSIGN_OR_RETURN(finding.object, row.Get<std::string>("object"));
    PGTIER_ASSIGN_OR_RETURN(finding.message, row.Get<std::string>("message"));
    PGTIER_ASSIGN_OR_RETURN(finding.cure, row.Get<std::string>("cure"));
  }
  return findings;
}

}  // namespace

PartitionEngine ParseEngine(const std::string& name) {
  if (name == "Native") return PartitionEngine::kNative;
  return name == "Hypertable" ? PartitionEngine::kHypertable : PartitionEngine::kAuto;
}

EngineChoice ChooseEngine(PartitionEngine wanted, const TimescaleState& timescale,
                          const std::vector<Finding>& against) {
  if (wanted != PartitionEngine::kAuto) return {wanted, ""};
  if (timescale.version.empty()) {
    return {PartitionEngine::kNative,
            timescale.available ? "this database has no extension timescaledb" : "the server has no TimescaleDB"};
  }
  if (!against.empty()) return {PartitionEngine::kNative, against.front().code + ": " + against.front().message};
  return {PartitionEngine::kHypertable, ""};
}

std::string SecondsText(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count());
}

Status CheckSpec(const PartitionSpec& spec) {
  if (spec.interval >= std::chrono::hours(1) && spec.interval % std::chrono::seconds(1) == Duration::zero()) return {};
  return MakeError(Code::kInvalidArgument,
                   "partitions of " + spec.table + ": their interval must be an hour at least, and of whole seconds");
}

Result<std::vector<PartitionState>> InspectPartitions(Connection& connection, const PartitionSpec& each,
                                                      const std::vector<std::string>& tables, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query(
                     "SELECT s.*, CASE WHEN isfinite(s.upper) THEN extract(epoch FROM s.upper)::bigint END AS upper_at,"
                     " CASE WHEN s.big IS NOT NULL THEN s.big::regclass::text ELSE '' END AS big_name,"
                     " h.managed, h.unfinished, h.chunks, h.compressed, h.chunk_seconds,"
                     " h.rows_estimate AS chunk_rows, h.bytes AS chunk_bytes"
                     " FROM unnest($1::text[]) WITH ORDINALITY AS e (name, n)"
                     " CROSS JOIN LATERAL pgtier.shadow_partition_state(e.name, $2) AS s"
                     " LEFT JOIN LATERAL (SELECT * FROM pgtier.shadow_hypertable_state(s.relation)"
                     "                    WHERE s.state = 'hypertable') AS h ON true ORDER BY e.n",
                     {ArrayLiteral(tables), each.column}, deadline));
  std::vector<PartitionState> states;
  for (const Row& row : rows) {
    PartitionState& state = states.emplace_back();
    PGTIER_ASSIGN_OR_RETURN(state.stage, StageOf(row));
    PGTIER_ASSIGN_OR_RETURN(state.rows, row.Get<int64_t>("rows_estimate"));
    PGTIER_ASSIGN_OR_RETURN(state.bytes, row.Get<int64_t>("bytes"));
    PGTIER_ASSIGN_OR_RETURN(auto parts, row.Get<int64_t>("parts"));
    state.parts = static_cast<int>(parts);
    PGTIER_ASSIGN_OR_RETURN(state.proven, row.Get<bool>("proven"));
    PGTIER_ASSIGN_OR_RETURN(auto upper, row.Find<int64_t>("upper_at"));
    if (upper.has_value()) state.upper = WallTime(std::chrono::seconds(*upper));
    PGTIER_ASSIGN_OR_RETURN(state.old_part, row.Get<std::string>("big_name"));
    PGTIER_ASSIGN_OR_RETURN(auto past, row.Find<bool>("big_past"));
    state.old_part_past = past == true;
    if (state.stage == PartitionStage::kHypertable) PGTIER_RETURN_IF_ERROR(ReadHypertable(row, state));
  }
  if (states.size() != tables.size()) return MakeError(Code::kInternal, "the server left tables out");
  return states;
}

Result<PartitionState> InspectPartitions(Connection& connection, const PartitionSpec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto states, InspectPartitions(connection, spec, {spec.table}, deadline));
  return states.front();
}

Result<TimescaleState> InspectTimescale(Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
                                  " AS available, coalesce((SELECT extversion FROM pg_extension"
                                  " WHERE extname = 'timescaledb'), '') AS version,"
                                  " coalesce(current_setting('timescaledb.license', true), '') = 'timescale' AS full",
                                  deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
  TimescaleState state;
  PGTIER_ASSIGN_OR_RETURN(state.available, row.Get<bool>("available"));
  PGTIER_ASSIGN_OR_RETURN(state.version, row.Get<std::string>("version"));
  PGTIER_ASSIGN_OR_RETURN(state.compresses, row.Get<bool>("full"));
  return state;
}

Result<std::vector<Finding>> PartitionFindings(Connection& connection, const PartitionSpec& spec, Deadline deadline) {
  return FindingsOf(connection, "SELECT * FROM pgtier.shadow_partition_findings($1, $2)", spec, deadline);
}

Result<std::vector<Finding>> HypertableFindings(Connection& connection, const PartitionSpec& spec, Deadline deadline) {
  return FindingsOf(connection, "SELECT * FROM pgtier.shadow_hypertable_findings($1, $2)", spec, deadline);
}

bool NeedsAhead(const PartitionState& state, const PartitionSpec& spec, WallTime now) {
  if (state.stage != PartitionStage::kPartitioned || !state.upper.has_value()) return false;
  // As pgtier.shadow_period counts: from a Monday.
  constexpr auto kOrigin = std::chrono::sys_days(std::chrono::year(2001) / std::chrono::January / 1);
  Duration since = now - kOrigin;
  Duration period = since - since % spec.interval;
  return Duration(*state.upper - kOrigin) < period + (spec.ahead + 1) * spec.interval;
}

Result<int> EnsureAhead(Connection& admin, const PartitionSpec& spec, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(CheckSpec(spec));
  int64_t made = 0;
  PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "making partitions of " + spec.table, deadline, [&]() -> Status {
    PGTIER_ASSIGN_OR_RETURN(
        auto rows,
        admin.Query("SELECT cardinality(pgtier.shadow_partition_ahead($1, $2,"
                    " make_interval(secs => $3), $4::integer))",
                    {spec.table, spec.column, SecondsText(spec.interval), std::to_string(spec.ahead)}, deadline));
    PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(made, row.Get<int64_t>(0));
    return {};
  }));
  return static_cast<int>(made);
}

Result<std::vector<std::string>> Expired(Connection& connection, const PartitionSpec& spec, Duration retain,
                                         Deadline deadline) {
  return ExpiredOids(connection, spec, retain, "name", deadline);
}

Result<std::vector<std::string>> DropExpired(Connection& admin, const PartitionSpec& spec, Duration retain, int most,
                                             Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto oids, ExpiredOids(admin, spec, retain, "relation", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto names, ExpiredOids(admin, spec, retain, "name", deadline));
  std::vector<std::string> dropped;
  for (size_t i = 0; i < std::min(oids.size(), names.size()) && std::cmp_less(dropped.size(), most); ++i) {
    bool gone = false;
    PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "dropping " + names[i], deadline, [&]() -> Status {
      PGTIER_ASSIGN_OR_RETURN(
          auto done, Value(admin, "SELECT pgtier.shadow_partition_drop($1, $2, make_interval(secs => $3), $4::oid)",
                           {spec.table, spec.column, SecondsText(retain), oids[i]}, deadline));
      gone = done == "t";
      return {};
    }));
    if (gone) dropped.push_back(names[i]);
  }
  return dropped;
}

Status ForgetPartitioning(Connection& admin, const PartitionSpec& spec, Deadline deadline) {
  return WithLockRetries(admin, "taking the bound from " + spec.table, deadline, [&]() -> Status {
    PGTIER_RETURN_IF_ERROR(admin.Query("SELECT pgtier.shadow_partition_forget($1)", {spec.table}, deadline));
    return {};
  });
}

}  // namespace pgtier::shadow
