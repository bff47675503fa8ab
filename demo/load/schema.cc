#include "demo/load/schema.h"

#include "lib/base/log.h"
#include "lib/postgres/objects.h"

namespace pgtier::load {
namespace {

// Any number that the application uses for nothing else.
constexpr const char* kSchemaLock = "SELECT pg_advisory_xact_lock(5004001)";

constexpr const char* kEvents =
    "CREATE TABLE IF NOT EXISTS agent_events ("
    " event_time timestamptz NOT NULL, agent_id text NOT NULL, event_type text NOT NULL,"
    " run_id text NOT NULL, seq bigint NOT NULL, payload jsonb NOT NULL)";
constexpr const char* kEventsIndex =
    "CREATE INDEX IF NOT EXISTS agent_events_agent_idx ON agent_events (agent_id, event_time DESC)";
constexpr const char* kHypertable =
    "SELECT create_hypertable('agent_events', 'event_time', chunk_time_interval => interval '1 day',"
    " create_default_indexes => false, if_not_exists => true)";
constexpr const char* kDecisionsIndexes =
    "CREATE INDEX IF NOT EXISTS decisions_embedding_idx ON decisions USING hnsw (embedding vector_cosine_ops);"
    "CREATE INDEX IF NOT EXISTS decisions_run_idx ON decisions (run_id)";

std::string DecisionsTable() {
  return "CREATE TABLE IF NOT EXISTS decisions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
         " decided_at timestamptz NOT NULL DEFAULT now(), agent_id text NOT NULL, run_id text NOT NULL,"
         " outcome text NOT NULL, embedding vector(" +
         std::to_string(kEmbeddingDimensions) + ") NOT NULL)";
}

// The server makes the rows: spread over the last hour and all agents.
constexpr const char* kSeedEvents =
    "INSERT INTO agent_events SELECT now() - (i::float8 / $1::float8) * interval '1 hour', 'agent-' || i % $2::int,"
    " (ARRAY['tool_call','model_call','observation','error'])[1 + i % 4], 'seed', i,"
    " jsonb_build_object('duration_ms', i % 997, 'ok', i % 13 <> 0)"
    " FROM generate_series(1, $1::int) AS i";
// 0 * i: else the subquery is evaluated once and all vectors are equal.
constexpr const char* kSeedDecisions =
    "INSERT INTO decisions (agent_id, run_id, outcome, embedding) SELECT 'agent-' || i % $2::int, 'seed',"
    " (ARRAY['approved','rejected','escalated'])[1 + i % 3],"
    " (SELECT array_agg(random() - 0.5) FROM generate_series(1, $3::int + 0 * i))::vector"
    " FROM generate_series(1, $1::int) AS i";

// On a connection of its own, for a server that did not preload the library ends the session.
bool EnsureTimescale(const LoadOptions& options, Deadline deadline) {
  auto connection = postgres::Connection::Open(options.Write(), deadline);
  auto ensured = connection.has_value() ? postgres::EnsureExtension(*connection, "timescaledb", deadline)
                                        : Result<postgres::Ensured>(std::move(connection).error());
  if (ensured.has_value()) return true;
  log::Warn("no TimescaleDB: agent_events is a plain table", {{"reason", ensured.error().message}});
  return false;
}

Result<bool> IsEmpty(postgres::Connection& connection, const std::string& table, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query("SELECT FROM " + table + " LIMIT 1", deadline));
  return rows.empty();
}

Status Seed(postgres::Connection& connection, const LoadOptions& options, Deadline deadline) {
  const std::string agents = std::to_string(options.agents);
  PGTIER_ASSIGN_OR_RETURN(bool no_events, IsEmpty(connection, "agent_events", deadline));
  if (no_events && options.seed_events > 0) {
    PGTIER_RETURN_IF_ERROR(connection.Query(kSeedEvents, {std::to_string(options.seed_events), agents}, deadline));
  }
  PGTIER_ASSIGN_OR_RETURN(bool no_decisions, IsEmpty(connection, "decisions", deadline));
  if (no_decisions && options.seed_decisions > 0) {
    PGTIER_RETURN_IF_ERROR(connection.Query(
        kSeedDecisions, {std::to_string(options.seed_decisions), agents, std::to_string(kEmbeddingDimensions)},
        deadline));
  }
  return {};
}

}  // namespace

Result<Schema> EnsureSchema(postgres::Connection& connection, const LoadOptions& options, Deadline deadline) {
  Schema schema;
  schema.timescale = EnsureTimescale(options, deadline);
  PGTIER_RETURN_IF_ERROR(postgres::EnsureExtension(connection, "vector", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
  PGTIER_RETURN_IF_ERROR(connection.Execute(kSchemaLock, deadline));
  PGTIER_RETURN_IF_ERROR(connection.Execute(kEvents, deadline));
  if (schema.timescale) {
    auto hypertable = connection.Execute(kHypertable, deadline);
    if (!hypertable.has_value()) return std::move(hypertable).error().WithContext("create_hypertable");
  }
  PGTIER_RETURN_IF_ERROR(connection.Execute(kEventsIndex, deadline));
  PGTIER_RETURN_IF_ERROR(connection.Execute(DecisionsTable(), deadline));
  PGTIER_RETURN_IF_ERROR(connection.Execute(kDecisionsIndexes, deadline));
  PGTIER_RETURN_IF_ERROR(Seed(connection, options, deadline));
  PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
  // Plans are the same from the first query on. Not worth failing for: several processes may analyze at once.
  std::ignore = connection.Execute("ANALYZE agent_events, decisions", deadline);
  return schema;
}

Result<Ledger> CountRows(postgres::Connection& connection, const std::string& run_id, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows,
                          connection.Query("SELECT (SELECT count(*) FROM agent_events WHERE run_id = $1) AS events,"
                                           " (SELECT count(*) FROM decisions WHERE run_id = $1) AS decisions",
                                           {run_id}, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  Ledger ledger;
  PGTIER_ASSIGN_OR_RETURN(ledger.events, row.Get<int64_t>("events"));
  PGTIER_ASSIGN_OR_RETURN(ledger.decisions, row.Get<int64_t>("decisions"));
  return ledger;
}

Status MeasureTables(postgres::Connection& connection, const Schema& schema, LoadMetrics& metrics, Deadline deadline) {
  const std::string events =
      schema.timescale ? "hypertable_size('agent_events')" : "pg_total_relation_size('agent_events')";
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query("SELECT 'agent_events' AS name, " + events +
                                      " AS bytes UNION ALL SELECT 'decisions', pg_total_relation_size('decisions')",
                                  deadline));
  for (const auto& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(auto name, row.Get<std::string>("name"));
    PGTIER_ASSIGN_OR_RETURN(auto bytes, row.Get<int64_t>("bytes"));
    metrics.TableSize(name, bytes);
  }
  if (!schema.timescale) return {};
  PGTIER_ASSIGN_OR_RETURN(
      auto chunks, connection.Query("SELECT count(*) FILTER (WHERE is_compressed) AS compressed,"
                                    " count(*) FILTER (WHERE NOT is_compressed) AS uncompressed"
                                    " FROM timescaledb_information.chunks WHERE hypertable_name = 'agent_events'",
                                    deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, chunks.Single());
  for (const char* state : {"compressed", "uncompressed"}) {
    PGTIER_ASSIGN_OR_RETURN(auto count, row.Get<int64_t>(state));
    metrics.ChunkCount(state, count);
  }
  // Debian's build of TimescaleDB has no compression, so nothing was ever compressed by this program.
  metrics.CompressionRatio("agent_events", 1);
  return {};
}

}  // namespace pgtier::load
