// A tier with replicas, as long as it runs: who takes reads, what is repaired, what is left alone.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "lib/base/base64.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// The policy in tier two, at rest.
class PlanReplicas : public testing::Test {
 protected:
  void SetUp() override {
    Read(scene_, "by-hand", core::Reading::Of(1));
    scene_.Settle();
    ASSERT_EQ(scene_.policy.status.tier, "two");
    ASSERT_EQ(scene_.RoutedTo("ro"), "kyoyu-2.data.svc,kyoyu-3.data.svc");
    ASSERT_THAT(InWords(Hold()), IsEmpty());
  }

  Plan Hold() { return scene_.PlanFor("two", "two"); }

  Scene scene_;
};

TEST_F(PlanReplicas, OneThatLagsLeavesAndComesBack) {
  scene_.Instance("kyoyu-2").lag = std::chrono::milliseconds(1001);
  Plan leave = Hold();
  EXPECT_THAT(InWords(leave),
              ElementsAre("apply Secret kyoyu-pooler-ro", "sync kyoyu-pooler-ro-0", "reload kyoyu-pooler-ro-0"));
  EXPECT_THAT(leave.routed, ElementsAre("kyoyu-3"));
  scene_.Carry(leave);
  EXPECT_EQ(scene_.RoutedTo("ro"), "kyoyu-3.data.svc");
  scene_.Instance("kyoyu-2").lag = std::chrono::milliseconds(10);
  scene_.Carry(Hold());
  EXPECT_EQ(scene_.RoutedTo("ro"), "kyoyu-2.data.svc,kyoyu-3.data.svc");
  EXPECT_THAT(InWords(Hold()), IsEmpty());
}

TEST_F(PlanReplicas, OneThatDoesNotStreamLeaves) {
  scene_.Instance("kyoyu-3").streaming = false;
  Plan plan = Hold();
  EXPECT_EQ(plan.waiting_for, "kyoyu-3: to stream from the primary");
  scene_.Carry(plan);
  EXPECT_EQ(scene_.RoutedTo("ro"), "kyoyu-2.data.svc");
}

TEST_F(PlanReplicas, NoneHealthyMeansThePrimary) {
  scene_.Instance("kyoyu-2").pod_ready = false;
  scene_.Instance("kyoyu-3").lag = std::chrono::seconds(30);
  scene_.Carry(Hold());
  EXPECT_EQ(scene_.RoutedTo("ro"), kPrimaryHost);
  EXPECT_EQ(scene_.RoutedTo("rw"), kPrimaryHost);
}

TEST_F(PlanReplicas, OneThatTookItselfOutIsLaggingAndNotBroken) {
  InstanceSeen& lagging = scene_.Instance("kyoyu-2");
  lagging.pod_ready = false;  // As its own readiness has it; it answers and streams.
  lagging.lag = std::chrono::milliseconds(12345);
  Plan plan = Hold();
  EXPECT_EQ(plan.waiting_for, "kyoyu-2: lags 12s, over maxLag 1s; it takes no reads");
  EXPECT_THAT(plan.routed, ElementsAre("kyoyu-3"));
  lagging.lag = std::chrono::milliseconds(0);
  EXPECT_EQ(Hold().waiting_for, "kyoyu-2: to stay below half of maxLag 1s before it takes reads");
  lagging.answered = false;
  EXPECT_EQ(Hold().waiting_for, "kyoyu-2: base backup of the primary");
}

TEST_F(PlanReplicas, ConnectionsToReplicasLeaveByThemselvesAndOthersDoNot) {
  auto ini = [&](const std::string& secret) {
    const Json* object = scene_.seen.Object(kube::kSecrets, secret);
    return *DecodeBase64((*object)["data"]["pooler.ini"].get<std::string>());
  };
  EXPECT_THAT(ini("kyoyu-pooler-ro"), HasSubstr("pgtier.routing"));
  EXPECT_THAT(ini("kyoyu-pooler-rw"), Not(HasSubstr("server_reset_query")));
  scene_.Instance("kyoyu-2").lag = scene_.Instance("kyoyu-3").lag = std::chrono::seconds(9);
  scene_.Carry(Hold());
  EXPECT_THAT(ini("kyoyu-pooler-ro"), Not(HasSubstr("server_reset_query"))) << "reads are on the primary";
}

TEST_F(PlanReplicas, RolloutGoesFromDisabledOverStandbyAndSelectedToFullAndBack) {
  auto roll_out = [&](const char* rollout) {
    scene_.Edit(TwoTiers({{"routing", {{"rollout", rollout}, {"selected", {{"users", {"o'hara", "app"}}}}}}}));
    scene_.Settle();
    EXPECT_THAT(InWords(Hold()), IsEmpty());
    std::map<std::string, std::string> hosts;
    for (const auto& database : scene_.PoolerPod("ro").databases) hosts[database.name] = database.host;
    return hosts;
  };
  std::map<std::string, std::string> on_primary = {{"app", kPrimaryHost}, {"app_replicas", kPrimaryHost}};
  std::string replicas = "kyoyu-2.data.svc,kyoyu-3.data.svc";
  EXPECT_EQ(roll_out("Disabled"), on_primary);
  EXPECT_EQ(scene_.seen.instances.size(), 1U);
  EXPECT_EQ(roll_out("Standby"), on_primary);
  EXPECT_EQ(scene_.seen.instances.size(), 3U);
  EXPECT_THAT(Hold().routed, IsEmpty());
  EXPECT_EQ(roll_out("Selected"),
            (std::map<std::string, std::string>{{"app", kPrimaryHost}, {"app_replicas", replicas}}));
  EXPECT_THAT(Hold().routed, ElementsAre("kyoyu-2", "kyoyu-3"));
  const Json* secret = scene_.seen.Object(kube::kSecrets, "kyoyu-pooler-ro");
  EXPECT_THAT(*DecodeBase64((*secret)["data"]["pooler.ini"].get<std::string>()),
              HasSubstr("auth_query='SELECT usename, passwd FROM pgtier.pooler_lookup($1) WHERE usename IN "
                        "(''app'', ''o''''hara'', ''pgtier_app'')'"))
      << "who owns the database logs in by turns as another role";
  EXPECT_EQ(scene_.PoolerPod("rw").databases.size(), 1U) << "writes have one name";
  EXPECT_EQ(roll_out("Full"), (std::map<std::string, std::string>{{"app", replicas}, {"app_replicas", replicas}}));
  EXPECT_EQ(roll_out("Selected")["app"], kPrimaryHost);
  EXPECT_EQ(roll_out("Standby"), on_primary);
  EXPECT_EQ(roll_out("Disabled"), on_primary);
}

TEST_F(PlanReplicas, SelectedUsersReachThePrimaryWhileNoReplicaIsFit) {
  scene_.Edit(TwoTiers({{"routing", {{"rollout", "Selected"}, {"selected", {{"users", {"bi"}}}}}}}));
  scene_.Settle();
  scene_.Instance("kyoyu-2").lag = scene_.Instance("kyoyu-3").lag = std::chrono::seconds(9);
  scene_.Carry(Hold());
  EXPECT_EQ(scene_.RoutedTo("ro"), std::string(kPrimaryHost) + "," + kPrimaryHost);
  scene_.MakePass();
  EXPECT_EQ(scene_.ConditionOf("Degraded").reason, "ReadsOnPrimary");
}

TEST_F(PlanReplicas, OtherSelectedUsersReachThePoolers) {
  auto select = [&](const char* user) {
    scene_.Edit(TwoTiers({{"routing", {{"rollout", "Selected"}, {"selected", {{"users", {user}}}}}}}));
  };
  select("one");
  scene_.Settle();
  select("two");
  EXPECT_THAT(InWords(Hold()),
              ElementsAre("apply Secret kyoyu-pooler-ro", "sync kyoyu-pooler-ro-0", "reload kyoyu-pooler-ro-0"));
}

TEST_F(PlanReplicas, SelectedOfNobodyIsRefused) {
  scene_.Edit(TwoTiers({{"routing", {{"rollout", "Selected"}}}}));
  ASSERT_EQ(scene_.resolved.refusals.size(), 1U);
  EXPECT_THAT(scene_.resolved.refusals[0].why,
              HasSubstr("spec.routing.rollout: Selected needs routing.selected.users"));
  EXPECT_EQ(scene_.resolved.refusals[0].tier, "two");
}

TEST_F(PlanReplicas, AnotherMaxLagReachesTheInstances) {
  Json tiers = TwoTiers()["spec"]["tiers"];
  tiers[1]["readReplicas"]["maxLag"] = "1500ms";
  scene_.Edit(TwoTiers({{"tiers", tiers}}));
  EXPECT_THAT(InWords(Hold()), ElementsAre("apply ConfigMap kyoyu-postgres", "sync kyoyu-1-0", "reload kyoyu-1",
                                           "sync kyoyu-2-0", "reload kyoyu-2", "sync kyoyu-3-0", "reload kyoyu-3"));
  scene_.Carry(Hold());
  std::string conf = (*scene_.seen.Object(kube::kConfigMaps, "kyoyu-postgres"))["data"]["postgresql.conf"];
  EXPECT_THAT(conf, HasSubstr("pgtier.max_lag = '1500'"));
}

TEST_F(PlanReplicas, APrimaryThatDoesNotAnswerChangesNothing) {
  scene_.seen.primary = {};
  scene_.seen.primary.error = "connection refused";
  for (InstanceSeen& instance : scene_.seen.instances) instance.streaming = false;
  Plan plan = Hold();
  EXPECT_THAT(InWords(plan), IsEmpty());
  EXPECT_EQ(plan.waiting_for, "kyoyu-1 to answer: connection refused");
  EXPECT_THAT(plan.routed, ElementsAre("kyoyu-2", "kyoyu-3")) << "nobody took reads from them";
  EXPECT_THAT(InWords(scene_.PlanFor("two", "one")), IsEmpty()) << "not even on the way down";
}

TEST_F(PlanReplicas, APrimaryThatNeverStartedGetsItsPooler) {
  Scene fresh;
  EXPECT_THAT(InWords(fresh.PlanFor("", "one")), Contains("apply Secret kyoyu-pooler-ro"));
}

TEST_F(PlanReplicas, TroubleOfAPodIsNamed) {
  scene_.Instance("kyoyu-2").pod_ready = false;
  scene_.Instance("kyoyu-2").trouble = "ImagePullBackOff: no such image";
  EXPECT_THAT(Hold().waiting_for, HasSubstr("ImagePullBackOff: no such image"));
  scene_.seen.primary = {};
  scene_.Instance("kyoyu-1").pod_ready = false;
  scene_.Instance("kyoyu-1").trouble = "Unschedulable: 0/1 nodes";
  EXPECT_EQ(Hold().waiting_for, "kyoyu-1 to start: Unschedulable: 0/1 nodes");
}

TEST_F(PlanReplicas, DriftIsUndone) {
  struct Drift {
    const kube::Resource& resource;
    std::string name;
    Json patch;
  };
  Json ports = Json::array({{{"port", 1}}});
  std::vector<Drift> drifts = {
      {kube::kServices, "kyoyu-rw", {{"spec", {{"selector", {{kPolicyLabel, "other"}}}}}}},
      {kube::kServices, "kyoyu-3", {{"spec", {{"ports", ports}}}}},
      {kube::kDeployments, "kyoyu-pooler-rw", {{"spec", {{"replicas", 0}}}}},
      {kube::kSecrets, "kyoyu-pooler-ro", {{"data", {{"pooler.ini", ""}}}}},
      {kube::kConfigMaps, "kyoyu-postgres", {{"data", {{"pg_hba.conf", "host all all all trust"}}}}},
      {kube::kStatefulSets,
       "kyoyu-2",
       {{"spec", {{"template", {{"spec", {{"automountServiceAccountToken", true}}}}}}}}},
      {kube::kPodDisruptionBudgets, "kyoyu-postgres", {{"spec", {{"maxUnavailable", 3}}}}},
      {kube::kServices, "kyoyu-ro", {{"metadata", {{"labels", {{kPolicyLabel, nullptr}}}}}}}};
  for (const Drift& drift : drifts) {
    Scene drifted = scene_;
    drifted.seen.objects[{std::string(drift.resource.plural), drift.name}].merge_patch(drift.patch);
    Plan plan = drifted.PlanFor("two", "two");
    EXPECT_THAT(InWords(plan), ElementsAre("apply " + std::string(drift.resource.kind) + " " + drift.name));
  }
  scene_.seen.objects.erase({std::string(kube::kServices.plural), "kyoyu-ro"});
  EXPECT_THAT(InWords(Hold()), ElementsAre("apply Service kyoyu-ro"));
}

TEST_F(PlanReplicas, WhatOthersAddIsLeft) {
  Json& service = scene_.seen.objects[{std::string(kube::kServices.plural), "kyoyu-rw"}];
  service["metadata"]["annotations"]["somebody.else/note"] = "hello";
  service["spec"]["clusterIP"] = "10.1.2.3";
  EXPECT_THAT(InWords(Hold()), IsEmpty());
}

TEST_F(PlanReplicas, ANewReleaseKeepsTheImageOfTheDatabase) {
  scene_.images = {"postgres:next", "pgbouncer:next"};
  Plan plan = Hold();
  EXPECT_EQ(plan.image, "postgres:release");
  EXPECT_THAT(InWords(plan), ElementsAre("apply Deployment kyoyu-pooler-rw", "apply Deployment kyoyu-pooler-ro"));
  scene_.policy.spec.managed->image = "postgres:wanted";
  EXPECT_EQ(Hold().image, "postgres:wanted") << "the policy may change it";
}

TEST_F(PlanReplicas, AReplicaThatComesLaterHasTheImageOfTheFirst) {
  scene_.images.postgres = "postgres:next";
  scene_.seen.objects.erase({std::string(kube::kStatefulSets.plural), "kyoyu-3"});
  Plan plan = Hold();
  ASSERT_THAT(InWords(plan), ElementsAre("apply StatefulSet kyoyu-3"));
  const Json& object = std::get<ApplyObject>(plan.actions[0]).object;
  EXPECT_EQ(object["spec"]["template"]["spec"]["containers"][0]["image"], "postgres:release");
}

TEST_F(PlanReplicas, AnOldConfigurationIsReloadedAndReadBack) {
  scene_.Instance("kyoyu-2").config = "old";
  scene_.Instance("kyoyu-3").answered = false;  // Asked again when it answers.
  scene_.Instance("kyoyu-3").config = "";
  Plan plan = Hold();
  EXPECT_THAT(InWords(plan), ElementsAre("sync kyoyu-2-0", "reload kyoyu-2"));
  EXPECT_EQ(plan.waiting_for, "kyoyu-2 to take its configuration");
}

TEST(MayTakeReads, Table) {
  Json file = pgtier::tests::LoadYaml("tests/cases/plan/may_take_reads.yaml");
  ASSERT_GT(file["rows"].size(), 10U);
  for (const Json& row : file["rows"]) {
    SCOPED_TRACE(row.dump());
    InstanceSeen instance;
    instance.pod_ready = row.value("ready", true);
    instance.streaming = row.value("streaming", true);
    PrimarySeen primary;
    primary.wal = postgres::Lsn{uint64_t{1} << 40U};
    std::string behind = row.value("behind", "0");
    if (behind != "unknown") instance.replayed = postgres::Lsn{primary.wal.value - std::stoull(behind)};
    if (row.contains("lag")) instance.lag = *ParseDuration(row["lag"].get<std::string>());
    EXPECT_EQ(MayTakeReads(instance, primary, *ParseDuration(row.value("maxLag", "1s"))), row["may"].get<bool>());
  }
}

// A pooler that connects before kube-proxy leads the Service there is refused, and so are its clients.
TEST(MayTakeReads, NotBeforeNodesHaveLearnedOfIt) {
  InstanceSeen replica;
  replica.pod_ready = replica.streaming = replica.newly_ready = true;
  replica.replayed = postgres::Lsn{};
  PrimarySeen primary;
  EXPECT_FALSE(MayTakeReads(replica, primary, std::chrono::seconds(1), false));
  EXPECT_TRUE(MayTakeReads(replica, primary, std::chrono::seconds(1), true)) << "it is not taken away for that";
  replica.newly_ready = false;
  EXPECT_TRUE(MayTakeReads(replica, primary, std::chrono::seconds(1), false));
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
