#include "lib/poolers/pgbouncer_views.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace pgtier::poolers {

Utilisation ComputeUtilisation(const std::vector<PoolStats>& pools, const std::vector<DatabaseStats>& databases) {
  std::map<std::string_view, const DatabaseStats*> by_name;
  for (const DatabaseStats& database : databases) by_name[database.name] = &database;
  Utilisation all;
  for (const PoolStats& pool : pools) {
    if (pool.database == "pgbouncer") continue;
    auto found = by_name.find(pool.database);
    if (found == by_name.end()) continue;
    PoolUtilisation one{pool.database, pool.user, 0, 0, 0};
    one.size = found->second->pool_size + found->second->reserve_pool_size;
    if (one.size <= 0) continue;
    one.busy = pool.sv_active + pool.sv_active_cancel + pool.sv_being_canceled + pool.sv_tested + pool.sv_login;
    one.ratio = static_cast<double>(one.busy) / static_cast<double>(one.size);
    all.max_ratio = std::max(all.max_ratio, one.ratio);
    all.cl_waiting += pool.cl_waiting;
    all.maxwait_us = std::max(all.maxwait_us, pool.maxwait_us);
    all.pools.push_back(std::move(one));
  }
  return all;
}

int64_t CountClients(const std::vector<PoolStats>& pools) {
  int64_t clients = 0;
  for (const PoolStats& pool : pools) {
    if (pool.database != "pgbouncer" && pool.database != "pgcat") clients += pool.cl_active + pool.cl_waiting;
  }
  return clients;
}

}  // namespace pgtier::poolers
