// The application's own metrics, served for Prometheus. prometheus-cpp stays behind this header.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "demo/load/recorder.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::load {

// Thread-safe.
class LoadMetrics {
 public:
  LoadMetrics();
  ~LoadMetrics();
  LoadMetrics(const LoadMetrics&) = delete;
  LoadMetrics& operator=(const LoadMetrics&) = delete;

  // Serves /metrics. Errors: kUnavailable: the port is taken.
  Status Serve(const std::string& address, int port);

  void Query(QueryType type, Duration latency, size_t results);
  void Similarity(double score);
  void Flush(const std::string& agent, const std::map<std::string, int64_t>& by_event_type, Duration latency);
  void CopyError(const std::string& error_type);
  // Events that wait in all buffers: `change` came or, negative, went.
  void BufferChanged(int64_t change);
  void Connection(const std::string& pool, int change);
  void AuthFailure(const std::string& reason);
  void TableSize(const std::string& table, int64_t bytes);
  void ChunkCount(const std::string& state, int64_t count);
  // Of the application's own pool ("read"), 0 to 1.
  void PoolUtilisation(const std::string& pool, double ratio);
  void CompressionRatio(const std::string& table, double ratio);

  // The text that /metrics serves.
  [[nodiscard]] std::string Serialize() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgtier::load
