#include "shadow/cdc.h"
#include "shadow/internal.h"
#include "sql/shadow.h"

namespace pgtier::shadow {
namespace {

using postgres::Connection;
using postgres::Row;

constexpr int64_t kCountedRows = 10'000;  // of an outbox; counting more costs more than it tells

std::vector<std::string> Sources(const Spec& spec) {
  std::vector<std::string> names;
  for (const Table& table : spec.tables) names.push_back(table.source);
  return names;
}

std::vector<std::string> Histories(const Spec& spec) {
  std::vector<std::string> names;
  for (const Table& table : spec.tables) names.push_back(table.history);
  return names;
}

std::string TextOrEmpty(const Row& row, std::string_view column) { return std::string(row.Text(column).value_or("")); }

Duration Seconds(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::max(0.0, seconds)));
}

// The policy's own row; false when the database does not know it.
Result<bool> ReadPolicy(Connection& connection, const Spec& spec, State& state, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query("SELECT installed, version, tier, epoch, draining, pg_notification_queue_usage()"
                                  " AS notify_usage, (SELECT count(*) FROM pgtier.shadow_dead_letters AS d"
                                  " WHERE d.policy = s.policy) AS dead FROM pgtier.shadow_state AS s WHERE policy = $1",
                                  {spec.policy}, deadline));
  if (rows.empty()) return false;
  const Row row = rows[0];
  PGTIER_ASSIGN_OR_RETURN(state.installed, row.Get<bool>("installed"));
  state.version = TextOrEmpty(row, "version");
  PGTIER_ASSIGN_OR_RETURN(state.tier, ParseTier(TextOrEmpty(row, "tier")));
  PGTIER_ASSIGN_OR_RETURN(state.epoch, row.Get<int64_t>("epoch"));
  PGTIER_ASSIGN_OR_RETURN(state.draining, row.Get<bool>("draining"));
  PGTIER_ASSIGN_OR_RETURN(state.notify_queue_usage, row.Get<double>("notify_usage"));
  PGTIER_ASSIGN_OR_RETURN(state.dead_letters, row.Get<int64_t>("dead"));
  return true;
}

// Only of a database that has this program's SQL: older versions know nothing of it.
Status ReadPayload(Connection& connection, const Spec& spec, State& state, Deadline deadline) {
  if (state.version != InstalledVersion()) return {};
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query(
                     "SELECT s.payload, s.payload_since IS NOT NULL AS under_way, EXISTS (SELECT FROM pg_locks AS l"
                     "   WHERE l.locktype = 'advisory' AND l.classid = 7047005 AND l.objid = s.number::oid"
                     "     AND l.mode = 'ExclusiveLock' AND l.granted AND l.database = (SELECT oid FROM pg_database"
                     "       WHERE datname = current_database())) AS listening,"
                     " (SELECT count(*) FROM pgtier.shadow_gaps AS g WHERE g.policy = s.policy) AS gaps,"
                     " (SELECT concat_ws(' to ', to_char(g.since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),"
                     "   to_char(g.until AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))"
                     "  FROM pgtier.shadow_gaps AS g WHERE g.policy = s.policy ORDER BY g.id DESC LIMIT 1) AS last_gap"
                     " FROM pgtier.shadow_state AS s WHERE s.policy = $1",
                     {spec.policy}, deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
  PGTIER_ASSIGN_OR_RETURN(state.payload.sends, row.Get<bool>("payload"));
  PGTIER_ASSIGN_OR_RETURN(state.payload.under_way, row.Get<bool>("under_way"));
  PGTIER_ASSIGN_OR_RETURN(state.payload.listening, row.Get<bool>("listening"));
  PGTIER_ASSIGN_OR_RETURN(state.payload.gaps, row.Get<int64_t>("gaps"));
  state.payload.last_gap = TextOrEmpty(row, "last_gap");
  return {};
}

// The spec's tables as the database knows them, and what waits in the outboxes of those that left.
Status ReadTables(Connection& connection, const Spec& spec, State& state, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query(
          "SELECT e.place, format('%I.%I', n.schema_name, n.table_name) AS source,"
          " CASE WHEN t.id IS NOT NULL THEN format('%I.%I', t.history_schema, t.history_name) END AS history, t.id IS "
          "NOT NULL AS known,"
          " coalesce(t.installed AND pgtier.shadow_agrees(t.id) AND (s.actor_setting, s.channel, s.slot) = ($3, $4, $5)"
          "   AND (t.history_schema, t.history_name) = (h.schema_name, h.table_name), false) AS installed,"
          " greatest(coalesce((SELECT sum(greatest(l.reltuples, 0)) FROM pg_partition_tree(p.history::regclass) AS i"
          "   JOIN pg_class AS l ON l.oid = i.relid WHERE i.isleaf), c.reltuples, 0), 0)::bigint AS estimate"
          " FROM unnest($2::text[], $6::text[]) WITH ORDINALITY AS e (name, history, place)"
          " CROSS JOIN LATERAL pgtier.shadow_names(e.name) AS n"
          " CROSS JOIN LATERAL pgtier.shadow_names(CASE e.history WHEN '' THEN format('%I.%I', n.schema_name,"
          "   (n.table_name || '_history')::name) ELSE e.history END) AS h"
          " LEFT JOIN pgtier.shadow_tables AS t ON t.policy = $1 AND t.source_schema = n.schema_name"
          "   AND t.source_name = n.table_name AND (t.installed OR t.source = pgtier.shadow_oid(n.schema_name, "
          "n.table_name))"
          " LEFT JOIN LATERAL pgtier.shadow_places(t.id) AS p ON true LEFT JOIN pg_class AS c ON c.oid = p.history"
          " LEFT JOIN pgtier.shadow_state AS s ON s.policy = t.policy"
          // Tables that the spec no longer names, but that are still in the policy, come last.
          " UNION ALL SELECT 9223372036854775807, format('%I.%I', t.source_schema, t.source_name),"
          "   format('%I.%I', t.history_schema, t.history_name), true, false, 0"
          " FROM pgtier.shadow_tables AS t WHERE t.policy = $1 AND t.installed AND NOT EXISTS (SELECT FROM"
          "   unnest($2::text[]) AS e (name), pgtier.shadow_names(e.name) AS n"
          "   WHERE n.schema_name = t.source_schema AND n.table_name = t.source_name)"
          " ORDER BY 1, 2",
          {spec.policy, ArrayLiteral(Sources(spec)), spec.actor_setting, spec.channel, spec.slot,
           ArrayLiteral(Histories(spec))},
          deadline));
  for (const Row& row : rows) {
    TableState table;
    table.source = TextOrEmpty(row, "source");
    PGTIER_ASSIGN_OR_RETURN(bool known, row.Get<bool>("known"));
    if (known) {
      table.history = TextOrEmpty(row, "history");
      PGTIER_ASSIGN_OR_RETURN(table.installed, row.Get<bool>("installed"));
      PGTIER_ASSIGN_OR_RETURN(table.history_rows_estimate, row.Get<int64_t>("estimate"));
    }
    state.tables.push_back(std::move(table));
  }
  PGTIER_ASSIGN_OR_RETURN(auto queues,
                          connection.Query("SELECT o.source, q.depth, q.oldest FROM pgtier.shadow_outboxes($1) AS o"
                                           " CROSS JOIN LATERAL pgtier.shadow_queue(o.id, $2::integer + 1) AS q",
                                           {spec.policy, std::to_string(kCountedRows)}, deadline));
  for (const Row& row : queues) {
    PGTIER_ASSIGN_OR_RETURN(auto depth, row.Get<int64_t>("depth"));
    PGTIER_ASSIGN_OR_RETURN(auto oldest, row.Get<double>("oldest"));
    state.queue_depth += depth;
    state.oldest = std::max(state.oldest, Seconds(oldest));
    for (TableState& table : state.tables) {
      if (table.source == row.Text("source")) table.queued = depth;
    }
  }
  return {};
}

// Where no event trigger carries changes of columns over in their own transaction, what has changed is told by name.
Status ReadDrifts(Connection& connection, const Spec& spec, State& state, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto follows,
                          Value(connection,
                                "SELECT count(*) = 2 FROM pg_event_trigger WHERE evtname IN ('pgtier_shadow_ddl',"
                                " 'pgtier_shadow_drop') AND evtenabled <> 'D'",
                                {}, deadline));
  state.follows_ddl = follows == "t";
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query(
          "SELECT format('%I.%I', t.source_schema, t.source_name) AS source, CASE WHEN c.oid IS NULL THEN 'the table is"
          " gone' ELSE d.what END AS what FROM pgtier.shadow_tables AS t LEFT JOIN pg_class AS c ON c.oid = t.source"
          " CROSS JOIN LATERAL (SELECT string_agg(CASE WHEN k.attnum IS NULL THEN format('%I added', f.name)"
          "   WHEN f.attnum IS NULL THEN format('%I dropped', k.name)"
          "   WHEN k.name <> f.name THEN format('%I renamed to %I', k.name, f.name)"
          "   ELSE format('%I now of type %s', f.name, format_type(f.type, -1)) END, ', '"
          "   ORDER BY coalesce(f.attnum, k.attnum)) AS what"
          "  FROM (SELECT * FROM pgtier.shadow_columns WHERE table_id = t.id) AS k"
          "  FULL JOIN pgtier.shadow_source_columns(t.source) AS f USING (attnum)"
          "  WHERE k.name IS DISTINCT FROM f.name OR k.type IS DISTINCT FROM f.type) AS d"
          " WHERE t.policy = $1 AND t.installed AND d.what IS NOT NULL ORDER BY 1",
          {spec.policy}, deadline));
  for (const Row& row : rows) state.drifts.push_back({TextOrEmpty(row, "source"), TextOrEmpty(row, "what")});
  return {};
}

Status ReadCdc(Connection& connection, const Spec& spec, State& state, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto marks, connection.Query("SELECT *, extract(epoch FROM clock_timestamp() - updated_at) AS age,"
                                   " coalesce((to_jsonb(c) ->> 'wanted_end')::bigint, 0) <= ended_epoch AS ended"
                                   " FROM pgtier.shadow_checkpoint AS c WHERE policy = $1",
                                   {spec.policy}, deadline));
  if (!marks.empty()) {
    const Row row = marks[0];
    CheckpointState mark;
    mark.system_identifier = TextOrEmpty(row, "system_identifier");
    PGTIER_ASSIGN_OR_RETURN(mark.timeline, row.Get<int64_t>("timeline"));
    mark.slot = TextOrEmpty(row, "slot");
    PGTIER_ASSIGN_OR_RETURN(mark.lsn, postgres::Lsn::Parse(TextOrEmpty(row, "lsn")));
    PGTIER_ASSIGN_OR_RETURN(mark.epoch, row.Get<int64_t>("epoch"));
    PGTIER_ASSIGN_OR_RETURN(mark.ended_epoch, row.Get<int64_t>("ended_epoch"));
    PGTIER_ASSIGN_OR_RETURN(mark.ended, row.Get<bool>("ended"));
    PGTIER_ASSIGN_OR_RETURN(mark.age_seconds, row.Get<double>("age"));
    state.checkpoint = std::move(mark);
  }
  if (spec.slot.empty()) return {};
  // Columns of 17 are read by name out of jsonb: 15 and 16 lack them.
  PGTIER_ASSIGN_OR_RETURN(
      auto slots,
      connection.Query("SELECT s.active, s.wal_status, s.safe_wal_size,"
                       " coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS failover,"
                       " coalesce((to_jsonb(s) ->> 'synced')::boolean, false) AS synced,"
                       " coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()"
                       "   ELSE pg_current_wal_lsn() END, s.restart_lsn), 0)::bigint AS retained"
                       " FROM pg_replication_slots AS s WHERE s.slot_name = $1"
                       " AND s.plugin = 'pgoutput' AND s.database = current_database()",
                       {spec.slot}, deadline));
  if (slots.empty()) return {};
  const Row row = slots[0];
  state.slot.exists = true;
  PGTIER_ASSIGN_OR_RETURN(state.slot.active, row.Get<bool>("active"));
  PGTIER_ASSIGN_OR_RETURN(state.slot.failover, row.Get<bool>("failover"));
  PGTIER_ASSIGN_OR_RETURN(state.slot.synced_only, row.Get<bool>("synced"));
  state.slot.wal_status = TextOrEmpty(row, "wal_status");
  PGTIER_ASSIGN_OR_RETURN(state.slot.retained_bytes, row.Get<int64_t>("retained"));
  PGTIER_ASSIGN_OR_RETURN(state.slot.safe_wal_size, row.Find<int64_t>("safe_wal_size"));
  return {};
}

// Of a statement that gives them as the preflights do.
Result<std::vector<Finding>> ReadFindings(Connection& connection, const char* sql, const postgres::Params& params,
                                          Deadline deadline) {
  // The planner takes these for large, and compiling them would last longer than all of their work.
  PGTIER_RETURN_IF_ERROR(connection.Execute("SET jit = off", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(sql, params, deadline));
  std::vector<Finding> findings;
  for (const Row& row : rows) {
    Finding& finding = findings.emplace_back();
    finding.code = TextOrEmpty(row, "code");
    finding.object = TextOrEmpty(row, "object");
    finding.message = TextOrEmpty(row, "message");
    finding.cure = TextOrEmpty(row, "cure");
    PGTIER_ASSIGN_OR_RETURN(finding.blocks, row.Get<bool>("blocks"));
  }
  return findings;
}

}  // namespace

Result<State> Inspect(Connection& connection, const Spec& spec, Deadline deadline) {
  State state;
  PGTIER_ASSIGN_OR_RETURN(bool known, KnowsShadows(connection, deadline));
  if (!known) return state;
  PGTIER_ASSIGN_OR_RETURN(bool found, ReadPolicy(connection, spec, state, deadline));
  if (!found) return state;
  PGTIER_RETURN_IF_ERROR(ReadTables(connection, spec, state, deadline));
  PGTIER_RETURN_IF_ERROR(ReadDrifts(connection, spec, state, deadline));
  PGTIER_RETURN_IF_ERROR(ReadCdc(connection, spec, state, deadline));
  PGTIER_RETURN_IF_ERROR(ReadPayload(connection, spec, state, deadline));
  return state;
}

Result<std::vector<Finding>> HistoryFindings(Connection& connection, const Spec& spec, Tier target, Deadline deadline) {
  return ReadFindings(connection, sql::kShadowPreflightHistory,
                      {ArrayLiteral(Sources(spec)), ArrayLiteral(Histories(spec)), std::string(TierName(target))},
                      deadline);
}

Result<std::vector<Finding>> Preflight(Connection& connection, const Spec& spec, Tier target, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto findings, ReadFindings(connection, sql::kShadowPreflight,
                                                      {ArrayLiteral(Sources(spec)), ArrayLiteral(Histories(spec)),
                                                       std::string(TierName(target))},
                                                      deadline));
  PGTIER_ASSIGN_OR_RETURN(auto of_histories, HistoryFindings(connection, spec, target, deadline));
  findings.insert(findings.end(), of_histories.begin(), of_histories.end());
  if (target == Tier::kCdc) {
    PGTIER_ASSIGN_OR_RETURN(auto more, CdcFindings(connection, spec, deadline));
    findings.insert(findings.end(), more.begin(), more.end());
  }
  PGTIER_ASSIGN_OR_RETURN(bool known, KnowsShadows(connection, deadline));
  if (!known) return findings;
  PGTIER_ASSIGN_OR_RETURN(
      auto others, ReadFindings(connection, sql::kShadowPreflightPolicies,
                                {spec.policy, ArrayLiteral(Sources(spec)), ArrayLiteral(Histories(spec))}, deadline));
  findings.insert(findings.end(), others.begin(), others.end());
  return findings;
}

}  // namespace pgtier::shadow
