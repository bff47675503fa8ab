// What must not go wrong although somebody tries, or a disk dies.
#include <gmock/gmock.h>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class AdversityTest : public ClusterTest {
 protected:
  void StartPinnedHigh() {
    Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
    policy["spec"]["pin"] = "high";
    Apply(policy);
    ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  }
};

TEST_F(AdversityTest, TheDatabasesOwnerCannotStandInForTheSystem) {
  StartPinnedHigh();
  // Were the owner's search_path heeded, these would run as superuser or as the monitor at the next pass.
  for (const char* sql : {"create schema evil", "grant all on schema evil to public",
                          "create table evil.log (who text)", "grant all on evil.log to public",
                          "create function evil.now() returns timestamptz language sql as "
                          "'insert into evil.log values (current_user); select pg_catalog.now()'",
                          "create function evil.current_setting(text, boolean) returns text language sql as "
                          "'insert into evil.log values (current_user); select pg_catalog.current_setting(\\$1, \\$2)'",
                          "create function evil.pg_current_wal_lsn() returns pg_lsn language sql as "
                          "'insert into evil.log values (current_user); select pg_catalog.pg_current_wal_lsn()'",
                          "alter database app set search_path = evil, pg_catalog, public"}) {
    Query("app", "app-rw", sql);
  }
  Patch("scaletier/app", {{"spec", {{"pin", "low"}}}});
  ASSERT_TRUE(WaitForTier("app", "low", seconds(90)));
  EXPECT_EQ(QueryInside("app-1", "select tier from pgtier.state"), "low");
  EXPECT_EQ(QueryInside("app-1", "select count(*) from evil.log where who <> 'app'"), "0");
}

TEST_F(AdversityTest, ASettingThatPostgresRefusesIsNamedAndHarmsNobody) {
  StartPinnedHigh();
  Json bad = {{"spec", {{"postgres", {{"managed", {{"parameters", {{"work_mem", "8GBB"}}}}}}}}}};
  Patch("scaletier/app", bad);
  ASSERT_TRUE(
      WaitForCondition("app", "Stalled", "True (ActionRefused): spec.postgres.managed.parameters", seconds(60)));
  EXPECT_THAT(Condition("app", "Stalled"), testing::HasSubstr("work_mem"));
  EXPECT_THAT(Condition("app", "Ready"), testing::StartsWith("True"));
  EXPECT_EQ(Query("app", "app-ro", "select pg_is_in_recovery()"), "t");
  Patch("scaletier/app", {{"spec", {{"postgres", {{"managed", {{"parameters", {{"work_mem", "8MB"}}}}}}}}}});
  ASSERT_TRUE(WaitForCondition("app", "Stalled", "False", seconds(60)));
  EXPECT_TRUE(Eventually("the new value is loaded", seconds(60),
                         [&] { return QueryInside("app-1", "show work_mem") == "8MB"; }));
}

TEST_F(AdversityTest, AnEmptyVolumeInThePrimarysPlaceIsNotTakenForTheDatabase) {
  StartPinnedHigh();
  Query("app", "app-rw", "create table kept as select 1 as n");
  Kubectl({"delete", "-n", ns(), "pvc/data-app-1-0", "--wait=false"});
  Kubectl({"delete", "-n", ns(), "pod/app-1-0"});
  ASSERT_TRUE(
      WaitForCondition("app", "Stalled", "True (ActionRefused): app-1 is not the server that it was", seconds(120)));
  // No database was made in it, so nothing can be written to the wrong place; the data is on the replica.
  EXPECT_EQ(Kubectl({"exec", "-n", ns(), "app-1-0", "--", "psql", "-h", "/run/postgresql", "-U", "postgres", "postgres",
                     "-XAtc", "select count(*) from pg_database where datname = 'app'"}),
            "0");
  EXPECT_EQ(QueryInside("app-2", "select n from kept"), "1");
}

}  // namespace
}  // namespace pgtier::e2e
