#include "workers/cdc/consumer.h"

#include <algorithm>

#include "lib/base/log.h"
#include "lib/base/random.h"
#include "workers/cdc/session.h"

namespace pgtier::workers {
namespace {

using postgres::Lsn;

constexpr Duration kLimit = std::chrono::seconds(30);
constexpr Duration kReportEvery = std::chrono::seconds(1);  // the server gives up on us after wal_sender_timeout
constexpr Duration kLookEvery = std::chrono::seconds(5);
constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(10);
constexpr uint64_t kLittle = uint64_t{64} << 10U;  // bytes of log behind which nobody is called late

MonoTime Now() { return std::chrono::steady_clock::now(); }

double SecondsSince(pgoutput::Timestamp commit) {
  constexpr int64_t kUnixOf2000 = 946'684'800'000'000;
  auto now = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch());
  return std::max(0.0, static_cast<double>(now.count() - kUnixOf2000 - commit) / 1e6);
}

}  // namespace

struct CdcConsumer::Live {
  // A checkpoint that the server may be told of when it has sent us its log up to `written`.
  struct Owed {
    Lsn checkpoint, written;
  };

  Live(postgres::Connection to, postgres::ReplicationConnection from, Checkpoint checkpoint, const CdcOptions& options)
      : writer(std::move(to)),
        reader(std::move(from)),
        history(&writer, options.policy, std::move(checkpoint)),
        sink(&history, options.policy, [this] { return heartbeat(); }),
        assembler(&sink, options.spill) {}

  postgres::Connection writer;
  postgres::ReplicationConnection reader;
  History history;
  CdcSink sink;
  pgoutput::Assembler assembler;
  std::function<Status()> heartbeat;
  bool streamed = false;
  Lsn received;      // of what came
  Lsn acknowledged;  // what the server was told to be kept
  std::deque<Owed> owed;
  bool asked = false;  // for a keepalive that did not come yet
  std::optional<MonoTime> first_row;
  MonoTime saved = Now(), reported = Now(), looked;
};

Result<std::unique_ptr<CdcConsumer::Live>> CdcConsumer::Open(const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(auto writer, OpenWriter(options_, stop));
  PGTIER_ASSIGN_OR_RETURN(Checkpoint checkpoint, ReadCheckpoint(writer, options_.policy, Deadline::After(kLimit)));
  PGTIER_ASSIGN_OR_RETURN(auto reader, OpenReader(options_, stop));
  PGTIER_ASSIGN_OR_RETURN(auto server, reader.IdentifySystem(Deadline::After(kLimit)));
  postgres::TimelineEnds ends;
  if (checkpoint.timeline > 0 && checkpoint.timeline != server.timeline) {
    PGTIER_ASSIGN_OR_RETURN(ends, reader.TimelineHistory(server.timeline, Deadline::After(kLimit)));
  }
  PGTIER_ASSIGN_OR_RETURN(
      bool gap, Reconcile(writer, options_.policy, server, ends, options_.slot, checkpoint, Deadline::After(kLimit)));
  if (gap) {
    log::Error("changes are missing between the history and the slot", {{"policy", options_.policy}});
    const std::lock_guard lock(mutex_);
    state_.gap = true;
    ++state_.dead_letters;
  }
  const bool stream = options_.stream && checkpoint.lsn > whole_until_;
  PGTIER_RETURN_IF_ERROR(StartReading(reader, options_, stream, checkpoint.lsn, stop));
  auto live = std::make_unique<Live>(std::move(writer), std::move(reader), checkpoint, options_);
  live->streamed = stream;
  live->acknowledged = checkpoint.lsn;
  live->received = checkpoint.lsn;
  live->heartbeat = [this, at = live.get()]() -> Status {
    if (Now() - at->reported < kReportEvery) return {};
    {
      const std::lock_guard lock(mutex_);
      progress_ = Now();  // rows flow, though their transaction has not ended
    }
    return Report(*at, false);
  };
  return live;
}

Error CdcConsumer::Session(const std::stop_token& stop) {
  auto live = Open(stop);
  if (!live.has_value()) return live.error();
  {
    const std::lock_guard lock(mutex_);
    state_.streaming = true;
    state_.error.clear();
    ++state_.sessions;
    state_.checkpoint = (*live)->history.checkpoint();
  }
  Status ended = Stream(**live);
  return ended.has_value() ? MakeError(Code::kAborted, "to begin anew") : ended.error();
}

// Ends without an error where the next session is to read in another way.
Status CdcConsumer::Stream(Live& live) {
  while (true) {
    Status step = StepOnce(live);
    if (!step.has_value()) {
      if (!live.sink.refused().has_value()) return step;
      // What came before the refused transaction is kept; the transaction itself is not begun.
      whole_until_ = *live.sink.refused();
      again_ = true;
      return Save(live);
    }
    if (!live.streamed && options_.stream && live.history.checkpoint().lsn > whole_until_ &&
        !live.assembler.in_transaction()) {
      again_ = true;
      return Save(live);
    }
  }
}

Status CdcConsumer::StepOnce(Live& live) {
  Deadline until = Deadline::After(kReportEvery);
  if (live.first_row.has_value()) until = Deadline::At(std::min(until.at(), *live.first_row + options_.batch_interval));
  PGTIER_ASSIGN_OR_RETURN(auto piece, live.reader.Read(until));
  if (piece.has_value() && !piece->keepalive) {
    live.received = std::max(live.received, piece->start);
    PGTIER_RETURN_IF_ERROR(live.assembler.Feed(piece->data));
    if (!live.first_row.has_value() && live.history.rows() > 0) live.first_row = Now();
  } else if (piece.has_value()) {
    live.asked = false;
    live.received = std::max(live.received, piece->end);
    if (!live.assembler.in_transaction()) live.sink.Passed(piece->end);
    Acknowledged(live, piece->end);
    PGTIER_RETURN_IF_ERROR(Report(live, false));
  } else if (Now() - live.reader.last_byte() > options_.silence) {
    return MakeError(Code::kUnavailable, "the server has been silent for too long");
  }
  PGTIER_RETURN_IF_ERROR(SaveIfDue(live));
  if (Now() - live.reported >= kReportEvery) PGTIER_RETURN_IF_ERROR(Report(live, true));
  return Look(live);
}

Status CdcConsumer::SaveIfDue(Live& live) {
  if (live.assembler.in_transaction()) return {};
  const Lsn reached = live.sink.reached().lsn;
  const Lsn kept = live.history.checkpoint().lsn;
  if (reached <= kept) return {};
  const MonoTime now = Now();
  const bool rows = live.history.rows() >= options_.batch_rows ||
                    (live.first_row.has_value() && now - *live.first_row >= options_.batch_interval);
  const bool idle = live.history.rows() == 0 && now - live.saved >= options_.idle_save &&
                    postgres::BytesBehind(kept, reached) >= options_.idle_bytes;
  return rows || idle || live.sink.barrier_reached() ? Save(live) : Status();
}

Status CdcConsumer::Save(Live& live) {
  if (live.sink.reached().lsn <= live.history.checkpoint().lsn) return {};
  const auto rows = static_cast<double>(live.history.rows());
  const double waited = live.sink.oldest().has_value() ? SecondsSince(*live.sink.oldest()) : 0;
  PGTIER_ASSIGN_OR_RETURN(Lsn written, live.history.Commit(live.sink.reached()));
  live.owed.push_back({live.history.checkpoint().lsn, written});
  live.first_row.reset();
  live.sink.Committed();
  live.saved = Now();
  {
    const std::lock_guard lock(mutex_);
    state_.checkpoint = live.history.checkpoint();
    for (const auto& [source, count] : live.history.committed_rows()) state_.rows += count;
    for (const auto& [source, count] : live.history.dead_letters()) state_.dead_letters += count;
    ++state_.transactions;
    progress_ = Now();
  }
  if (metrics_ != nullptr) {
    for (const auto& [source, count] : live.history.committed_rows()) {
      metrics_->Increment("pgtier_shadow_rows_total", "Rows written into histories", {{"table", source}},
                          static_cast<double>(count));
    }
    for (const auto& [source, count] : live.history.dead_letters()) {
      metrics_->Increment("pgtier_shadow_dead_letters_total", "Rows that their history would not take",
                          {{"table", source}}, static_cast<double>(count));
    }
    metrics_->ObserveCount("pgtier_shadow_batch_rows", "Rows of a batch", {}, rows);
    metrics_->Set("pgtier_shadow_lag_seconds",
                  "From the commit of the oldest change of the newest batch to its history.", {}, waited);
  }
  return live.asked ? Status() : Report(live, true);
}

// `sent` came in a keepalive: the server's log was sent up to there, and is past what the slots of standbys hold back.
void CdcConsumer::Acknowledged(Live& live, Lsn sent) {
  while (!live.owed.empty() && live.owed.front().written <= sent) {
    live.acknowledged = std::max(live.acknowledged, live.owed.front().checkpoint);
    live.owed.pop_front();
  }
}

Status CdcConsumer::Report(Live& live, bool ask) {
  live.reported = Now();
  live.asked = live.asked || ask;
  return live.reader.Report(std::max(live.received, live.acknowledged), live.acknowledged, ask,
                            Deadline::After(kLimit));
}

// How far the log has gone meanwhile, and what the server keeps of it for us.
Status CdcConsumer::Look(Live& live) {
  if (Now() - live.looked < kLookEvery) return {};
  live.looked = Now();
  PGTIER_ASSIGN_OR_RETURN(auto rows,
                          live.writer.Query("SELECT pg_current_wal_flush_lsn()::text AS now,"
                                            " coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), (SELECT restart_lsn"
                                            " FROM pg_replication_slots WHERE slot_name = $1)), 0)::bigint AS retained",
                                            {options_.slot}, Deadline::After(kLimit)));
  PGTIER_ASSIGN_OR_RETURN(std::string now, rows[0].Get<std::string>("now"));
  PGTIER_ASSIGN_OR_RETURN(Lsn server, Lsn::Parse(now));
  PGTIER_ASSIGN_OR_RETURN(int64_t retained, rows[0].Get<int64_t>("retained"));
  const Lsn reached = live.sink.reached().lsn;
  {
    const std::lock_guard lock(mutex_);
    if (postgres::BytesBehind(reached, server) < kLittle || reached > state_.checkpoint.lsn) progress_ = Now();
    state_.server = server;
    state_.behind = postgres::BytesBehind(reached, server) >= kLittle || live.history.rows() > 0;
  }
  if (metrics_ == nullptr) return {};
  metrics_->Set("pgtier_shadow_lag_bytes", "Bytes of log behind the newest change read.", {},
                static_cast<double>(postgres::BytesBehind(reached, server)));
  metrics_->Set("pgtier_shadow_retained_wal_bytes", "Bytes of log that the server keeps for the slot.", {},
                static_cast<double>(retained));
  metrics_->Set("pgtier_shadow_spill_bytes", "Bytes of unfinished transactions on disk.", {},
                static_cast<double>(live.assembler.on_disk()));
  if (!live.first_row.has_value()) {
    metrics_->Set("pgtier_shadow_lag_seconds",
                  "From the commit of the oldest change of the newest batch to its history.", {}, 0);
  }
  return {};
}

void CdcConsumer::Run(const std::stop_token& stop) {
  Duration pause = kFirstPause;
  while (!stop.stop_requested()) {
    const MonoTime began = Now();
    const int64_t saved = state().transactions;
    const Error error = Session(stop);
    bool useful = Now() - began > kLongestPause;
    {
      const std::lock_guard lock(mutex_);
      state_.streaming = false;
      state_.error = error.message;
      useful = useful || state_.transactions > saved;
    }
    if (stop.stop_requested()) return;
    if (std::exchange(again_, false) && error.code == Code::kAborted) continue;
    log::Warn("cdc begins anew", {{"policy", options_.policy}, {"reason", error.message}});
    pause = useful ? kFirstPause : std::min<Duration>(pause * 2, kLongestPause);
    if (!SleepFor(pause, stop)) return;
  }
}

CdcState CdcConsumer::state() const {
  const std::lock_guard lock(mutex_);
  CdcState state = state_;
  state.progress = progress_;
  return state;
}

}  // namespace pgtier::workers
