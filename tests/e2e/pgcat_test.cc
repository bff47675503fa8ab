// A climb from PgBouncer to PgCat and back, on pods, under load.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class PgCatTest : public ClusterTest {
 protected:
  void SetUp() override {
    const char* image = std::getenv("PGTIER_PGCAT_IMAGE");
    if (image == nullptr) {
      GTEST_SKIP() << "PGTIER_PGCAT_IMAGE names no image of PgCat that the cluster has; pgtier ships none";
    }
    image_ = image;
    ClusterTest::SetUp();
  }

  [[nodiscard]] Json PolicyWithPgCat() const {
    Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
    Json& high = policy["spec"]["tiers"][1];
    high["pooler"] = {{"engine", "PgCat"}, {"image", image_}};
    high["readReplicas"]["drainTimeout"] = "20s";
    policy["spec"]["readReplicas"] = {{"min", 0}, {"drainTimeout", "20s"}};
    return policy;
  }

  std::string Deployments() { return Kubectl({"get", "deployments", "-n", ns(), "-o", "name"}); }
  std::string Selected(const std::string& service) {
    return Kubectl(
        {"get", "service", "-n", ns(), service, "-o", "go-template={{index .spec.selector \"pgtier.dev/endpoint\"}}"});
  }

 private:
  std::string image_;
};

TEST_F(PgCatTest, TheEngineChangesUnderLoadAndBackWithoutAFailedQuery) {
  Apply(PolicyWithPgCat());
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  EXPECT_EQ(Field("app", "/status/summary/pooler"), "PgBouncer 2/2");
  // Connections end after a while, as those of applications do: their clients finish, and nobody has to be closed.
  StartLoad("app",
            {"--readers-start=6", "--readers-max=6", "--warmup=1s", "--ramp=1s", "--agents=2",
             "--events-per-second=200", "--seed-events=5000", "--seed-decisions=200", "--connection-lifetime=4s"});
  Patch("scaletier/app", {{"spec", {{"demands", Json::array({"by-hand"})}}}});
  ASSERT_TRUE(WaitForTier("app", "high", seconds(240)));
  EXPECT_EQ(Deployments(),
            "deployment.apps/app-pooler-pgcat\ndeployment.apps/app-pooler-pgcat-ro\n"
            "deployment.apps/app-pooler-pgcat-rw");
  EXPECT_TRUE(Eventually("all of PgCat's pods are ready", seconds(60),
                         [&] { return Field("app", "/status/summary/pooler") == "PgCat 3/3"; }));
  EXPECT_EQ(Selected("app"), "pgcat");

  // Reads are split off, writes are not.
  EXPECT_EQ(Query("app", "app", "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(Query("app", "app-ro", "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(Query("app", "app-rw", "select pg_is_in_recovery()"), "f");
  EXPECT_EQ(Query("app", "app", "create table split (id int); insert into split values (7)"),
            "CREATE TABLE\nINSERT 0 1");
  EXPECT_TRUE(Eventually("the row is on the replica", seconds(20),
                         [&] { return Query("app", "app-ro", "select id from split") == "7"; }));

  Patch("scaletier/app", {{"spec", {{"pin", "low"}, {"demands", Json::array()}}}});
  ASSERT_TRUE(WaitForTier("app", "low", seconds(240)));
  EXPECT_EQ(Deployments(), "deployment.apps/app-pooler-ro\ndeployment.apps/app-pooler-rw");
  EXPECT_EQ(Selected("app"), "rw");
  EXPECT_EQ(Query("app", "app", "select pg_is_in_recovery()"), "f");

  Json summary = StopLoad();
  EXPECT_EQ(summary.value("failed_total", -1), 0) << summary.dump();
  EXPECT_GT(summary.value("queries", 0), 100) << summary.dump();
  EXPECT_TRUE(summary.value("ledger_ok", false)) << summary.dump();
  EXPECT_EQ(Field("app", "/status/closedClients"), "") << "clients were closed that could have finished";
}

TEST_F(PgCatTest, AClientThatStaysIsClosedAfterItsTimeAndCounted) {
  Json policy = PolicyWithPgCat();
  policy["spec"]["readReplicas"] = policy["spec"]["tiers"][1]["readReplicas"] = {{"min", 0}, {"drainTimeout", "8s"}};
  Apply(policy);
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  // Says nothing for longer than it has.
  std::string password =
      Kubectl({"get", "secret", "-n", ns(), "app-app", "-o", "go-template={{.data.password | base64decode}}"});
  Kubectl({"exec", "-i", "-n", ns(), "app-1-0", "--", "sh", "-c",
           "read -r PGPASSWORD; export PGPASSWORD; "
           "(sleep 120 | psql -h app-rw -U app app) </dev/null >/tmp/idle 2>&1 & sleep 2"},
          password + "\n");
  Patch("scaletier/app", {{"spec", {{"demands", Json::array({"by-hand"})}}}});
  ASSERT_TRUE(WaitForTier("app", "high", seconds(120)));
  EXPECT_EQ(Field("app", "/status/closedClients"), "1");
  EXPECT_TRUE(Eventually("an event tells of it", seconds(30), [&] {
    return Kubectl({"get", "events", "-n", ns(), "-o", "jsonpath={.items[*].reason}"}).find("ClientsClosed") !=
           std::string::npos;
  }));
}

}  // namespace
}  // namespace pgtier::e2e
