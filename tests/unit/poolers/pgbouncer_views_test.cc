#include "lib/poolers/pgbouncer_views.h"

#include <gtest/gtest.h>

namespace pgtier::poolers {
namespace {

DatabaseStats Database(const char* name, int64_t pool_size, int64_t reserve) {
  DatabaseStats database;
  database.name = name;
  database.pool_size = pool_size;
  database.reserve_pool_size = reserve;
  return database;
}

PoolStats Pool(const char* database, const char* user, int64_t active) {
  PoolStats pool;
  pool.database = database;
  pool.user = user;
  pool.sv_active = active;
  return pool;
}

TEST(ComputeUtilisation, CountsEveryBusyState) {
  PoolStats pool = Pool("kyoyu", "app", 1);
  pool.sv_active_cancel = 2;
  pool.sv_being_canceled = 4;
  pool.sv_tested = 8;
  pool.sv_login = 16;
  pool.sv_idle = 100;
  pool.sv_used = 100;
  auto seen = ComputeUtilisation({pool}, {Database("kyoyu", 50, 12)});
  ASSERT_EQ(seen.pools.size(), 1U);
  EXPECT_EQ(seen.pools[0].busy, 31);
  EXPECT_EQ(seen.pools[0].size, 62);
  EXPECT_DOUBLE_EQ(seen.max_ratio, 0.5);
}

TEST(ComputeUtilisation, TakesTheFullestPoolAndTheLongestWait) {
  PoolStats first = Pool("kyoyu", "app", 10);
  first.cl_waiting = 3;
  first.maxwait_us = 500;
  PoolStats second = Pool("kyoyu", "reports", 40);
  second.cl_waiting = 4;
  second.maxwait_us = 1'500'000;
  auto seen = ComputeUtilisation({first, second}, {Database("kyoyu", 40, 10)});
  EXPECT_EQ(seen.pools.size(), 2U);
  EXPECT_DOUBLE_EQ(seen.max_ratio, 0.8);
  EXPECT_EQ(seen.cl_waiting, 7);
  EXPECT_EQ(seen.maxwait_us, 1'500'000);
}

TEST(ComputeUtilisation, LeavesOutTheConsoleAndWhatHasNoSize) {
  auto seen = ComputeUtilisation({Pool("pgbouncer", "pgbouncer", 1), Pool("gone", "app", 9), Pool("odd", "app", 9)},
                                 {Database("pgbouncer", 2, 0), Database("odd", 0, 0)});
  EXPECT_TRUE(seen.pools.empty());
  EXPECT_DOUBLE_EQ(seen.max_ratio, 0);
}

}  // namespace
}  // namespace pgtier::poolers
