// PgBouncer's admin console: a connection to the database "pgbouncer" as one of admin_users.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_views.h"
#include "lib/postgres/connection.h"

namespace pgtier::poolers {

// Answers are read by column name. Errors: as postgres::Connection's; commands other than SHOW need an admin user
// (kPermissionDenied for one of stats_users).
class PgBouncerAdmin {
 public:
  // Connects; options.database is set to "pgbouncer".
  static Result<PgBouncerAdmin> Open(postgres::ConnectOptions options, Deadline deadline, std::stop_token stop = {});

  Result<std::vector<ConfigEntry>> ShowConfig(Deadline deadline);
  Result<std::vector<DatabaseStats>> ShowDatabases(Deadline deadline);
  Result<std::vector<PoolStats>> ShowPools(Deadline deadline);
  Result<std::vector<DatabaseTotals>> ShowStats(Deadline deadline);
  // "PgBouncer 1.24.1".
  Result<std::string> ShowVersion(Deadline deadline);
  // SHOW POOLS and SHOW DATABASES, computed.
  Result<Utilisation> ReadUtilisation(Deadline deadline);

  // Reads the configuration files again. A file that doesn't parse keeps the old settings, and PgBouncer says so only
  // in its log: read back with CompareWithRunning. Where a database's hosts changed, its server connections are
  // replaced as each is released, without an error for clients and without Reconnect. Reload and Reconnect first wait,
  // at most five seconds of the deadline, until for 50 ms no server connection was logging in: PgBouncer closes
  // those at once and takes that for failed logins, and until one succeeds it refuses its clients (pgbouncer#1536).
  // When no such moment comes (a server that hangs), they go on.
  Status Reload(Deadline deadline);
  // Replaces the server connections of a database (all databases: empty) as each is released: after the address behind
  // a host's name changed.
  Status Reconnect(const std::string& database, Deadline deadline);
  // Waits until the database's server connections are released and holds its clients. At the deadline it is resumed
  // again and kDeadlineExceeded returned: a PAUSE can hang behind a long transaction. Empty: all databases.
  Status Pause(const std::string& database, Deadline deadline);
  // As Pause, but the database stays paused at the deadline: transactions under way then go on until their server ends
  // them, and whoever has none waits. True: all had ended.
  Result<bool> Hold(const std::string& database, Deadline deadline);
  // Goes on; no error when it was not paused.
  Status Resume(const std::string& database, Deadline deadline);

  // Takes no new clients, ends when every transaction under way is done, and closes the other clients then. PgBouncer
  // 1.23 and later.
  Status ShutDown(Deadline deadline);

  [[nodiscard]] bool Usable() const { return connection_.Usable(); }
  // As postgres::Connection's: the certificate that this PgBouncer presented.
  [[nodiscard]] std::string ServerCertificate() const { return connection_.ServerCertificate(); }

 private:
  PgBouncerAdmin(postgres::Connection connection, postgres::ConnectOptions options, std::stop_token stop)
      : connection_(std::move(connection)), stop_(std::move(stop)), options_(std::move(options)) {}
  Result<postgres::Rows> Ask(const std::string& command, Deadline deadline);
  Status AwaitNoLogins(Deadline deadline);
  Status Command(const std::string& verb, const std::string& database, Deadline deadline);
  postgres::Connection connection_;
  std::stop_token stop_;
  postgres::ConnectOptions options_;  // to resume from a second connection when PAUSE holds the first
};

}  // namespace pgtier::poolers
