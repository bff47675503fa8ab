#include "demo/load/writer.h"

#include <algorithm>
#include <array>

#include "demo/load/latency.h"
#include "demo/load/vectors.h"
#include "lib/base/time_format.h"
#include "lib/postgres/sqlstate.h"

namespace pgtier::load {
namespace {

constexpr std::array<const char*, 4> kEventTypes = {"tool_call", "model_call", "observation", "error"};
constexpr std::array<const char*, 3> kOutcomes = {"approved", "rejected", "escalated"};
constexpr Duration kTick = std::chrono::milliseconds(5);
// After an error, so that an endpoint that refuses at once isn't hammered.
constexpr Duration kPauseAfterError = std::chrono::milliseconds(100);
constexpr const char* kCopy = "COPY agent_events (event_time, agent_id, event_type, run_id, seq, payload) FROM STDIN";

// How many are due of those that should be there: whole ones, less those that were made.
int64_t Due(double wanted, int64_t made) { return static_cast<int64_t>(wanted) - made; }

}  // namespace

void EventBuffer::Add(WallTime at, MonoTime now, std::mt19937_64& random) {
  if (events_ == 0) first_ = now;
  const char* type = kEventTypes[random() % kEventTypes.size()];
  std::string payload = "{\"duration_ms\": " + std::to_string(random() % 1000) +
                        ", \"ok\": true, \"tokens\": " + std::to_string(random() % 4000) + "}";
  postgres::AppendCopyRow(rows_, {FormatMicroTime(at), agent_, type, run_id_, std::to_string(next_seq_), payload});
  ++next_seq_;
  ++by_type_[type];
  ++events_;
}

bool EventBuffer::Due(MonoTime now) const {
  return events_ >= kBatchEvents || (events_ > 0 && now - first_ >= kFlushAfter);
}

void EventBuffer::Clear() {
  rows_.clear();
  by_type_.clear();
  events_ = 0;
}

Writer::Writer(const LoadOptions& options, int index, std::string run_id, Recorder& recorder, LoadMetrics& metrics)
    : options_(options),
      agent_("agent-" + std::to_string(index)),
      run_id_(std::move(run_id)),
      recorder_(recorder),
      metrics_(metrics),
      session_(options.Write(), options.connection_lifetime, "write", recorder, metrics),
      gap_(recorder),
      buffer_(agent_, run_id_),
      random_(std::random_device{}()) {}

void Writer::Run(const std::stop_token& stop) {
  const double decision_rate = options_.decisions_per_second / options_.agents;
  MonoTime start = std::chrono::steady_clock::now();
  int64_t events = 0;
  int64_t decisions = 0;
  while (SleepFor(kTick, stop)) {
    MonoTime now = std::chrono::steady_clock::now();
    // What came while a flush took long is there now; batches stay within their limit.
    for (int64_t due = Due(EventsBy(options_, now - start) / options_.agents, events); due > 0;) {
      auto room = static_cast<int64_t>(kBatchEvents - buffer_.size());
      int64_t take = std::min(due, room);
      for (int64_t i = 0; i < take; ++i) buffer_.Add(std::chrono::system_clock::now(), now, random_);
      metrics_.BufferChanged(take);
      events += take;
      due -= take;
      if (buffer_.size() >= kBatchEvents) Flush();
    }
    if (buffer_.Due(std::chrono::steady_clock::now())) Flush();
    if (Due(Seconds(now - start) * decision_rate, decisions) > 0) {
      ++decisions;
      Decide();
    }
  }
  if (buffer_.size() > 0) Flush();
}

void Writer::Flush() {
  MonoTime start = std::chrono::steady_clock::now();
  gap_.AttemptAt(start);
  postgres::Connection* connection = session_.Get(options_.query_timeout);
  // A failed connect is counted by the session; the batch that it cost is counted too.
  Status outcome =
      connection == nullptr ? Status(MakeError(Code::kUnavailable, "no connection for a batch")) : Copy(*connection);
  MonoTime end = std::chrono::steady_clock::now();
  recorder_.FlushEnds(static_cast<int64_t>(buffer_.size()), end - start, outcome);
  metrics_.BufferChanged(-static_cast<int64_t>(buffer_.size()));
  if (outcome.has_value()) {
    gap_.SuccessAt(end, "flush");
    metrics_.Flush(agent_, buffer_.by_type(), end - start);
  } else {
    std::string state(postgres::SqlStateOf(outcome.error()));
    metrics_.CopyError(state.empty() ? std::string(CodeName(outcome.error().code)) : state);
    std::ignore = SleepFor(kPauseAfterError, std::stop_token());
  }
  buffer_.Clear();
}

Status Writer::Copy(postgres::Connection& connection) {
  Deadline deadline = Deadline::After(options_.query_timeout);
  PGTIER_ASSIGN_OR_RETURN(auto copy, postgres::CopyIn::Begin(connection, kCopy, deadline));
  PGTIER_RETURN_IF_ERROR(copy.Write(buffer_.rows(), deadline));
  PGTIER_ASSIGN_OR_RETURN(int64_t rows, copy.Finish(deadline));
  if (rows == static_cast<int64_t>(buffer_.size())) return {};
  return MakeError(Code::kInternal, "COPY took " + std::to_string(rows) + " of " + std::to_string(buffer_.size()));
}

void Writer::Decide() {
  MonoTime start = std::chrono::steady_clock::now();
  gap_.AttemptAt(start);
  postgres::Connection* connection = session_.Get(options_.query_timeout);
  std::string steps;
  Status outcome = connection == nullptr ? Status(MakeError(Code::kUnavailable, "no connection for a decision"))
                                         : InsertDecision(*connection, &steps);
  MonoTime end = std::chrono::steady_clock::now();
  recorder_.DecisionEnds(end - start, outcome);
  if (outcome.has_value()) gap_.SuccessAt(end, "decision: " + steps);
}

Status Writer::InsertDecision(postgres::Connection& connection, std::string* steps) {
  Deadline deadline = Deadline::After(options_.query_timeout);
  MonoTime last = std::chrono::steady_clock::now();
  auto note = [&](const char* step) {
    MonoTime now = std::chrono::steady_clock::now();
    *steps += step + std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now - last).count());
    last = now;
  };
  PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
  note("begin ");
  // Worth more than events: durable before it is acknowledged, whatever the server's default is.
  PGTIER_RETURN_IF_ERROR(connection.Execute("SET LOCAL synchronous_commit = on", deadline));
  PGTIER_RETURN_IF_ERROR(
      connection.Query("INSERT INTO decisions (agent_id, run_id, outcome, embedding) VALUES ($1, $2, $3, $4::vector)",
                       {agent_, run_id_, kOutcomes[random_() % kOutcomes.size()], RandomEmbedding(random_)}, deadline));
  note(", insert ");
  PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
  note(", commit ");
  *steps += " ms";
  return {};
}

}  // namespace pgtier::load
