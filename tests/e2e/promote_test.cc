// A promotion on pods under load, by the plugin; the operator killed in the middle of the way back.
#include <gmock/gmock.h>

#include <cstdlib>
#include <sstream>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class PromoteTest : public ClusterTest {
 protected:
  void TearDown() override {
    if (!node_.empty()) Kubectl({"uncordon", node_});
    ClusterTest::TearDown();
  }
  // kubectl pgtier promote; its exit code, its words go to the test's output.
  [[nodiscard]] int Promote(const std::string& replica, const std::string& more) const {
    std::string command =
        std::string(KUBECTL_PGTIER_PROGRAM) + " promote app " + replica + " -n " + ns() + " " + more + " 2>&1";
    return WEXITSTATUS(std::system(command.c_str()));  // NOLINT(concurrency-mt-unsafe)
  }
  void ExpectPrimary(const std::string& primary, const std::string& replica) {
    EXPECT_TRUE(Eventually("status names the primary", seconds(30),
                           [&] { return Field("app", "/status/primary") == primary; }));
    EXPECT_EQ(QueryInside(primary, "select pg_is_in_recovery()"), "f");
    EXPECT_TRUE(Eventually(replica + " streams as a replica", seconds(120), [&] {
      return QueryInside(primary, "select application_name, state from pg_stat_replication") == replica + "|streaming";
    }));
    EXPECT_EQ(QueryInside(replica, "select pg_is_in_recovery()"), "t") << "a primary of before came up writable";
    ASSERT_TRUE(Eventually("reads are on the replica", seconds(60),
                           [&] { return Field("app", "/status/summary/replicas") == "1/1"; }));
    // What the roles of before have left there would keep WAL until the volume is full.
    EXPECT_TRUE(Eventually("no idle slot is left", seconds(60), [&] {
      return QueryInside(replica, "select count(*) from pg_replication_slots") == "0" &&
             QueryInside(primary, "select count(*) from pg_replication_slots where not active") == "0";
    }));
  }

  // Of all that the load has said so far.
  [[nodiscard]] int FailedSoFar() const {
    std::istringstream lines(Kubectl({"logs", "-n", ns(), "kyoyu-load"}));
    int failed = 0;
    for (std::string line; std::getline(lines, line);) {
      Json window = Json::parse(line, nullptr, false);
      if (window.is_object()) failed += window.value("failed", 0);
    }
    return failed;
  }

  std::string node_;  // That was cordoned.
};

TEST_F(PromoteTest, AReplicaTakesOverUnderLoadAndNothingAcknowledgedIsLost) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  policy["spec"]["pin"] = "high";
  Apply(policy);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=300", "--seed-events=2000", "--seed-decisions=100", "--query-timeout=60s"});
  EXPECT_EQ(Promote("app-9", "--wait --timeout=60s"), 1) << "there is no such replica";
  EXPECT_THAT(Field("app", "/status/promotion/message"), testing::HasSubstr("there is no replica app-9"));

  ASSERT_EQ(Promote("app-2", "--wait --timeout=3m"), 0);
  ExpectPrimary("app-2", "app-1");
  EXPECT_EQ(FailedSoFar(), 0) << "clients wait while the primary changes";

  // And back, by two operators, where each commit waits for a standby: none is there until the old primary is one.
  Patch("scaletier/app",
        {{"spec",
          {{"postgres",
            {{"managed", {{"parameters", {{"synchronous_standby_names", "ANY 1 (\"app-1\", \"app-2\")"}}}}}}}}}});
  ASSERT_TRUE(Eventually("commits wait for the standby", seconds(60), [&] {
    return QueryInside("app-2", "select sync_state from pg_stat_replication") == "quorum";
  }));
  ASSERT_EQ(Promote("app-1", ""), 0);
  ASSERT_TRUE(WaitForCondition("app", "Promoting", "True", seconds(30)));
  std::string holder =
      Kubectl({"get", "lease", "-n", "pgtier-system", "pgtier", "-o", "jsonpath={.spec.holderIdentity}"});
  Kubectl({"delete", "pod", "-n", "pgtier-system", holder.substr(0, holder.find('_')), "--grace-period=0", "--force"});
  ASSERT_TRUE(Eventually("app-1 is the primary again", seconds(180), [&] {
    return Field("app", "/status/promotion/phase") == "Done" && Field("app", "/status/primary") == "app-1";
  }));
  ExpectPrimary("app-1", "app-2");

  Json summary = StopLoad();
  EXPECT_TRUE(summary.value("ledger_ok", false)) << summary.dump();
  EXPECT_GT(summary.value("events_acknowledged", 0), 1000) << summary.dump();
  std::printf("%s\n", summary.dump().c_str());
}

TEST_F(PromoteTest, ADeadPrimaryIsReplacedOnlyWhereItsLossIsAcceptedAndComesBackRewound) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  policy["spec"]["pin"] = "high";
  Apply(policy);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  QueryInside("app-1", "create table kept as select generate_series(1, 1000) as n");
  ASSERT_TRUE(Eventually("the rows are on the replica", seconds(60), [&] {
    return Kubectl({"exec", "-n", ns(), "app-2-0", "--", "psql", "-h", "/run/postgresql", "-U", "postgres", "app",
                    "-XAtc", "select count(*) from kept"},
                   "", true) == "1000";
  }));
  // Killed, and nowhere to run: what a lost node leaves.
  node_ = Kubectl({"get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"});
  Kubectl({"cordon", node_});
  Kubectl({"delete", "pod", "-n", ns(), "app-1-0", "--grace-period=0", "--force"});
  ASSERT_TRUE(WaitForCondition("app", "Ready", "False", seconds(60)));
  EXPECT_EQ(Promote("app-2", "--wait --timeout=60s"), 1) << "without --force";
  EXPECT_THAT(Field("app", "/status/promotion/message"),
              testing::HasSubstr("kubectl pgtier promote app app-2 --force"));
  EXPECT_EQ(QueryInside("app-2", "select pg_is_in_recovery()"), "t");
  ASSERT_EQ(Promote("app-2", "--force --wait --timeout=2m"), 0);
  EXPECT_EQ(QueryInside("app-2", "select pg_is_in_recovery(), (select count(*) from kept)"), "f|1000");
  QueryInside("app-2", "insert into kept values (1001)");

  Kubectl({"uncordon", node_});
  ASSERT_TRUE(Eventually("app-1 is back", seconds(120), [&] {
    return Kubectl({"exec", "-n", ns(), "app-1-0", "--", "psql", "-h", "/run/postgresql", "-U", "postgres", "app",
                    "-XAtc", "select count(*) from kept"},
                   "", true) == "1001";
  }));
  ExpectPrimary("app-2", "app-1");
}

}  // namespace
}  // namespace pgtier::e2e
