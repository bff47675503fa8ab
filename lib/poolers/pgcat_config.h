// PgCat's configuration: rendered from settings and compared with what a running PgCat says. Pure.
//
// PgCat ignores keys that it does not know without a word, so every key that pgtier means is written, and the file
// carries a mark of its own whole: a pool without users, which PgCat shows in SHOW CONFIG and serves to nobody.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_config.h"
#include "lib/poolers/pgbouncer_views.h"
#include "lib/poolers/server.h"

namespace pgtier::poolers {

// Who may connect. PgCat asks its clients for an MD5 proof of the password (it knows no SCRAM there) and logs in to
// servers by whatever they ask for, SCRAM too.
struct PgCatUser {
  std::string username;
  std::string password;         // Empty: by auth_query, which takes MD5 hashes only.
  std::string server_username;  // Empty: as the client.
  std::string server_password;
  int pool_size = 60;  // To each server. PgCat has no reserve: pgtier gives it pool and reserve in one.
  int min_pool_size = 10;
};

// A database as clients see it, of one shard.
struct PgCatPool {
  std::string name;      // Any text but the console's names, "pgcat" and "pgbouncer".
  std::string database;  // On the servers.
  // At most one primary. PgCat refuses a server that is named twice in one role: weights are none of its features.
  std::vector<Server> servers;
  std::vector<PgCatUser> users;
  std::string pool_mode = "transaction";            // | session
  std::string load_balancing_mode = "loc";          // | random. "loc": least outstanding connections
  std::string default_role = "primary";             // | replica | any: of what the parser cannot tell
  bool splits = false;                              // Reads and writes told apart by the query parser.
  bool primary_reads = false;                       // Whether the primary takes reads beside the replicas.
  std::chrono::milliseconds connect_timeout{5000};  // Also how long a client waits for a server connection.
  std::chrono::milliseconds idle_timeout{300'000};
  std::chrono::milliseconds server_lifetime{3'600'000};
  int prepared_statements = 200;  // Kept for each pool; 0: named statements do not work between transactions.
  bool clean_up_servers = true;   // Settings that a client left are reset.
  std::string auth_query, auth_query_user, auth_query_password;
};

// [general] and all pools. Defaults are pgtier's, not PgCat's.
struct PgCatSettings {
  std::vector<PgCatPool> pools;

  std::string listen_host = "0.0.0.0";
  int listen_port = 5432;
  std::string admin_username;
  std::string admin_password;
  int worker_threads = 4;
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds idle_timeout{300'000};
  std::chrono::milliseconds server_lifetime{3'600'000};
  std::chrono::milliseconds idle_in_transaction_timeout{0};  // 0: none
  std::chrono::milliseconds healthcheck_timeout{1000};
  std::chrono::milliseconds healthcheck_delay{30'000};
  // What a replica is left alone for after it failed. Short: pgtier takes one that is down out of the list.
  std::chrono::seconds ban_time{10};
  std::chrono::milliseconds shutdown_timeout{5000};  // What transactions have to end when it is told to stop.
  int tcp_keepalives_idle = 5, tcp_keepalives_count = 5, tcp_keepalives_interval = 5;  // seconds, count, seconds
  bool log_client_connections = false, log_client_disconnections = false;

  std::string tls_certificate, tls_private_key;  // Files, for clients; empty: no TLS.
  bool server_tls = false;
  bool verify_server_certificate = false;  // Against the authorities of the web: PgCat takes no other ones.
};

// The file's text; the same settings give the same bytes. Text is written as TOML strings with everything escaped that
// could end one. Errors: kInvalidArgument, naming the setting: a text that is no UTF-8 or holds a zero byte, two pools
// of one name, a console's name, a pool without servers or with one named twice or two primaries, a number out of
// range.
Result<std::string> RenderToml(const PgCatSettings& settings);

// What a running PgCat has otherwise than `settings`, by SHOW CONFIG and SHOW DATABASES. Empty: it runs them.
Result<std::vector<Difference>> CompareWithRunning(const PgCatSettings& settings,
                                                   const std::vector<ConfigEntry>& show_config,
                                                   const std::vector<DatabaseStats>& show_databases);

// The name of a server of a pool in PgCat's views: "kyoyu_shard_0_replica_1".
std::string PgCatAddressName(const PgCatPool& pool, size_t server);

// The mark of the whole file: the name of the pool that stands for it.
Result<std::string> PgCatMark(const PgCatSettings& settings);

}  // namespace pgtier::poolers
