#include "demo/load/reader.h"

#include "demo/load/vectors.h"

namespace pgtier::load {
namespace {

constexpr Duration kPauseAfterFailure = std::chrono::milliseconds(100);

constexpr const char* kStructured =
    "SELECT event_time, event_type, payload FROM agent_events WHERE agent_id = $1 ORDER BY event_time DESC LIMIT 50";
// The inner LIMIT keeps the cost of a query the same while the table grows.
constexpr const char* kTemporalTail =
    " AS bucket, count(*), avg((payload->>'duration_ms')::float8) AS avg_ms FROM (SELECT event_time, payload"
    " FROM agent_events WHERE agent_id = $1 ORDER BY event_time DESC LIMIT $2::int) recent"
    " GROUP BY bucket ORDER BY bucket";
constexpr const char* kTimescaleBucket = "SELECT time_bucket(interval '10 seconds', event_time)";
constexpr const char* kPlainBucket = "SELECT date_bin(interval '10 seconds', event_time, timestamptz '2000-01-01')";
constexpr const char* kSearch =
    "SELECT id, outcome, 1 - (embedding <=> $1::vector) AS similarity FROM decisions"
    " ORDER BY embedding <=> $1::vector LIMIT 10";

}  // namespace

Reader::Reader(const LoadOptions& options, const Schema& schema, Recorder& recorder, LoadMetrics& metrics)
    : options_(options),
      schema_(schema),
      recorder_(recorder),
      metrics_(metrics),
      session_(options.Read(), options.connection_lifetime, "read", recorder, metrics),
      gap_(recorder),
      random_(std::random_device{}()) {}

void Reader::Run(const std::stop_token& stop) {
  const Duration pace =
      options_.query_rate > 0
          ? std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1 / options_.query_rate))
          : Duration::zero();
  // Readers that start together must not ask together.
  if (pace > Duration::zero() && !SleepFor(Duration(random_() % static_cast<uint64_t>(pace.count())), stop)) return;
  while (!stop.stop_requested()) {
    MonoTime start = std::chrono::steady_clock::now();
    bool answered = RunQuery(Choose());
    if (!answered && !SleepFor(kPauseAfterFailure, stop)) return;
    Duration left = pace - (std::chrono::steady_clock::now() - start);
    if (left > Duration::zero() && !SleepFor(left, stop)) return;
  }
}

QueryType Reader::Choose() {
  auto draw = static_cast<int>(random_() % static_cast<uint64_t>(options_.mix[0] + options_.mix[1] + options_.mix[2]));
  if (draw < options_.mix[0]) return QueryType::kStructured;
  return draw < options_.mix[0] + options_.mix[1] ? QueryType::kTemporal : QueryType::kSearch;
}

bool Reader::RunQuery(QueryType type) {
  MonoTime start = std::chrono::steady_clock::now();
  gap_.AttemptAt(start);
  postgres::Connection* connection = session_.Get(options_.query_timeout);
  if (connection == nullptr) return false;  // counted by the session
  recorder_.QueryBegins();
  start = std::chrono::steady_clock::now();
  auto rows = Ask(*connection, type);
  MonoTime end = std::chrono::steady_clock::now();
  recorder_.QueryEnds(type, end - start, rows.has_value() ? Status() : Status(rows.error()));
  if (!rows.has_value()) return false;
  gap_.SuccessAt(end, Name(type));
  metrics_.Query(type, end - start, rows->size());
  if (type == QueryType::kSearch) NoteSimilarity(*rows);
  return true;
}

Result<postgres::Rows> Reader::Ask(postgres::Connection& connection, QueryType type) {
  Deadline deadline = Deadline::After(options_.query_timeout);
  const std::string agent = "agent-" + std::to_string(random_() % static_cast<uint64_t>(options_.agents));
  switch (type) {
    case QueryType::kStructured:
      return connection.Query(kStructured, {agent}, deadline);
    case QueryType::kTemporal:
      return connection.Query((schema_.timescale ? kTimescaleBucket : kPlainBucket) + std::string(kTemporalTail),
                              {agent, std::to_string(options_.temporal_rows)}, deadline);
    case QueryType::kSearch:
      break;
  }
  return connection.Query(kSearch, {RandomEmbedding(random_)}, deadline);
}

void Reader::NoteSimilarity(const postgres::Rows& rows) {
  for (const auto& row : rows) {
    auto similarity = row.Get<double>("similarity");
    if (similarity.has_value()) metrics_.Similarity(*similarity);
  }
}

}  // namespace pgtier::load
