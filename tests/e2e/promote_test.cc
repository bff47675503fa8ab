// A promotion on pods under load, by the plugin; the operator killed in the middle of the way back.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class PromoteTest : public ClusterTest {
 protected:
  // kubectl pgtier promote; its exit code, its words go to the test's output.
  [[nodiscard]] int Promote(const std::string& replica, const std::string& more) const {
    std::string command =
        std::string(KUBECTL_PGTIER_PROGRAM) + " promote app " + replica + " -n " + ns() + " " + more + " 2>&1";
    return WEXITSTATUS(std::system(command.c_str()));  // NOLINT(concurrency-mt-unsafe)
  }
  void ExpectPrimary(const std::string& primary, const std::string& replica) {
    EXPECT_EQ(Field("app", "/status/primary"), primary);
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
};

TEST_F(PromoteTest, AReplicaTakesOverUnderLoadAndNothingAcknowledgedIsLost) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  policy["spec"]["pin"] = "high";
  Apply(policy);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=300", "--seed-events=2000", "--seed-decisions=100"});
  EXPECT_EQ(Promote("app-9", "--wait --timeout=60s"), 1) << "there is no such replica";
  EXPECT_THAT(Field("app", "/status/promotion/message"), testing::HasSubstr("there is no replica app-9"));

  ASSERT_EQ(Promote("app-2", "--wait --timeout=3m"), 0);
  ExpectPrimary("app-2", "app-1");

  // And back, by two operators.
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

}  // namespace
}  // namespace pgtier::e2e
