#include "lib/poolers/pgcat_admin.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "lib/poolers/console_rows.h"

namespace pgtier::poolers {
namespace {

// A command is split at blanks, and nothing in it can be quoted.
Status CheckHost(const std::string& host) {
  bool fine = !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return c > 0x20 && c < 0x7F && c != ';' && c != '"' && c != '\'';
  });
  if (fine) return {};
  return MakeError(Code::kInvalidArgument, "pgcat: a host is no name or address");
}

}  // namespace

Utilisation ComputePgCatUtilisation(const std::vector<DatabaseStats>& databases,
                                    const std::vector<PgCatServerStats>& servers, const std::vector<PoolStats>& pools) {
  std::map<std::pair<std::string_view, std::string_view>, int64_t> busy;
  for (const PgCatServerStats& server : servers) {
    if (server.state != "idle") ++busy[{server.address, server.user}];
  }
  Utilisation all;
  for (const DatabaseStats& database : databases) {
    PoolUtilisation one{database.name, database.force_user, 0, 0, database.pool_size};
    if (one.size <= 0) continue;
    auto found = busy.find({database.name, database.force_user});
    one.busy = found == busy.end() ? 0 : found->second;
    one.ratio = static_cast<double>(one.busy) / static_cast<double>(one.size);
    all.max_ratio = std::max(all.max_ratio, one.ratio);
    all.pools.push_back(std::move(one));
  }
  for (const PoolStats& pool : pools) {
    all.cl_waiting += pool.cl_waiting;
    // A wait that is over is none.
    if (pool.cl_waiting > 0) all.maxwait_us = std::max(all.maxwait_us, pool.maxwait_us);
  }
  return all;
}

Result<PgCatAdmin> PgCatAdmin::Open(postgres::ConnectOptions options, Deadline deadline, std::stop_token stop) {
  options.database = "pgcat";
  PGTIER_ASSIGN_OR_RETURN(auto connection, postgres::Connection::Open(options, deadline, std::move(stop)));
  return PgCatAdmin(std::move(connection));
}

Result<postgres::Rows> PgCatAdmin::Ask(const std::string& command, Deadline deadline) {
  auto answers = connection_.Execute(command, deadline);
  if (!answers.has_value()) return std::move(answers).error().WithContext("pgcat: " + command);
  return answers->empty() ? postgres::Rows() : std::move(answers->back());
}

Status PgCatAdmin::Command(const std::string& command, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(Ask(command, deadline));
  return {};
}

Result<std::vector<ConfigEntry>> PgCatAdmin::ShowConfig(Deadline deadline) {
  return ReadConfig(Ask("SHOW CONFIG", deadline));
}

Result<std::vector<DatabaseStats>> PgCatAdmin::ShowDatabases(Deadline deadline) {
  return ReadDatabases(Ask("SHOW DATABASES", deadline));
}

Result<std::vector<PoolStats>> PgCatAdmin::ShowPools(Deadline deadline) {
  return ReadAll<PoolStats>(Ask("SHOW POOLS", deadline), [](ColumnReader& row) {
    PoolStats pool;
    pool.database = row.Text("database");
    pool.user = row.Text("user");
    // PgBouncer counts those that ask nothing as active.
    pool.cl_active = row.Number("cl_active") + row.Number("cl_idle");
    pool.cl_waiting = row.Number("cl_waiting");
    pool.sv_active = row.Number("sv_active");
    pool.sv_idle = row.Number("sv_idle");
    pool.sv_used = row.Number("sv_used");
    pool.sv_tested = row.Number("sv_tested");
    pool.sv_login = row.Number("sv_login");
    pool.maxwait_us = row.Number("maxwait") * kMicrosecondsPerSecond + row.Number("maxwait_us");
    pool.pool_mode = row.Text("pool_mode");
    return pool;
  });
}

Result<std::vector<PgCatServerStats>> PgCatAdmin::ShowServers(Deadline deadline) {
  return ReadAll<PgCatServerStats>(Ask("SHOW SERVERS", deadline), [](ColumnReader& row) {
    return PgCatServerStats{row.Text("database_name"), row.Text("user"), row.Text("address_id"), row.Text("state")};
  });
}

Result<std::vector<PgCatBan>> PgCatAdmin::ShowBans(Deadline deadline) {
  return ReadAll<PgCatBan>(Ask("SHOW BANS", deadline), [](ColumnReader& row) {
    return PgCatBan{row.Text("db"), row.Text("user"), row.Text("host"), row.Text("reason").starts_with("AdminBan")};
  });
}

Result<std::string> PgCatAdmin::ShowVersion(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, Ask("SHOW VERSION", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  return row.Get<std::string>(0);
}

Result<Utilisation> PgCatAdmin::ReadUtilisation(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto databases, ShowDatabases(deadline));
  PGTIER_ASSIGN_OR_RETURN(auto servers, ShowServers(deadline));
  PGTIER_ASSIGN_OR_RETURN(auto pools, ShowPools(deadline));
  return ComputePgCatUtilisation(databases, servers, pools);
}

Status PgCatAdmin::Reload(Deadline deadline) {
  Status reloaded = Command("RELOAD", deadline);
  // PgCat answers a file that it refuses by closing the connection.
  if (!reloaded.has_value() && reloaded.error().code == Code::kUnavailable && !connection_.Usable()) {
    return MakeError(Code::kFailedPrecondition, "pgcat does not take its configuration; its log says why");
  }
  return reloaded;
}

Status PgCatAdmin::Ban(const std::string& host, std::chrono::seconds duration, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(CheckHost(host));
  int64_t seconds = std::max<int64_t>(1, duration.count());
  return Command("BAN " + host + " " + std::to_string(seconds), deadline);
}

Status PgCatAdmin::Unban(const std::string& host, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(CheckHost(host));
  return Command("UNBAN " + host, deadline);
}

Status PgCatAdmin::ShutDown(Deadline deadline) {
  Status told = Command("SHUTDOWN", deadline);
  // It may be gone before it has answered.
  if (!told.has_value() && told.error().code == Code::kUnavailable) return {};
  return told;
}

}  // namespace pgtier::poolers
