// The application's tables, as it would make them itself at its start.
#pragma once

#include <cstdint>
#include <string>

#include "demo/load/load_metrics.h"
#include "demo/load/options.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::load {

constexpr int kEmbeddingDimensions = 32;

struct Schema {
  bool timescale = false;  // agent_events is a hypertable and time_bucket exists
};

// Makes what is absent and fills empty tables; safe to run from several processes at once. Without TimescaleDB
// agent_events is a plain table. Errors: kNotFound: the server lacks pgvector.
Result<Schema> EnsureSchema(postgres::Connection& connection, const LoadOptions& options, Deadline deadline);

// Rows of this run in the tables: what the acknowledged ones are compared with.
struct Ledger {
  int64_t events = 0;
  int64_t decisions = 0;
};
Result<Ledger> CountRows(postgres::Connection& connection, const std::string& run_id, Deadline deadline);

// Sets kyoyu_db_table_size_bytes and kyoyu_chunk_count.
Status MeasureTables(postgres::Connection& connection, const Schema& schema, LoadMetrics& metrics, Deadline deadline);

}  // namespace pgtier::load
