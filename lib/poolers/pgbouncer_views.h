// Rows of PgBouncer's admin console as structs, and what is computed from them. Pure. A column that the running version
// does not have yet reads as 0 or empty: pool counters are sums of states, and a state that isn't counted there is
// none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pgtier::poolers {

// SHOW CONFIG.
struct ConfigEntry {
  std::string key, value, default_value;
  bool changeable = true;  // by RELOAD
};

// SHOW DATABASES.
struct DatabaseStats {
  std::string name;
  std::string host;  // as configured, with commas; empty for the console itself
  int64_t port = 0;
  std::string database;
  std::string force_user;
  int64_t pool_size = 0, min_pool_size = 0, reserve_pool_size = 0;
  std::string pool_mode;
  int64_t max_connections = 0, current_connections = 0;
  bool paused = false, disabled = false;
};

// SHOW POOLS: one for each (database, user).
struct PoolStats {
  std::string database, user;
  int64_t cl_active = 0, cl_waiting = 0;
  int64_t sv_active = 0, sv_active_cancel = 0, sv_being_canceled = 0, sv_idle = 0, sv_used = 0, sv_tested = 0,
          sv_login = 0;
  int64_t maxwait_us = 0;  // how long the first waiting client has waited
  std::string pool_mode;
};

// SHOW STATS: totals since start and averages over stats_period, for each database.
struct DatabaseTotals {
  std::string database;
  int64_t total_xact_count = 0, total_query_count = 0, total_received = 0, total_sent = 0;
  int64_t total_xact_time_us = 0, total_query_time_us = 0, total_wait_time_us = 0;
  int64_t avg_xact_count = 0, avg_query_count = 0;
  int64_t avg_xact_time_us = 0, avg_query_time_us = 0, avg_wait_time_us = 0;
};

// One pool's share in use.
struct PoolUtilisation {
  std::string database, user;
  double ratio = 0;  // busy / size; above 1 is possible for a moment after the size was lowered
  int64_t busy = 0;
  int64_t size = 0;  // pool_size + reserve_pool_size
};

struct Utilisation {
  std::vector<PoolUtilisation> pools;  // without the console
  double max_ratio = 0;                // of the fullest pool, 0 without pools
  int64_t cl_waiting = 0;              // clients waiting for a server connection, all pools
  int64_t maxwait_us = 0;              // the longest wait now, of all pools
};

// How full the pools are: (sv_active + sv_active_cancel + sv_being_canceled + sv_tested + sv_login) of
// (pool_size + reserve_pool_size), for each database and user. A pool whose database SHOW DATABASES lacks (it went away
// between the two) is left out, as are pools without a size.
Utilisation ComputeUtilisation(const std::vector<PoolStats>& pools, const std::vector<DatabaseStats>& databases);

// Clients of all pools but the console's, as SHOW POOLS of either engine counts them.
int64_t CountClients(const std::vector<PoolStats>& pools);

}  // namespace pgtier::poolers
