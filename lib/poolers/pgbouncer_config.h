// PgBouncer's configuration: rendered from settings and compared with what a running PgBouncer says. Pure.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_views.h"

namespace pgtier::poolers {

// A line of [databases]: where connections for that name go.
struct PgBouncerDatabase {
  std::string name;  // [0-9A-Za-z_.-]+, or "*": every database that isn't named
  // Taken in turn for each new server connection; name one twice for twice the share.
  std::vector<std::string> hosts;
  int port = 5432;
  std::string dbname;     // on the server; empty: as the client names it
  std::string auth_user;  // empties and nothings: PgBouncer's [pgbouncer] section decides
  std::string auth_query;
  std::string auth_dbname;
  std::string pool_mode;
  std::optional<int> pool_size;
  std::optional<int> min_pool_size;
  std::optional<int> reserve_pool_size;
  std::optional<int> max_db_connections;
};

// A release query: a connection to a replica that is out of reads ends itself between two transactions, where nobody
// sees it (docs/decisions/0042).
inline constexpr char kLeaveWhenOut[] =
    "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()) "
    "WHERE pg_catalog.current_setting('pgtier.routing', true) = 'out'";

// [pgbouncer]. Defaults are pgtier's, not PgBouncer's.
struct PgBouncerSettings {
  std::vector<PgBouncerDatabase> databases;

  std::string listen_addr = "*";
  int listen_port = 5432;
  std::string unix_socket_dir;  // empty: none
  std::string pool_mode = "transaction";
  int max_client_conn = 2000;
  int default_pool_size = 50;
  int min_pool_size = 10;
  int reserve_pool_size = 10;
  std::optional<std::chrono::seconds> reserve_pool_timeout;
  std::optional<int> max_db_connections;
  std::chrono::seconds server_idle_timeout{300};
  std::optional<std::chrono::seconds> server_lifetime;
  // A server that can't be reached is tried again after this. Short: until then new queries of its clients are refused.
  std::chrono::milliseconds server_login_retry{100};
  std::optional<std::chrono::seconds> server_connect_timeout;
  std::chrono::seconds server_check_delay{30};
  // Runs on a server connection after each transaction, when its client has its answer already. Empty: none.
  std::string server_release_query;
  std::optional<std::chrono::seconds> query_wait_timeout;
  int max_prepared_statements = 200;

  std::string auth_type = "scram-sha-256";
  std::string auth_file;
  std::string auth_user;
  std::string auth_query;
  std::string auth_dbname;
  std::vector<std::string> admin_users;
  std::vector<std::string> stats_users;

  std::vector<std::string> ignore_startup_parameters = {"extra_float_digits"};
  bool application_name_add_host = false;
  bool tcp_keepalive = true;
  std::optional<int> tcp_keepidle, tcp_keepintvl, tcp_keepcnt;  // seconds, seconds, count
  std::optional<int> tcp_user_timeout_ms;

  std::string client_tls_sslmode, client_tls_key_file, client_tls_cert_file, client_tls_ca_file;
  std::string server_tls_sslmode, server_tls_key_file, server_tls_cert_file, server_tls_ca_file;

  std::string logfile, pidfile;  // empty: standard error, none
  bool log_connections = false, log_disconnections = false;
};

// The file's text; the same settings give the same bytes. Errors: kInvalidArgument, naming the setting: a value that
// can't be written safely (line breaks, control characters, blanks at an end), a database name or host that PgBouncer's
// parser can't take, two databases of one name, a number out of range.
Result<std::string> RenderIni(const PgBouncerSettings& settings);

// auth_file's text, ordered by name: user → password or SCRAM verifier. Errors: kInvalidArgument: line breaks, zero
// bytes, or a text that PgBouncer would cut off (names from 128 bytes, passwords from 2048).
Result<std::string> RenderUserlist(const std::map<std::string, std::string>& users);

struct Difference {
  std::string what;  // "default_pool_size", "database kyoyu: host"
  std::string wanted;
  std::string running;         // empty: not there
  bool needs_restart = false;  // RELOAD does not change it
};

// What a running PgBouncer has otherwise than `settings`, by SHOW CONFIG and SHOW DATABASES. Empty: it runs them.
// The "*" database itself is in neither; of it only the databases already made from it are compared.
Result<std::vector<Difference>> CompareWithRunning(const PgBouncerSettings& settings,
                                                   const std::vector<ConfigEntry>& show_config,
                                                   const std::vector<DatabaseStats>& show_databases);

}  // namespace pgtier::poolers
