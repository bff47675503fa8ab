// One climb under load in which everything that it stands on dies once. What the application was told is written must
// be there; that some of its queries fail while their server is dead is expected, that any fails afterwards is not.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class FaultsTest : public ClusterTest {
 protected:
  // SIGKILL of a server process: the postmaster ends all others and recovers from WAL.
  void CrashPostgres(const std::string& instance) {
    std::string pid = QueryInside(instance, "select pid from pg_stat_activity where backend_type = 'checkpointer'");
    std::string started = QueryInside(instance, "select pg_postmaster_start_time()");
    Kubectl({"exec", "-n", ns(), instance + "-0", "--", "sh", "-c", "kill -9 " + pid});
    Eventually(instance + " answers again, without its pod having been made anew", seconds(90), [&] {
      std::string now = Kubectl({"exec", "-n", ns(), instance + "-0", "--", "psql", "-h", "/run/postgresql", "-U",
                                 "postgres", "app", "-XAtc", "select pg_postmaster_start_time()"},
                                "", true);
      return now == started;
    });
  }
  std::string PodOf(const std::string& deployment) {
    const Json pods = KubectlJson({"get", "pods", "-n", ns()});
    for (const Json& pod : pods["items"]) {
      std::string name = pod["metadata"]["name"];
      if (name.starts_with(deployment + "-") && !pod["metadata"].contains("deletionTimestamp")) return name;
    }
    ADD_FAILURE() << "no pod of " << deployment;
    return "";
  }
  void KillPod(const std::string& name) { Kubectl({"delete", "pod", "-n", ns(), name, "--grace-period=0", "--force"}); }
  // The testbed's own apiserver, killed and brought back; a cluster of another kind has no such switch.
  void KillApiServer() {
    const char* kubeconfig = std::getenv("KUBECONFIG");
    if (kubeconfig == nullptr || std::string(kubeconfig).find("pgtier-testbed") == std::string::npos) {
      std::cout << "the apiserver is left alone: not the testbed's own cluster\n";
      return;
    }
    const std::string script = std::string(PGTIER_SOURCE_DIR) + "/testbed/cluster.sh";
    ASSERT_EQ(std::system((script + " stop kube-apiserver").c_str()), 0);
    ASSERT_EQ(std::system((script + " up >/dev/null").c_str()), 0);
  }
};

TEST_F(FaultsTest, AClimbInWhichEverythingDiesOnceLosesNothingAcknowledged) {
  Apply(SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}}));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=300", "--seed-events=5000", "--seed-decisions=200"});
  Patch("scaletier/app", {{"spec", {{"demands", Json::array({"by-hand"})}}}});
  ASSERT_TRUE(WaitForCondition("app", "Climbing", "True", seconds(60)));

  CrashPostgres("app-1");
  KillPod(PodOf("app-pooler-rw"));
  KillApiServer();
  KillPod(PodOf("app-pooler-ro"));
  ASSERT_TRUE(WaitForTier("app", "high", seconds(240)));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));

  EXPECT_EQ(Policy("app")["status"]["history"].size(), 1U) << "it climbed once";
  EXPECT_EQ(Query("app", "app-ro", "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(QueryInside("app-1", "select tier from pgtier.state"), "high");
  Json summary = StopLoad();
  EXPECT_TRUE(summary.value("ledger_ok", false)) << summary.dump();
  EXPECT_GT(summary.value("queries", 0), 100) << summary.dump();

  // Whoever comes now meets no trace of it.
  Kubectl({"delete", "pod", "-n", ns(), "kyoyu-load"});
  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=300"});
  summary = StopLoad();
  EXPECT_EQ(summary.value("failed_total", -1), 0) << summary.dump();
}

}  // namespace
}  // namespace pgtier::e2e
