#include "lib/poolers/pgbouncer_admin.h"

#include <algorithm>

#include "lib/poolers/console_rows.h"
#include "lib/postgres/quote.h"

namespace pgtier::poolers {
namespace {

// The console's own buffer for an argument, with the ending zero byte.
constexpr size_t kMaxArgument = 64;
constexpr Duration kResumeLimit = std::chrono::seconds(5);
constexpr Duration kQuietPatience = std::chrono::seconds(5);
constexpr Duration kQuietInterval = std::chrono::milliseconds(2);
// A pool that grows logs in one connection after the other: a moment between two of them is no quiet.
constexpr Duration kQuietFor = std::chrono::milliseconds(50);

// The console gives all its refusals one SQLSTATE, that of a protocol violation, and goes on.
Error ConsoleError(Error error, bool usable) {
  auto says = [&](const char* text) { return error.message.find(text) != std::string::npos; };
  if (error.code != Code::kUnavailable || !usable) return error;
  error.code = Code::kFailedPrecondition;
  if (says("admin access needed")) error.code = Code::kPermissionDenied;
  if (says("no such database")) error.code = Code::kNotFound;
  return error;
}

}  // namespace

Result<PgBouncerAdmin> PgBouncerAdmin::Open(postgres::ConnectOptions options, Deadline deadline, std::stop_token stop) {
  options.database = "pgbouncer";
  PGTIER_ASSIGN_OR_RETURN(auto connection, postgres::Connection::Open(options, deadline, stop));
  return PgBouncerAdmin(std::move(connection), std::move(options), std::move(stop));
}

Result<postgres::Rows> PgBouncerAdmin::Ask(const std::string& command, Deadline deadline) {
  auto answers = connection_.Execute(command, deadline);
  if (!answers.has_value()) {
    return ConsoleError(std::move(answers).error(), connection_.Usable()).WithContext("pgbouncer: " + command);
  }
  return answers->empty() ? postgres::Rows() : std::move(answers->back());
}

Status PgBouncerAdmin::Command(const std::string& verb, const std::string& database, Deadline deadline) {
  std::string command = verb;
  if (!database.empty()) {
    if (database.size() >= kMaxArgument) {
      return MakeError(Code::kInvalidArgument, "pgbouncer: a database name is longer than 63 bytes");
    }
    PGTIER_ASSIGN_OR_RETURN(std::string quoted, postgres::QuoteIdentifier(connection_, database));
    command += " " + quoted;
  }
  PGTIER_RETURN_IF_ERROR(Ask(command, deadline));
  return {};
}

Result<std::vector<ConfigEntry>> PgBouncerAdmin::ShowConfig(Deadline deadline) {
  return ReadConfig(Ask("SHOW CONFIG", deadline));
}

Result<std::vector<DatabaseStats>> PgBouncerAdmin::ShowDatabases(Deadline deadline) {
  return ReadDatabases(Ask("SHOW DATABASES", deadline));
}

Result<std::vector<PoolStats>> PgBouncerAdmin::ShowPools(Deadline deadline) {
  return ReadAll<PoolStats>(Ask("SHOW POOLS", deadline), [](ColumnReader& row) {
    PoolStats pool;
    pool.database = row.Text("database");
    pool.user = row.Text("user");
    pool.cl_active = row.Number("cl_active");
    pool.cl_waiting = row.Number("cl_waiting");
    pool.sv_active = row.Number("sv_active");
    pool.sv_active_cancel = row.Number("sv_active_cancel");
    pool.sv_being_canceled = row.Number("sv_being_canceled");
    pool.sv_idle = row.Number("sv_idle");
    pool.sv_used = row.Number("sv_used");
    pool.sv_tested = row.Number("sv_tested");
    pool.sv_login = row.Number("sv_login");
    // Whole seconds, and beside them the microseconds above the second.
    pool.maxwait_us = row.Number("maxwait") * kMicrosecondsPerSecond + row.Number("maxwait_us");
    pool.pool_mode = row.Text("pool_mode");
    return pool;
  });
}

Result<std::vector<DatabaseTotals>> PgBouncerAdmin::ShowStats(Deadline deadline) {
  return ReadAll<DatabaseTotals>(Ask("SHOW STATS", deadline), [](ColumnReader& row) {
    DatabaseTotals totals;
    totals.database = row.Text("database");
    totals.total_xact_count = row.Number("total_xact_count");
    totals.total_query_count = row.Number("total_query_count");
    totals.total_received = row.Number("total_received");
    totals.total_sent = row.Number("total_sent");
    totals.total_xact_time_us = row.Number("total_xact_time");
    totals.total_query_time_us = row.Number("total_query_time");
    totals.total_wait_time_us = row.Number("total_wait_time");
    totals.avg_xact_count = row.Number("avg_xact_count");
    totals.avg_query_count = row.Number("avg_query_count");
    totals.avg_xact_time_us = row.Number("avg_xact_time");
    totals.avg_query_time_us = row.Number("avg_query_time");
    totals.avg_wait_time_us = row.Number("avg_wait_time");
    return totals;
  });
}

Result<std::string> PgBouncerAdmin::ShowVersion(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, Ask("SHOW VERSION", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  return row.Get<std::string>(0);
}

Result<Utilisation> PgBouncerAdmin::ReadUtilisation(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto databases, ShowDatabases(deadline));
  PGTIER_ASSIGN_OR_RETURN(auto pools, ShowPools(deadline));
  return ComputeUtilisation(pools, databases);
}

Status PgBouncerAdmin::ShutDown(Deadline deadline) {
  Status told = Command("SHUTDOWN WAIT_FOR_SERVERS", "", deadline);
  // It may be gone before it has answered.
  if (!told.has_value() && told.error().code == Code::kUnavailable) return {};
  return told;
}

Status PgBouncerAdmin::AwaitNoLogins(Deadline deadline) {
  Deadline patience = deadline.AtMost(kQuietPatience);
  Deadline quiet_until = Deadline::After(kQuietFor);
  while (true) {
    PGTIER_ASSIGN_OR_RETURN(auto pools, ShowPools(deadline));
    bool quiet = std::all_of(pools.begin(), pools.end(), [](const PoolStats& pool) { return pool.sv_login == 0; });
    if (!quiet) quiet_until = Deadline::After(kQuietFor);
    if (quiet_until.Expired() || patience.Expired()) return {};
    if (!SleepFor(kQuietInterval, stop_)) return MakeError(Code::kCancelled, "stopped while waiting for pgbouncer");
  }
}

Status PgBouncerAdmin::Reload(Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(AwaitNoLogins(deadline));
  return Command("RELOAD", "", deadline);
}

Status PgBouncerAdmin::Reconnect(const std::string& database, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(AwaitNoLogins(deadline));
  return Command("RECONNECT", database, deadline);
}

Status PgBouncerAdmin::Pause(const std::string& database, Deadline deadline) {
  auto paused = Command("PAUSE", database, deadline);
  if (paused.has_value() || paused.error().code != Code::kDeadlineExceeded) return paused;
  // The console answers nothing on this connection until the pause completes, so another one takes it back; that one
  // replaces the first, which the deadline has left broken.
  Deadline limit = Deadline::After(kResumeLimit);
  auto second = postgres::Connection::Open(options_, limit, stop_);
  if (!second.has_value()) return std::move(second).error().WithContext("pgbouncer: still paused, RESUME is needed");
  connection_ = *std::move(second);
  auto resumed = Resume(database, limit);
  if (!resumed.has_value()) return std::move(resumed).error().WithContext("pgbouncer: still paused");
  return paused;
}

Result<bool> PgBouncerAdmin::Hold(const std::string& database, Deadline deadline) {
  Status paused = Command("PAUSE", database, deadline);
  if (paused.has_value()) return true;
  if (paused.error().code == Code::kDeadlineExceeded) return false;
  if (paused.error().message.find("already") != std::string::npos) return true;
  return paused.error();
}

Status PgBouncerAdmin::Resume(const std::string& database, Deadline deadline) {
  auto resumed = Command("RESUME", database, deadline);
  if (!resumed.has_value() && resumed.error().message.find("not paused") != std::string::npos) return {};
  return resumed;
}

}  // namespace pgtier::poolers
