#include "demo/load/load_metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>

#include "demo/load/latency.h"

namespace pgtier::load {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// Close together around the thresholds of 20, 50 and 100 ms, so that a p95 by histogram_quantile is near the truth.
const Buckets& LatencyBuckets() {
  static const Buckets buckets = {0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05,
                                  0.06,  0.075, 0.1,   0.15,  0.2,    0.3,  0.5,   0.75, 1,     1.5,  2.5,  5};
  return buckets;
}

}  // namespace

struct LoadMetrics::Impl {
  template <typename T>
  prometheus::Family<T>& Make(prometheus::detail::Builder<T> builder, const char* name, const char* help) {
    return builder.Name(name).Help(help).Register(*registry);
  }

  std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  prometheus::Family<prometheus::Histogram>& query_duration =
      Make(prometheus::BuildHistogram(), "kyoyu_query_duration_seconds", "Time from a query to its last row");
  prometheus::Family<prometheus::Histogram>& query_results =
      Make(prometheus::BuildHistogram(), "kyoyu_query_results_total", "Rows of an answer");
  prometheus::Family<prometheus::Histogram>& similarity =
      Make(prometheus::BuildHistogram(), "kyoyu_search_similarity_score", "Cosine similarity of what a search found");
  prometheus::Family<prometheus::Counter>& ingested =
      Make(prometheus::BuildCounter(), "kyoyu_events_ingested_total", "Events that a COPY acknowledged");
  prometheus::Family<prometheus::Histogram>& batch_size =
      Make(prometheus::BuildHistogram(), "kyoyu_events_batch_size", "Events in a batch");
  prometheus::Family<prometheus::Histogram>& flush_duration =
      Make(prometheus::BuildHistogram(), "kyoyu_events_batch_flush_duration_seconds", "Time of a batch's COPY");
  prometheus::Family<prometheus::Gauge>& buffer_size =
      Make(prometheus::BuildGauge(), "kyoyu_events_buffer_size", "Events that wait for a flush");
  prometheus::Family<prometheus::Counter>& copy_errors =
      Make(prometheus::BuildCounter(), "kyoyu_copy_errors_total", "Batches whose COPY failed");
  prometheus::Family<prometheus::Gauge>& connections =
      Make(prometheus::BuildGauge(), "kyoyu_active_connections", "Connections that the application holds");
  prometheus::Family<prometheus::Gauge>& pool_utilisation = Make(
      prometheus::BuildGauge(), "kyoyu_pool_utilization_ratio", "Share of the application's connections with a query");
  prometheus::Family<prometheus::Counter>& auth_failures =
      Make(prometheus::BuildCounter(), "kyoyu_auth_failures_total", "Connections that were refused");
  prometheus::Family<prometheus::Gauge>& table_size =
      Make(prometheus::BuildGauge(), "kyoyu_db_table_size_bytes", "Table with its indexes and chunks");
  prometheus::Family<prometheus::Gauge>& chunks =
      Make(prometheus::BuildGauge(), "kyoyu_chunk_count", "Chunks of the hypertable");
  prometheus::Family<prometheus::Gauge>& compression =
      Make(prometheus::BuildGauge(), "kyoyu_compression_ratio", "Size before compression by size; 1: not compressed");
  prometheus::Histogram& batch_sizes = batch_size.Add({}, Buckets{1, 5, 10, 25, 50, 100, 250, 500, 750, 1000});
  prometheus::Histogram& flushes = flush_duration.Add({}, LatencyBuckets());
  prometheus::Histogram& scores = similarity.Add({}, Buckets{-0.5, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1});
  prometheus::Gauge& buffered = buffer_size.Add({});
  std::mutex serving;
  std::unique_ptr<prometheus::Exposer> exposer;
};

LoadMetrics::LoadMetrics() : impl_(std::make_unique<Impl>()) {
  // Every series from the start: a rate over one that appears late loses its first step.
  for (const char* type : kQueryTypeNames) impl_->query_duration.Add({{"query_type", type}}, LatencyBuckets());
}

LoadMetrics::~LoadMetrics() = default;

Status LoadMetrics::Serve(const std::string& address, int port) {
  std::string at = address + ":" + std::to_string(port);
  std::lock_guard lock(impl_->serving);
  try {
    impl_->exposer = std::make_unique<prometheus::Exposer>(at, 2);
    impl_->exposer->RegisterCollectable(impl_->registry);
  } catch (const std::exception& error) {
    return MakeError(Code::kUnavailable, "serving metrics at " + at + ": " + error.what());
  }
  return {};
}

void LoadMetrics::Query(QueryType type, Duration latency, size_t results) {
  impl_->query_duration.Add({{"query_type", Name(type)}}, LatencyBuckets()).Observe(Seconds(latency));
  impl_->query_results.Add({{"query_type", Name(type)}}, Buckets{0, 1, 5, 10, 25, 50, 100, 250, 1000})
      .Observe(static_cast<double>(results));
}

void LoadMetrics::Similarity(double score) { impl_->scores.Observe(score); }

void LoadMetrics::Flush(const std::string& agent, const std::map<std::string, int64_t>& by_event_type,
                        Duration latency) {
  double events = 0;
  for (const auto& [type, count] : by_event_type) {
    impl_->ingested.Add({{"agent_id", agent}, {"event_type", type}}).Increment(static_cast<double>(count));
    events += static_cast<double>(count);
  }
  impl_->batch_sizes.Observe(events);
  impl_->flushes.Observe(Seconds(latency));
}

void LoadMetrics::CopyError(const std::string& error_type) {
  impl_->copy_errors.Add({{"error_type", error_type}}).Increment();
}

void LoadMetrics::BufferChanged(int64_t change) { impl_->buffered.Increment(static_cast<double>(change)); }

void LoadMetrics::Connection(const std::string& pool, int change) {
  impl_->connections.Add({{"pool", pool}}).Increment(change);
}

void LoadMetrics::AuthFailure(const std::string& reason) { impl_->auth_failures.Add({{"reason", reason}}).Increment(); }

void LoadMetrics::TableSize(const std::string& table, int64_t bytes) {
  impl_->table_size.Add({{"table", table}}).Set(static_cast<double>(bytes));
}

void LoadMetrics::ChunkCount(const std::string& state, int64_t count) {
  impl_->chunks.Add({{"state", state}}).Set(static_cast<double>(count));
}

void LoadMetrics::PoolUtilisation(const std::string& pool, double ratio) {
  impl_->pool_utilisation.Add({{"pool", pool}}).Set(ratio);
}

void LoadMetrics::CompressionRatio(const std::string& table, double ratio) {
  impl_->compression.Add({{"table", table}}).Set(ratio);
}

std::string LoadMetrics::Serialize() const {
  return prometheus::TextSerializer().Serialize(impl_->registry->Collect());
}

}  // namespace pgtier::load
