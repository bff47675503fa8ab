#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/postgres/catalogue.h"
#include "tests/integration/postgres/clients.h"
#include "tests/integration/postgres/pooler_test_base.h"

namespace pgtier::poolers {
namespace {

using testing::Clients;
using testing::Soon;

class PgBouncerLoadTest : public testing::WithPooler {
 protected:
  // Moves the database to that server, as a controller does, and reads it back.
  void Reroute(PgBouncerAdmin& admin, int port) {
    ASSERT_TRUE(pooler().WriteSettings(SettingsFor(port)).has_value());
    ASSERT_TRUE(admin.Reload(Soon()).has_value());
    ASSERT_TRUE(Differences(admin).empty());
  }
};

TEST_F(PgBouncerLoadTest, ReroutesReadsToAStandbyAndBackWithoutAFailedQuery) {
  auto standby = testing::LocalPostgres::StartStandby(server(), {});
  ASSERT_TRUE(standby.has_value()) << standby.error().message;
  {
    auto primary = Connect();
    auto replica = *(*standby)->Connect();
    auto written = *postgres::CurrentLsn(primary, Soon());
    ASSERT_TRUE(Eventually([&] { return *postgres::CurrentLsn(replica, Soon()) >= written; }));
  }
  StartPooler(SettingsFor(server().port()));
  auto admin = Admin();
  Clients clients(pooler().Options("kyoyu", kUser, kUserPassword), 8, "SELECT pg_is_in_recovery()");
  ASSERT_TRUE(Eventually([&] { return clients.queries() > 500; }));
  EXPECT_EQ(clients.TakeAnswers().count("t"), 0U);

  for (int round = 0; round < 3; ++round) {
    bool to_standby = round % 2 == 0;
    Reroute(admin, to_standby ? (*standby)->port() : server().port());
    const std::string wanted = to_standby ? "t" : "f";
    const std::string old = to_standby ? "f" : "t";
    // Soon only the new server answers.
    EXPECT_TRUE(Eventually([&] {
      auto answers = clients.TakeAnswers();
      return answers.contains(wanted) && !answers.contains(old);
    }));
  }
  // Nobody is on the primary any more: it can go without anyone noticing.
  auto primary = Connect();
  EXPECT_TRUE(Eventually([&] {
    auto rows = primary.Query("SELECT FROM pg_stat_activity WHERE usename = $1", {kUser}, Soon());
    return rows.has_value() && rows->empty();
  }));
  clients.Stop();
  EXPECT_THAT(clients.errors(), ::testing::IsEmpty());
}

TEST_F(PgBouncerLoadTest, UtilisationFollowsTheLoad) {
  auto settings = SettingsFor(server().port());
  settings.default_pool_size = 4;
  StartPooler(settings);
  auto admin = Admin();
  {
    auto idle = Client();
    ASSERT_TRUE(idle->Query("SELECT 1", Soon()).has_value());
    auto seen = admin.ReadUtilisation(Soon());
    ASSERT_TRUE(seen.has_value()) << seen.error().message;
    ASSERT_EQ(seen->pools.size(), 1U);
    EXPECT_EQ(seen->pools[0].database, "kyoyu");
    EXPECT_EQ(seen->pools[0].user, kUser);
    EXPECT_EQ(seen->pools[0].size, 4);
    EXPECT_TRUE(Eventually([&] { return admin.ReadUtilisation(Soon())->max_ratio == 0; }));
  }
  Clients clients(pooler().Options("kyoyu", kUser, kUserPassword), 12, "SELECT pg_sleep(0.3)");
  EXPECT_TRUE(Eventually([&] {
    auto seen = admin.ReadUtilisation(Soon());
    return seen->max_ratio == 1 && seen->cl_waiting == 8 && seen->maxwait_us > 100'000;
  }));
  // More room: the waiting end.
  settings.databases[0].reserve_pool_size = 0;
  settings.databases[0].pool_size = 16;
  ASSERT_TRUE(pooler().WriteSettings(settings).has_value());
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  EXPECT_TRUE(Eventually([&] {
    auto seen = admin.ReadUtilisation(Soon());
    return seen->pools[0].size == 16 && seen->cl_waiting == 0 && seen->max_ratio > 0.5 && seen->max_ratio <= 0.75;
  }));
  clients.Stop();
  EXPECT_THAT(clients.errors(), ::testing::IsEmpty());
  EXPECT_TRUE(Eventually([&] { return admin.ReadUtilisation(Soon())->max_ratio == 0; }));
}

}  // namespace
}  // namespace pgtier::poolers
