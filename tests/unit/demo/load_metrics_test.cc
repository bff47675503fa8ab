#include "demo/load/load_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgtier::load {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(LoadMetrics, HasTheApplicationsNames) {
  LoadMetrics metrics;
  metrics.Query(QueryType::kTemporal, milliseconds(45), 12);
  metrics.Similarity(0.83);
  metrics.BufferChanged(10);
  metrics.BufferChanged(-4);
  metrics.Flush("agent-3", {{"error", 2}, {"tool_call", 5}}, milliseconds(12));
  metrics.CopyError("53300");
  metrics.Connection("read", 1);
  metrics.AuthFailure("database");
  metrics.TableSize("agent_events", 4096);
  metrics.ChunkCount("uncompressed", 3);
  metrics.PoolUtilisation("read", 0.5);
  metrics.CompressionRatio("agent_events", 1);
  std::string text = metrics.Serialize();
  for (const char* line : {
           "kyoyu_query_duration_seconds_bucket{query_type=\"temporal\",le=\"0.05\"} 1",
           "kyoyu_query_duration_seconds_bucket{query_type=\"temporal\",le=\"0.04\"} 0",
           "kyoyu_query_duration_seconds_bucket{query_type=\"search\",le=\"5\"} 0",
           "kyoyu_query_results_total_count{query_type=\"temporal\"} 1",
           "kyoyu_search_similarity_score_sum 0.83",
           "kyoyu_events_buffer_size 6",
           "kyoyu_events_ingested_total{agent_id=\"agent-3\",event_type=\"tool_call\"} 5",
           "kyoyu_events_batch_size_sum 7",
           "kyoyu_events_batch_flush_duration_seconds_count 1",
           "kyoyu_copy_errors_total{error_type=\"53300\"} 1",
           "kyoyu_active_connections{pool=\"read\"} 1",
           "kyoyu_auth_failures_total{reason=\"database\"} 1",
           "kyoyu_db_table_size_bytes{table=\"agent_events\"} 4096",
           "kyoyu_chunk_count{state=\"uncompressed\"} 3",
           "kyoyu_pool_utilization_ratio{pool=\"read\"} 0.5",
           "kyoyu_compression_ratio{table=\"agent_events\"} 1",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace pgtier::load
