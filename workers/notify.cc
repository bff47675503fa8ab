// Mode notify: moves rows from the outboxes into the histories.
//
// The rows stand in the outbox; NOTIFY only wakes. Who sends one takes a lock of the whole cluster until its commit, so
// triggers send none while a worker is awake. The sleep protocol: the worker takes K (an exclusive advisory lock),
// looks once more, and waits. A trigger asks for K (shared, until its transaction ends) and sends a notification only
// if K is refused. So either the worker can't get K while a writer is in flight, and stays awake; or it gets it, and
// then sees all that was committed before, and is woken by all that comes after. It also looks every few seconds,
// whatever happens.
#include <random>

#include "lib/base/log.h"
#include "lib/postgres/quote.h"
#include "shadow/outbox.h"
#include "workers/mode.h"

namespace pgtier::workers {
namespace {

using postgres::Connection;
using shadow::Batch;
using shadow::Next;
using shadow::Outbox;

constexpr Duration kStatementLimit = std::chrono::seconds(60);
constexpr Duration kConnectLimit = std::chrono::seconds(10);
constexpr Duration kSecondSleeps = std::chrono::seconds(1);  // a worker that is not the one sleeper looks that often
constexpr Duration kPoll = std::chrono::milliseconds(100);   // where transactions may be prepared: nothing wakes
constexpr Duration kMeasure = std::chrono::seconds(1);       // between measurements of the queues
constexpr int kRefusedLeastMs = 20;                          // K was refused, a writer is in flight: look again after
constexpr int kRefusedMostMs = 50;
constexpr int64_t kCounted = 10'000;  // rows of a queue
// Keys of advisory locks, each with the policy's number; sql/shadow/body.sql knows the first.
constexpr const char* kSleepKey = "7047001";
constexpr const char* kSleeperKey = "7047002";

class Notify final : public Mode {
 public:
  explicit Notify(ModeContext context) : context_(std::move(context)) {}

  Status Run(const std::stop_token& stop) override {
    PGTIER_RETURN_IF_ERROR(Connect(stop));
    auto busy_at = std::chrono::steady_clock::now();
    while (!stop.stop_requested()) {
      PGTIER_ASSIGN_OR_RETURN(Next next, Round());
      PGTIER_RETURN_IF_ERROR(Measure());
      auto now = std::chrono::steady_clock::now();
      if (next == Next::kAgain) {
        busy_at = now;
        continue;
      }
      if (moved_ || next == Next::kBusy) busy_at = now;
      if (now - busy_at < context_.config.awake || prepared_) {
        // Rows gather meanwhile; a notification of another's sleep is no reason to hurry.
        SleepFor(prepared_ ? std::min(kPoll, context_.config.batch_interval) : context_.config.batch_interval, stop);
        continue;
      }
      PGTIER_RETURN_IF_ERROR(Sleep(stop));
    }
    return {};
  }

 private:
  static Deadline Limit() { return Deadline::After(kStatementLimit); }

  Status Connect(const std::stop_token& stop) {
    PGTIER_ASSIGN_OR_RETURN(auto opened, Connection::Open(context_.connect, Deadline::After(kConnectLimit), stop));
    connection_.emplace(std::move(opened));
    PGTIER_ASSIGN_OR_RETURN(
        auto rows,
        connection_->Query("SELECT pg_is_in_recovery() AS standby, current_setting('max_prepared_transactions')"
                           " <> '0' AS prepared, (SELECT number FROM pgtier.shadow_state WHERE policy = $1)"
                           " AS number",
                           {context_.config.policy}, Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(bool standby, row.Get<bool>("standby"));
    if (standby) return MakeError(Code::kUnavailable, "the server is a standby");
    PGTIER_ASSIGN_OR_RETURN(prepared_, row.Get<bool>("prepared"));
    PGTIER_ASSIGN_OR_RETURN(auto number, row.Find<std::string>("number"));
    if (!number.has_value()) {
      return MakeError(Code::kNotFound, "the database knows no policy " + context_.config.policy);
    }
    number_ = *number;
    // One transaction takes a row out of the outbox and puts it into the history: a crash loses both or none, so nobody
    // has to wait for the disk. Workers find one another by the name.
    PGTIER_RETURN_IF_ERROR(connection_->Execute(
        "SET synchronous_commit = off; SET application_name = 'pgtier-notify-" + number_ + "'", Limit()));
    if (!context_.config.channel.empty()) {
      PGTIER_ASSIGN_OR_RETURN(auto channel, postgres::QuoteIdentifier(*connection_, context_.config.channel));
      PGTIER_RETURN_IF_ERROR(connection_->Execute("LISTEN " + channel, Limit()));
    }
    context_.progress.SetReady(true);
    log::Info("moving rows", {{"policy", context_.config.policy}, {"database", context_.config.database.name}});
    return {};
  }

  // A batch of each outbox. kAgain: there is more; kBusy: others have it. One whose rows can't be moved (its history is
  // locked, say) does not stop the others; the first such error is given at the end.
  Result<Next> Round() {
    moved_ = false;
    context_.progress.Working();
    PGTIER_ASSIGN_OR_RETURN(outboxes_, shadow::Outboxes(*connection_, context_.config.policy, Limit()));
    PGTIER_RETURN_IF_ERROR(CountWorkers());
    Next all = Next::kRest;
    Status failed;
    for (const Outbox& outbox : outboxes_) {
      Result<Batch> batch = Move(outbox, false);
      if (batch.has_value() && batch->next == Next::kEverything) batch = Move(outbox, true);
      if (!batch.has_value()) {
        if (failed.has_value()) failed = std::move(batch).error().WithContext("moving the rows of " + outbox.source);
        continue;
      }
      if (batch->next == Next::kAgain) {
        all = Next::kAgain;
      } else if (batch->next == Next::kBusy && all == Next::kRest) {
        all = Next::kBusy;
      }
    }
    // Where others have more, they come first: the error ends the mode, which begins again after a pause.
    if (all != Next::kAgain) PGTIER_RETURN_IF_ERROR(failed);
    // Whoever holds the shards answers for them.
    if (all != Next::kAgain) context_.progress.Idle();
    return all;
  }

  Result<Batch> Move(const Outbox& outbox, bool everything) {
    PGTIER_ASSIGN_OR_RETURN(Batch batch, shadow::MoveBatch(*connection_, outbox, context_.config.batch_rows, workers_,
                                                           everything, Limit()));
    if (batch.moved + batch.buried > 0) {
      moved_ = true;
      context_.progress.Done();
      lag_ = batch.oldest_seconds;
      context_.metrics.Increment("pgtier_shadow_rows_total", "Rows written into histories", {{"table", outbox.source}},
                                 static_cast<double>(batch.moved));
      context_.metrics.ObserveCount("pgtier_shadow_batch_rows", "Rows of a batch", {},
                                    static_cast<double>(batch.moved));
    }
    if (batch.buried > 0) {
      context_.metrics.Increment("pgtier_shadow_dead_letters_total", "Rows that their history would not take",
                                 {{"table", outbox.source}}, static_cast<double>(batch.buried));
      log::Error("a row could not be written into its history; it is in pgtier.shadow_dead_letters",
                 {{"table", outbox.source}});
    }
    return batch;
  }

  // How many workers there are: each takes that part of the shards.
  Status CountWorkers() {
    auto now = std::chrono::steady_clock::now();
    if (now - counted_at_ < kMeasure) return {};
    counted_at_ = now;
    PGTIER_ASSIGN_OR_RETURN(auto rows, connection_->Query("SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                                          " current_database() AND application_name ="
                                                          " 'pgtier-notify-' || $1::text",
                                                          {number_}, Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(auto count, row.Get<int64_t>(0));
    workers_ = std::max<int64_t>(1, count);
    return {};
  }

  Status Measure() {
    auto now = std::chrono::steady_clock::now();
    if (now - measured_at_ < kMeasure) return {};
    measured_at_ = now;
    double depth = 0;
    double oldest = 0;
    for (const Outbox& outbox : outboxes_) {
      PGTIER_ASSIGN_OR_RETURN(auto queue, shadow::QueueOf(*connection_, outbox, kCounted, Limit()));
      depth += static_cast<double>(queue.depth);
      oldest = std::max(oldest, queue.oldest_seconds);
    }
    PGTIER_ASSIGN_OR_RETURN(auto rows, connection_->Query("SELECT pg_notification_queue_usage()", Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(double usage, row.Get<double>(0));
    Metrics& metrics = context_.metrics;
    metrics.Set("pgtier_shadow_queue_depth", "Rows in the outboxes; each is counted up to 10000", {}, depth);
    metrics.Set("pgtier_shadow_oldest_seconds", "For how long the oldest row of the outboxes has waited", {}, oldest);
    metrics.Set("pgtier_shadow_lag_seconds", "For how long the rows of the last batch had waited at most", {},
                depth == 0 && !moved_ ? 0 : lag_);
    metrics.Set("pgtier_shadow_notify_queue_usage", "Fraction of the server's notification queue in use", {}, usage);
    return {};
  }

  Result<bool> TryLock(const char* key) {
    PGTIER_ASSIGN_OR_RETURN(
        auto rows,
        connection_->Query(std::string("SELECT pg_try_advisory_lock(") + key + ", " + number_ + ")", Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    return row.Get<bool>(0);
  }

  Status Sleep(const std::stop_token& stop) {
    if (!sleeper_) {
      PGTIER_ASSIGN_OR_RETURN(sleeper_, TryLock(kSleeperKey));
    }
    if (!sleeper_) {
      PGTIER_RETURN_IF_ERROR(connection_->AwaitNotification(Deadline::After(kSecondSleeps)));
      return {};
    }
    PGTIER_ASSIGN_OR_RETURN(bool granted, TryLock(kSleepKey));
    if (!granted) {
      SleepFor(std::chrono::milliseconds(std::uniform_int_distribution<int>(kRefusedLeastMs, kRefusedMostMs)(random_)),
               stop);
      return {};
    }
    Status slept = SleepWithKey();
    PGTIER_RETURN_IF_ERROR(
        connection_->Query(std::string("SELECT pg_advisory_unlock(") + kSleepKey + ", " + number_ + ")", Limit()));
    return slept;
  }

  // The second look: whether the outboxes are empty, not whether this worker could move something.
  Status SleepWithKey() {
    PGTIER_ASSIGN_OR_RETURN(outboxes_, shadow::Outboxes(*connection_, context_.config.policy, Limit()));
    for (const Outbox& outbox : outboxes_) {
      PGTIER_ASSIGN_OR_RETURN(auto queue, shadow::QueueOf(*connection_, outbox, 1, Limit()));
      if (queue.depth > 0) return {};
    }
    PGTIER_RETURN_IF_ERROR(connection_->AwaitNotification(Deadline::After(context_.config.asleep)));
    return {};
  }

  ModeContext context_;
  std::optional<Connection> connection_;
  std::string number_;     // of the policy
  bool prepared_ = false;  // transactions may be prepared: triggers send no notification
  bool sleeper_ = false;   // the one that plays the protocol
  bool moved_ = false;     // in this round
  double lag_ = 0;
  int64_t workers_ = 1;
  std::vector<Outbox> outboxes_;
  MonoTime counted_at_{};
  MonoTime measured_at_{};
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace

std::unique_ptr<Mode> MakeNotify(ModeContext context) { return std::make_unique<Notify>(std::move(context)); }

}  // namespace pgtier::workers
