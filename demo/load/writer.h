// One agent's ingestion: events into a buffer, batches by COPY, and now and then a decision.
#pragma once

#include <map>
#include <random>
#include <stop_token>
#include <string>

#include "demo/load/load_metrics.h"
#include "demo/load/options.h"
#include "demo/load/recorder.h"
#include "demo/load/session.h"

namespace pgtier::load {

constexpr size_t kBatchEvents = 1000;
constexpr Duration kFlushAfter = std::chrono::milliseconds(100);

// Events that wait for a flush: COPY's text, ready to send. Pure.
class EventBuffer {
 public:
  EventBuffer(std::string agent, std::string run_id) : agent_(std::move(agent)), run_id_(std::move(run_id)) {}

  void Add(WallTime at, MonoTime now, std::mt19937_64& random);
  // Full, or its first event has waited for kFlushAfter.
  [[nodiscard]] bool Due(MonoTime now) const;
  [[nodiscard]] size_t size() const { return events_; }
  [[nodiscard]] const std::string& rows() const { return rows_; }
  [[nodiscard]] const std::map<std::string, int64_t>& by_type() const { return by_type_; }
  void Clear();

 private:
  std::string agent_, run_id_, rows_;
  std::map<std::string, int64_t> by_type_;
  size_t events_ = 0;
  int64_t next_seq_ = 1;
  MonoTime first_{};
};

// Runs until stop, then flushes what is left. A batch whose COPY fails is counted and dropped, never sent again: its
// outcome is unknown, and a second copy would hide the loss or double the rows.
class Writer {
 public:
  Writer(const LoadOptions& options, int index, std::string run_id, Recorder& recorder, LoadMetrics& metrics);
  void Run(const std::stop_token& stop);

 private:
  void Flush();
  Status Copy(postgres::Connection& connection);
  void Decide();
  // `steps` becomes how long each took: "begin 3, insert 84, commit 12 ms".
  Status InsertDecision(postgres::Connection& connection, std::string* steps);

  const LoadOptions& options_;
  std::string agent_, run_id_;
  Recorder& recorder_;
  LoadMetrics& metrics_;
  Session session_;
  GapWatch gap_;
  EventBuffer buffer_;
  std::mt19937_64 random_;
};

}  // namespace pgtier::load
