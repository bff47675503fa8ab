// PgCat's admin console: a connection to the database "pgcat" as its admin user.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_views.h"
#include "lib/postgres/connection.h"

namespace pgtier::poolers {

// SHOW SERVERS: one server connection.
struct PgCatServerStats {
  std::string database, user;
  std::string address;  // as DatabaseStats::name
  std::string state;    // "login", "active", "tested", "idle"
};

// SHOW BANS: one server that takes nothing for now.
struct PgCatBan {
  std::string database, user, host;
  bool by_admin = false;  // else PgCat's own, after a failure
};

// How full the pools are, per server, for each server has a pool of its own: connections that are not idle, of the
// pool's size. `pools` gives the waiting clients. Pure.
Utilisation ComputePgCatUtilisation(const std::vector<DatabaseStats>& databases,
                                    const std::vector<PgCatServerStats>& servers, const std::vector<PoolStats>& pools);

// Answers are read by column name. Errors: as postgres::Connection's.
class PgCatAdmin {
 public:
  // Connects; options.database is set to "pgcat".
  static Result<PgCatAdmin> Open(postgres::ConnectOptions options, Deadline deadline, std::stop_token stop = {});

  Result<std::vector<ConfigEntry>> ShowConfig(Deadline deadline);
  // One for each server of each pool and user; `name` is the server's address, `disabled` says that it is banned.
  Result<std::vector<DatabaseStats>> ShowDatabases(Deadline deadline);
  Result<std::vector<PoolStats>> ShowPools(Deadline deadline);
  Result<std::vector<PgCatServerStats>> ShowServers(Deadline deadline);
  Result<std::vector<PgCatBan>> ShowBans(Deadline deadline);
  // "PgCat 1.2.0".
  Result<std::string> ShowVersion(Deadline deadline);
  Result<Utilisation> ReadUtilisation(Deadline deadline);

  // Reads the configuration file again. Pools that changed are made anew: transactions finish on the old ones, and what
  // was banned there is not banned in the new ones. Errors: kFailedPrecondition: PgCat does not take the file; why, its
  // log says.
  Status Reload(Deadline deadline);
  // New transactions leave the host at once, those under way finish; for `duration`, from one second. PgCat forgets all
  // bans when every replica of a pool is banned, and never bans a primary. The host is one that RenderToml takes.
  Status Ban(const std::string& host, std::chrono::seconds duration, Deadline deadline);
  Status Unban(const std::string& host, Deadline deadline);
  // Takes no new clients, closes those that are in no transaction, and ends when the others are done or its
  // shutdown_timeout is over.
  Status ShutDown(Deadline deadline);

 private:
  explicit PgCatAdmin(postgres::Connection connection) : connection_(std::move(connection)) {}
  Result<postgres::Rows> Ask(const std::string& command, Deadline deadline);
  Status Command(const std::string& command, Deadline deadline);
  postgres::Connection connection_;
};

}  // namespace pgtier::poolers
