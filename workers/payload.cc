// Delivery Payload of tier notify: rows come in notifications and go into the outboxes, from where notify.cc moves them
// as it moves all others.
//
// One worker listens: a notification comes to all who do. It holds K, by which triggers know that their rows are heard;
// without it (no worker, or one that can't keep up) they write into the outbox themselves. So what is lost when a
// worker dies is what was sent and not in the outbox yet. Beats that it sends to itself come back behind all that was
// committed before them: the last one heard says since when rows may be missing, and the next worker writes that down.
// A worker that ends in order gives K back first and waits for who may still send.
#include "shadow/payload.h"

#include "lib/base/log.h"
#include "workers/mode.h"

namespace pgtier::workers {
namespace {

using postgres::Connection;
using shadow::Accepted;

constexpr Duration kAnswerLimit = std::chrono::seconds(60);
constexpr Duration kOpenLimit = std::chrono::seconds(10);
constexpr Duration kEndLimit = std::chrono::seconds(5);  // for an end in order, well below a pod's grace period
constexpr Duration kStandby = std::chrono::milliseconds(200);
constexpr Duration kBeat = std::chrono::seconds(1);
constexpr Duration kPause = std::chrono::milliseconds(200);  // after an error
constexpr size_t kBatchBytes = size_t{4} << 20U;
// Parts of the server's queue of notifications: a COMMIT that finds it full fails. Above the first nothing more is sent
// until it is below the second.
constexpr double kFull = 0.5;
constexpr double kRoom = 0.25;
// Keys of advisory locks, each with the policy's number; sql/shadow/payload.sql knows the first.
constexpr const char* kHeardKey = "7047005";
constexpr const char* kListenerKey = "7047006";

class Payload final : public Mode {
 public:
  explicit Payload(ModeContext context) : context_(std::move(context)) {}

  Status Run(const std::stop_token& stop) override {
    if (!context_.config.payload) {
      context_.progress.SetReady(true);
      while (SleepFor(std::chrono::hours(1), stop)) continue;
      return {};
    }
    PGTIER_RETURN_IF_ERROR(Connect());
    context_.progress.SetReady(true);  // also while another listens
    while (true) {
      PGTIER_ASSIGN_OR_RETURN(bool mine, Ask("pg_try_advisory_lock", kListenerKey));
      if (mine) break;
      if (!SleepFor(kStandby, stop)) return {};
    }
    PGTIER_RETURN_IF_ERROR(Begin());
    while (!stop.stop_requested()) {
      Status kept = Upkeep();
      if (!kept.has_value()) {
        if (!connection_->Usable()) return kept;
        log::Warn("listening goes on after an error", {{"error", kept.error().message}});
      }
      PGTIER_RETURN_IF_ERROR(Hear(context_.config.batch_interval));
    }
    Listening(false);
    return End();
  }

 private:
  static Deadline Limit() { return Deadline::After(kAnswerLimit); }

  // Without a stop token: what was heard is brought to its end.
  Status Connect() {
    PGTIER_ASSIGN_OR_RETURN(auto opened, Connection::Open(context_.connect, Deadline::After(kOpenLimit)));
    connection_.emplace(std::move(opened));
    PGTIER_ASSIGN_OR_RETURN(
        auto rows, connection_->Query("SELECT pg_is_in_recovery() AS standby, (SELECT number FROM pgtier.shadow_state"
                                      " WHERE policy = $1) AS number",
                                      {context_.config.policy}, Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(bool standby, row.Get<bool>("standby"));
    if (standby) return MakeError(Code::kUnavailable, "the server is a standby");
    PGTIER_ASSIGN_OR_RETURN(auto number, row.Find<std::string>("number"));
    if (!number.has_value()) {
      return MakeError(Code::kNotFound, "the database knows no policy " + context_.config.policy);
    }
    number_ = *number;
    // What is taken here is nowhere else any more. Rows come and go as bytes. The server shall miss a worker soon whose
    // machine is gone: until it does, its K makes triggers send.
    PGTIER_RETURN_IF_ERROR(connection_->Execute(
        "SELECT set_config('client_encoding', current_setting('server_encoding'), false);"
        " SET synchronous_commit = on; SET lock_timeout = '300ms'; SET tcp_keepalives_idle = 5;"
        " SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = '10s';"
        " SET application_name = 'pgtier-payload-" +
            number_ + "'",
        Limit()));
    return {};
  }

  Status Begin() {
    PGTIER_ASSIGN_OR_RETURN(bool gap, shadow::BeginListening(*connection_, context_.config.policy, Limit()));
    context_.metrics.Increment("pgtier_shadow_listen_gaps_total", "Times of which rows that were sent may be missing",
                               {}, gap ? 1 : 0);
    if (gap) {
      log::Error("nobody listened for a while: rows that were sent then are lost; see pgtier.shadow_gaps",
                 {{"policy", context_.config.policy}});
    }
    log::Info("listening for rows", {{"policy", context_.config.policy}});
    return {};
  }

  // K, beats, and a look at the server's queue.
  Status Upkeep() {
    auto now = std::chrono::steady_clock::now();
    if (now < beat_at_) return {};
    beat_at_ = now + kBeat;
    PGTIER_RETURN_IF_ERROR(shadow::SendBeat(*connection_, context_.config.policy, Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto rows, connection_->Query("SELECT pg_notification_queue_usage()", Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(double usage, row.Get<double>(0));
    if (held_ && usage > kFull) {
      log::Warn("the server's queue of notifications fills; rows go into the outbox until it has room",
                {{"used", std::to_string(usage)}});
      return Release();
    }
    return held_ || troubled_ || usage > kRoom ? Status() : Hold();
  }

  // Writers that found nobody listening hold K in common, until they end; who waits for it comes before later ones.
  // Only for a moment: meanwhile this connection is deaf.
  Status Hold() {
    auto locked =
        connection_->Query(std::string("SELECT pg_advisory_lock(") + kHeardKey + ", " + number_ + ")", Limit());
    if (locked.has_value()) {
      Listening(true);
      return {};
    }
    return connection_->Usable() ? Status() : Status(std::move(locked).error());
  }

  Status Release() {
    Listening(false);
    PGTIER_RETURN_IF_ERROR(Ask("pg_advisory_unlock", kHeardKey));
    return {};
  }

  void Listening(bool held) {
    held_ = held;
    context_.metrics.Set("pgtier_shadow_listening", "1 while rows are sent to this worker", {}, held ? 1 : 0);
  }

  // Gathers what comes for at most `interval`, and writes it down.
  Status Hear(Duration interval) {
    Deadline until = Deadline::After(interval);
    while (heard_.size() < static_cast<size_t>(context_.config.batch_rows)) {
      PGTIER_ASSIGN_OR_RETURN(auto came, connection_->AwaitNotifications(until));
      if (came.empty()) break;
      for (postgres::Notification& each : came) heard_.push_back(std::move(each.payload));
    }
    while (!heard_.empty()) {
      PGTIER_ASSIGN_OR_RETURN(bool taken, Take());
      if (taken) continue;
      SleepFor(kPause, {});
      break;
    }
    return {};
  }

  // A batch of what was heard. False: it could not be written (its outbox is locked, say), and is tried again.
  Result<bool> Take() {
    size_t count = 0;
    for (size_t bytes = 0; count < heard_.size() && count < static_cast<size_t>(context_.config.batch_rows); ++count) {
      bytes += heard_[count].size();
      if (bytes > kBatchBytes && count > 0) break;
    }
    const auto end = heard_.begin() + static_cast<std::ptrdiff_t>(count);
    auto accepted = shadow::Accept(*connection_, context_.config.policy, {heard_.begin(), end}, Limit());
    if (!accepted.has_value()) {
      // Of one that was cancelled nobody knows whether it was committed: twice would be worse than a gap.
      const bool known = accepted.error().code != Code::kDeadlineExceeded;
      if (!known || !connection_->Usable()) return std::move(accepted).error();
      log::Warn("what was heard could not be written; it is tried again, and nothing more is sent until then",
                {{"error", accepted.error().message}});
      troubled_ = true;
      if (held_) PGTIER_RETURN_IF_ERROR(Release());
      return false;
    }
    troubled_ = false;
    heard_.erase(heard_.begin(), end);
    Count(*accepted);
    return true;
  }

  void Count(const Accepted& accepted) {
    if (!accepted.beat.empty()) beat_ = accepted.beat;
    Metrics& metrics = context_.metrics;
    metrics.Increment("pgtier_shadow_payloads_total", "Rows that came in notifications", {},
                      static_cast<double>(accepted.taken));
    metrics.Increment("pgtier_shadow_payloads_strange_total", "Notifications on the channel that pgtier has not sent",
                      {}, static_cast<double>(accepted.strange));
    if (accepted.strange > 0) {
      log::Warn("somebody sends notifications on the channel of rows; they are left out",
                {{"notifications", std::to_string(accepted.strange)}});
    }
    if (accepted.buried > 0) {
      log::Error("rows that came in notifications could not be read; they are in pgtier.shadow_dead_letters",
                 {{"rows", std::to_string(accepted.buried)}});
    }
  }

  // In order: nobody sends any more, and all that was sent has been heard. Where that takes too long the next one finds
  // a gap, though little may be missing.
  Status End() {
    Deadline deadline = Deadline::After(kEndLimit);
    PGTIER_RETURN_IF_ERROR(Release());
    PGTIER_ASSIGN_OR_RETURN(std::string senders,
                            shadow::PossibleSenders(*connection_, context_.config.policy, Limit()));
    bool ended = false;
    while (!ended) {
      if (deadline.Expired()) return {};
      PGTIER_RETURN_IF_ERROR(Hear(std::chrono::milliseconds(20)));
      PGTIER_ASSIGN_OR_RETURN(ended, shadow::HaveEnded(*connection_, senders, Limit()));
    }
    PGTIER_ASSIGN_OR_RETURN(std::string last, shadow::SendBeat(*connection_, context_.config.policy, Limit()));
    while (beat_ != last) {
      if (deadline.Expired()) return {};
      PGTIER_RETURN_IF_ERROR(Hear(std::chrono::milliseconds(20)));
    }
    if (!heard_.empty()) return {};
    return shadow::EndListening(*connection_, context_.config.policy, Limit());
  }

  Result<bool> Ask(const char* function, const char* key) {
    PGTIER_ASSIGN_OR_RETURN(
        auto rows, connection_->Query(std::string("SELECT ") + function + "(" + key + ", " + number_ + ")", Limit()));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    return row.Get<bool>(0);
  }

  ModeContext context_;
  std::optional<Connection> connection_;
  std::string number_;     // of the policy
  bool held_ = false;      // K
  bool troubled_ = false;  // the last that was heard could not be written
  MonoTime beat_at_{};     // when the next one is due
  std::string beat_;       // the newest that was heard
  std::vector<std::string> heard_;
};

}  // namespace

std::unique_ptr<Mode> MakePayload(ModeContext context) { return std::make_unique<Payload>(std::move(context)); }

}  // namespace pgtier::workers
