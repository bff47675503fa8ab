#include "migrations/waits.h"

#include <algorithm>
#include <random>

#include "lib/base/quantity.h"
#include "lib/base/time_format.h"

namespace pgtier::migrations {
namespace {

constexpr Duration kAnswerLimit = std::chrono::seconds(5);

std::string InWords(const postgres::Row& row) {
  constexpr size_t kNameShown = 40;  // An application names itself.
  auto text = [&](const char* name) { return std::string(row.Text(name).value_or("").substr(0, kNameShown)); };
  if (text("pid") == "0") return "a prepared transaction (see pg_prepared_xacts)";
  std::string who = text("application");
  if (!text("role").empty()) who += (who.empty() ? "of " : " of ") + text("role");
  std::string words = "process " + text("pid") + " (" + (who.empty() ? text("kind") : who);
  if (!text("state").empty()) words += ", " + text("state");
  auto age = row.Find<double>("age");
  if (age.has_value() && age->has_value()) {
    words +=
        ", transaction open for " + FormatDuration(std::chrono::seconds(static_cast<int64_t>(std::max(0.0, **age))));
  }
  return words + ")";
}

}  // namespace

LockWatch::LockWatch(postgres::ConnectOptions options, Duration every)
    : options_(std::move(options)), every_(every), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

LockWatch::~LockWatch() = default;

void LockWatch::Watch(int pid) {
  std::lock_guard lock(mutex_);
  pid_ = pid;
  if (pid != 0) holder_.clear();
  since_.reset();
}

std::string LockWatch::Holder() {
  std::lock_guard lock(mutex_);
  return holder_;
}

Duration LockWatch::HeldUpFor() {
  std::lock_guard lock(mutex_);
  return since_.has_value() ? std::chrono::steady_clock::now() - *since_ : Duration::zero();
}

void LockWatch::Run(const std::stop_token& stop) {
  std::optional<postgres::Connection> connection;
  while (SleepFor(every_, stop)) {
    int pid = 0;
    {
      std::lock_guard lock(mutex_);
      pid = pid_;
    }
    if (pid == 0) continue;
    if (!connection.has_value() || !connection->Usable()) {
      connection.reset();
      auto opened = postgres::Connection::Open(options_, Deadline::After(kAnswerLimit), stop);
      if (!opened.has_value()) continue;  // A message less; nothing else depends on it.
      connection.emplace(*std::move(opened));
    }
    auto rows = connection->Query(
        "SELECT b.pid, a.usename AS role, a.application_name AS application, a.state, a.backend_type AS kind,"
        " extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start) AS age"
        " FROM unnest(pg_catalog.pg_blocking_pids($1)) AS b(pid)"
        " LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid ORDER BY a.xact_start LIMIT 1",
        {std::to_string(pid)}, Deadline::After(kAnswerLimit));
    std::lock_guard lock(mutex_);
    if (pid != pid_) continue;
    if (!rows.has_value() || rows->empty()) {
      since_.reset();
      continue;
    }
    holder_ = InWords((*rows)[0]);
    if (!since_.has_value()) since_ = std::chrono::steady_clock::now();
  }
}

Result<std::string> WhyThrottled(postgres::Connection& connection, const Throttle& throttle, Deadline deadline) {
  if (throttle.replica_lag.has_value()) {
    // A standby that is quiet for longer than its status interval (10 s) is behind, whatever it said last. Who may not
    // see the positions knows nothing.
    PGTIER_ASSIGN_OR_RETURN(
        auto rows,
        connection.Query(
            "SELECT application_name AS name, replay_lsn IS NULL AND state IS NULL AS hidden, CASE WHEN replay_lsn >="
            " pg_catalog.pg_current_wal_lsn() THEN 0 ELSE extract(epoch FROM greatest(coalesce(replay_lag, interval"
            " '0'), pg_catalog.clock_timestamp() - reply_time - interval '11 s')) END AS lag"
            " FROM pg_catalog.pg_stat_replication WHERE state IS DISTINCT FROM 'backup'"
            " ORDER BY hidden DESC, lag DESC NULLS LAST LIMIT 1",
            deadline));
    if (!rows.empty()) {
      postgres::Row row = rows[0];
      std::string name(row.Text("name").value_or(""));
      PGTIER_ASSIGN_OR_RETURN(bool hidden, row.Get<bool>("hidden"));
      if (hidden) {
        return std::string("ReplicaLagUnknown: this role may not see how far standbys are; grant it pg_monitor");
      }
      PGTIER_ASSIGN_OR_RETURN(auto lag, row.Find<double>("lag"));
      auto behind = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(lag.value_or(0)));
      if (behind > *throttle.replica_lag) {
        return "ReplicaLag: " + name + " is " + FormatDuration(behind) + " behind, more than " +
               FormatDuration(*throttle.replica_lag) + "; going on when it has caught up";
      }
    }
  }
  if (throttle.slot_retained.has_value()) {
    PGTIER_ASSIGN_OR_RETURN(auto rows,
                            connection.Query("SELECT slot_name::text AS name, pg_catalog.pg_wal_lsn_diff("
                                             "pg_catalog.pg_current_wal_lsn(), restart_lsn)::bigint AS kept"
                                             " FROM pg_catalog.pg_replication_slots WHERE restart_lsn IS NOT NULL"
                                             " ORDER BY kept DESC LIMIT 1",
                                             deadline));
    if (!rows.empty()) {
      postgres::Row row = rows[0];
      std::string name(row.Text("name").value_or(""));
      PGTIER_ASSIGN_OR_RETURN(int64_t kept, row.Get<int64_t>("kept"));
      if (kept > *throttle.slot_retained) {
        return "SlotRetained: slot " + name + " keeps " + FormatBytes(static_cast<double>(kept)) +
               " of WAL, more than " + FormatBytes(static_cast<double>(*throttle.slot_retained)) +
               "; going on when its reader has caught up";
      }
    }
  }
  return std::string();
}

Duration PauseBeforeTry(int number) {
  constexpr int64_t kFirst = 200;
  constexpr int64_t kLongest = 30'000;
  thread_local std::minstd_rand random{std::random_device{}()};
  int64_t most = std::min(kLongest, kFirst << std::min(number, 10));
  return std::chrono::milliseconds(std::uniform_int_distribution<int64_t>(most / 2, most)(random));
}

}  // namespace pgtier::migrations
