#include <gtest/gtest.h>

#include "lib/poolers/pgcat_admin.h"

namespace pgtier::poolers {
namespace {

DatabaseStats ServerRow(const std::string& name, int64_t pool_size) {
  DatabaseStats row;
  row.name = name;
  row.force_user = "kyoyu";
  row.pool_size = pool_size;
  return row;
}

PgCatServerStats Connection(const std::string& address, const std::string& state, const std::string& user = "kyoyu") {
  return {"kyoyu", user, address, state};
}

TEST(PgCatUtilisation, IsOfTheFullestServer) {
  PoolStats pool;
  pool.database = pool.user = "kyoyu";
  pool.cl_waiting = 2;
  pool.maxwait_us = 1500;
  Utilisation all = ComputePgCatUtilisation(
      {ServerRow("primary", 4), ServerRow("replica_0", 10)},
      {Connection("primary", "active"), Connection("primary", "login"), Connection("primary", "tested"),
       Connection("primary", "idle"), Connection("primary", "active", "another"), Connection("replica_0", "active"),
       Connection("gone", "active")},
      {pool});
  ASSERT_EQ(all.pools.size(), 2U);
  EXPECT_EQ(all.pools[0].busy, 3);
  EXPECT_DOUBLE_EQ(all.max_ratio, 0.75);
  EXPECT_DOUBLE_EQ(all.pools[1].ratio, 0.1);
  EXPECT_EQ(all.cl_waiting, 2);
  EXPECT_EQ(all.maxwait_us, 1500);
}

TEST(PgCatUtilisation, AWaitThatIsOverIsNone) {
  PoolStats pool;
  pool.maxwait_us = 1500;
  EXPECT_EQ(ComputePgCatUtilisation({ServerRow("primary", 0)}, {}, {pool}).maxwait_us, 0);
  EXPECT_EQ(ComputePgCatUtilisation({ServerRow("primary", 0)}, {}, {pool}).max_ratio, 0);
}

TEST(CountClients, LeavesTheConsolesOut) {
  PoolStats app;
  app.database = "kyoyu";
  app.cl_active = 3;
  app.cl_waiting = 2;
  PoolStats console = app;
  console.database = "pgbouncer";
  PoolStats other = app;
  other.database = "pgcat";
  EXPECT_EQ(CountClients({app, console, other, app}), 10);
}

}  // namespace
}  // namespace pgtier::poolers
