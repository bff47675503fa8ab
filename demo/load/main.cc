// kyoyu-load: an application on one Postgres, as its users would see it while pgtier changes the tier under it.
#include <signal.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "demo/load/load_metrics.h"
#include "demo/load/options.h"
#include "demo/load/reader.h"
#include "demo/load/recorder.h"
#include "demo/load/report.h"
#include "demo/load/schema.h"
#include "demo/load/writer.h"
#include "lib/base/log.h"

namespace pgtier::load {
namespace {

constexpr Duration kTick = std::chrono::seconds(1);
constexpr Duration kMeasureEvery = std::chrono::seconds(10);
constexpr Duration kSchemaLimit = std::chrono::minutes(5);
constexpr Duration kLedgerLimit = std::chrono::minutes(1);
constexpr Duration kLedgerAttempt = std::chrono::seconds(20);
constexpr Duration kPauseBetweenAttempts = std::chrono::milliseconds(500);
constexpr int kFailure = 1;

// SIGTERM and SIGINT, blocked in every thread and waited for in this one.
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  // Waits until `at`; true when a signal came.
  bool WaitUntil(MonoTime at) {
    Duration left = Deadline::At(at).Remaining();
    auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    timespec limit{seconds.count(), (left - seconds).count()};
    return sigtimedwait(&set_, nullptr, &limit) > 0;
  }

 private:
  sigset_t set_{};
};

// The endpoint may come up later than the application.
Result<postgres::Connection> AwaitEndpoint(const LoadOptions& options, Signals& signals) {
  Deadline deadline = Deadline::After(options.connect_timeout);
  while (true) {
    auto connection = postgres::Connection::Open(options.Write(), deadline.AtMost(std::chrono::seconds(5)));
    if (connection.has_value() || deadline.Expired()) return connection;
    log::Info("waiting for the write endpoint", {{"error", connection.error().message}});
    if (signals.WaitUntil(std::chrono::steady_clock::now() + kTick)) return connection;
  }
}

void Print(const std::string& line) {
  std::puts(line.c_str());
  std::fflush(stdout);
}

// The load itself: threads that write and read, and a line a second, until the duration is over or a signal comes.
class Run {
 public:
  Run(const LoadOptions& options, const Schema& schema, std::string run_id, Recorder& recorder, LoadMetrics& metrics)
      : options_(options), schema_(schema), run_id_(std::move(run_id)), recorder_(recorder), metrics_(metrics) {}

  void Until(Signals& signals) {
    start_ = std::chrono::steady_clock::now();
    for (int i = 0; i < options_.agents; ++i) {
      threads_.emplace_back(
          [this, i](const std::stop_token& stop) { Writer(options_, i, run_id_, recorder_, metrics_).Run(stop); });
    }
    std::ignore = recorder_.TakeWindow();
    MonoTime last = start_;
    for (MonoTime next = start_ + kTick;; next += kTick) {
      AddReaders(ReadersAt(options_, std::chrono::steady_clock::now() - start_));
      bool stopped = signals.WaitUntil(next);
      MonoTime now = std::chrono::steady_clock::now();
      Window window = recorder_.TakeWindow();
      if (readers_ > 0) metrics_.PoolUtilisation("read", static_cast<double>(window.inflight) / readers_);
      Print(
          WindowLine(std::chrono::system_clock::now(), PhaseAt(options_, last - start_), readers_, now - last, window));
      last = now;
      Measure(now);
      if (stopped || (options_.duration > Duration::zero() && now - start_ >= options_.duration)) break;
    }
    for (auto& thread : threads_) thread.request_stop();
    threads_.clear();
  }

 private:
  void AddReaders(int wanted) {
    for (; readers_ < wanted; ++readers_) {
      threads_.emplace_back(
          [this](const std::stop_token& stop) { Reader(options_, schema_, recorder_, metrics_).Run(stop); });
    }
  }
  // On a connection for this only, and short: a measurement that fails is made at the next turn.
  void Measure(MonoTime now) {
    if (now < next_measure_) return;
    next_measure_ = now + kMeasureEvery;
    Deadline deadline = Deadline::After(kTick / 2);
    auto connection = postgres::Connection::Open(options_.Write(), deadline);
    Status measured = connection.has_value() ? MeasureTables(*connection, schema_, metrics_, deadline)
                                             : Status(std::move(connection).error());
    if (!measured.has_value()) log::Debug("tables not measured", {{"error", measured.error().message}});
  }

  const LoadOptions& options_;
  const Schema& schema_;
  std::string run_id_;
  Recorder& recorder_;
  LoadMetrics& metrics_;
  MonoTime start_{};
  MonoTime next_measure_{};
  int readers_ = 0;
  std::vector<std::jthread> threads_;
};

// Asked again until the limit: a pooler may hand out a connection to a server that is the primary no more, and a ledger
// that was not counted says nothing of the rows.
std::optional<Ledger> ReadLedger(const LoadOptions& options, const std::string& run_id) {
  Deadline deadline = Deadline::After(kLedgerLimit);
  while (true) {
    Deadline attempt = deadline.AtMost(kLedgerAttempt);
    auto connection = postgres::Connection::Open(options.Write(), attempt);
    auto ledger = connection.has_value() ? CountRows(*connection, run_id, attempt)
                                         : Result<Ledger>(std::move(connection).error());
    if (ledger.has_value()) return *ledger;
    log::Error("rows not counted", {{"error", ledger.error().message}});
    if (deadline.Expired()) return std::nullopt;
    std::this_thread::sleep_for(kPauseBetweenAttempts);
  }
}

Result<Schema> Prepare(const LoadOptions& options, Signals& signals) {
  PGTIER_ASSIGN_OR_RETURN(auto connection, AwaitEndpoint(options, signals));
  return EnsureSchema(connection, options, Deadline::After(kSchemaLimit));
}

int Main(const LoadOptions& options) {
  Signals signals;
  LoadMetrics metrics;
  Recorder recorder;
  if (options.metrics_port != 0) {
    auto served = metrics.Serve(options.metrics_address, options.metrics_port);
    if (!served.has_value()) {
      log::Error("can't serve metrics", {{"error", served.error().message}});
      return kFailure;
    }
  }
  auto schema = Prepare(options, signals);
  if (!schema.has_value()) {
    log::Error("can't prepare the tables", {{"error", schema.error().message}});
    return kFailure;
  }

  WallTime started = std::chrono::system_clock::now();
  const std::string run_id = "run-" + std::to_string(started.time_since_epoch().count());
  Run(options, *schema, run_id, recorder, metrics).Until(signals);
  std::string summary =
      Summary(run_id, started, std::chrono::system_clock::now(), recorder.totals(), ReadLedger(options, run_id));
  Print(summary);
  if (!options.summary_file.empty()) {
    std::ofstream file(options.summary_file);
    file << summary << "\n";
    if (!file.flush()) log::Error("can't write the summary", {{"file", options.summary_file}});
  }
  if (options.hold_after_signal > Duration::zero()) {
    signals.WaitUntil(std::chrono::steady_clock::now() + options.hold_after_signal);
  }
  return 0;
}

}  // namespace
}  // namespace pgtier::load

int main(int argc, char** argv) {
  pgtier::load::LoadOptions options;
  if (auto exit_code = pgtier::load::ParseOptions(argc, argv, options); exit_code.has_value()) return *exit_code;
  return pgtier::load::Main(options);
}
