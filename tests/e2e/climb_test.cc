// The climb on pods under load: as it should go, and with the operator killed in its middle.
#include <gmock/gmock.h>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

// A real p95 of the load, with a threshold that any query is above.
Json AnyQuery() {
  return {{"any", Json::array({{{"name", "query-p95"},
                                {"above", "0.0001"},
                                {"unit", "Seconds"},
                                {"for", "6s"},
                                {"tolerate", {{"gap", "20s"}}},
                                {"prometheus",
                                 {{"query",
                                   "histogram_quantile(0.95, sum by (le) "
                                   "(rate(kyoyu_query_duration_seconds_bucket[15s])))"}}}}})}};
}

class ClimbTest : public ClusterTest {
 protected:
  void StartOnLowTier(const Json& enter_when) {
    Apply(SmallPolicy("app", enter_when));
    ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
    EXPECT_EQ(Field("app", "/status/tier"), "low");
    StartLoad("app", {"--readers-start=8", "--readers-max=8", "--warmup=1s", "--ramp=1s", "--agents=2",
                      "--events-per-second=300", "--seed-events=5000", "--seed-decisions=200"});
  }

  void ExpectEveryQueryAnswered(const Json& summary) {
    EXPECT_EQ(summary.value("failed_total", -1), 0) << summary.dump();
    EXPECT_GT(summary.value("queries", 0), 100) << summary.dump();
    EXPECT_TRUE(summary.value("ledger_ok", false)) << summary.dump();
  }

  void ExpectReadsOnTheReplica() {
    EXPECT_EQ(Query("app", "app-ro", "select pg_is_in_recovery()"), "t");
    EXPECT_EQ(Query("app", "app-rw", "select pg_is_in_recovery()"), "f");
    EXPECT_EQ(QueryInside("app-1", "select application_name, state from pg_stat_replication"), "app-2|streaming");
    EXPECT_EQ(QueryInside("app-1", "select active from pg_replication_slots where slot_name = 'pgtier_app_2'"), "t");
    EXPECT_EQ(QueryInside("app-1", "select tier from pgtier.state"), "high");
  }
};

TEST_F(ClimbTest, AMeasuredNumberTakesReadsToAReplica) {
  StartOnLowTier(AnyQuery());
  ASSERT_TRUE(WaitForTier("app", "high", seconds(150)));
  ExpectReadsOnTheReplica();

  std::string condition = Condition("app", "tier.pgtier.dev/high");
  EXPECT_THAT(condition, testing::MatchesRegex("True \\(QueryP95AboveThreshold\\): query-p95 [0-9.]+m?s > 0.1ms since "
                                               "[0-9:]+Z \\(6s\\)"));
  EXPECT_EQ(Field("app", "/status/history/0/from"), "low");
  EXPECT_EQ(Field("app", "/status/summary/replicas"), "1/1");
  std::string table = Kubectl({"get", "scaletiers", "-n", ns()});
  EXPECT_THAT(table, testing::HasSubstr("high"));
  EXPECT_THAT(table, testing::HasSubstr("QueryP95AboveThreshold"));
  std::string events = Kubectl({"get", "events", "-n", ns(), "-o", "jsonpath={.items[*].reason}"});
  EXPECT_THAT(events, testing::HasSubstr("TierChangeStarted"));
  EXPECT_THAT(events, testing::HasSubstr("ReplicaRouted"));
  EXPECT_THAT(events, testing::HasSubstr("TierEntered"));
  ExpectEveryQueryAnswered(StopLoad());
}

TEST_F(ClimbTest, TheOperatorKilledInTheMiddleIsFinishedByTheOther) {
  StartOnLowTier(Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  Patch("scaletier/app", {{"spec", {{"demands", Json::array({"by-hand"})}}}});
  ASSERT_TRUE(WaitForCondition("app", "Climbing", "True", seconds(30)));
  std::string holder =
      Kubectl({"get", "lease", "-n", "pgtier-system", "pgtier", "-o", "jsonpath={.spec.holderIdentity}"});
  std::string leader = holder.substr(0, holder.find('_'));
  // Grace 0 is a SIGKILL: the lease is not given back.
  Kubectl({"delete", "pod", "-n", "pgtier-system", leader, "--grace-period=0", "--force"});
  ASSERT_TRUE(WaitForTier("app", "high", seconds(150)));
  std::string heir =
      Kubectl({"get", "lease", "-n", "pgtier-system", "pgtier", "-o", "jsonpath={.spec.holderIdentity}"});
  EXPECT_NE(heir.substr(0, heir.find('_')), leader);
  ExpectReadsOnTheReplica();
  // Begun once and ended once, by two operators.
  EXPECT_EQ(Policy("app")["status"]["history"].size(), 1U);
  EXPECT_EQ(Field("app", "/status/tiers/1/reason"), "ByHandDemanded");
  ExpectEveryQueryAnswered(StopLoad());
}

TEST_F(ClimbTest, APinTakesItDownAgainUnderLoad) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  policy["spec"]["pin"] = "high";
  policy["spec"]["tiers"][1]["materializedViews"] = {{{"name", "public.summed"}, {"every", "1s"}}};
  Apply(policy);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  EXPECT_TRUE(WaitForCondition("app", "MaterializedViewsRefreshed",
                               "False (RefreshFailed): public.summed: there is no such view", seconds(60)));
  QueryInside("app-1",
              "create table raw as select 1 as n; create materialized view summed as select sum(n) from raw; "
              "create unique index on summed (sum); insert into raw values (41)");
  EXPECT_TRUE(Eventually("the replica has the refreshed view", seconds(60),
                         [&] { return QueryInside("app-2", "select sum from summed") == "42"; }));
  EXPECT_TRUE(WaitForCondition("app", "MaterializedViewsRefreshed", "True", seconds(60)));
  StartLoad("app", {"--readers-start=8", "--readers-max=8", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=300", "--seed-events=5000", "--seed-decisions=200"});
  Patch("scaletier/app", {{"spec", {{"pin", "low"}}}});
  ASSERT_TRUE(WaitForTier("app", "low", seconds(120)));
  EXPECT_EQ(Query("app", "app-ro", "select pg_is_in_recovery()"), "f");
  EXPECT_EQ(QueryInside("app-1", "select count(*) from pg_replication_slots"), "0");
  EXPECT_EQ(Kubectl({"get", "statefulset,pvc", "-n", ns(), "-o", "name"}),
            "statefulset.apps/app-1\npersistentvolumeclaim/data-app-1-0");
  ExpectEveryQueryAnswered(StopLoad());
}

}  // namespace
}  // namespace pgtier::e2e
