// Volumes that grow, restarts that wait for their window, and the network's policies.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class PlanUpkeep : public testing::Test {
 protected:
  PlanUpkeep() : scene_(Object()) {
    scene_.Settle();
    EXPECT_EQ(scene_.policy.status.tier, "two");
    for (const InstanceSeen& instance : scene_.seen.instances) MakePod(instance.name);
  }
  static Json Object() {
    Json object = TwoTiers();
    object["spec"]["pin"] = "two";
    object["spec"]["transitions"]["maintenanceWindows"] = {"Sat 02:00-05:00 UTC"};
    return object;
  }
  void MakePod(const std::string& instance) {
    scene_.seen.objects[{"pods", PodName(instance)}] = {{"metadata", {{"name", PodName(instance)}, {"uid", "of-pod"}}}};
  }
  std::vector<std::string> Words() { return InWords(Hold()); }
  Plan Hold() { return scene_.PlanFor("two", "two"); }
  Json& Claim(const std::string& instance) {
    return scene_.seen.objects.at({"persistentvolumeclaims", VolumeClaimName(instance)});
  }
  void Grow(const std::string& size) {
    scene_.policy.spec.managed->storage_size = size;
    // max_wal_size follows the volume.
    scene_.Carry(Hold());
  }
  // Restarts until nothing is left to restart; the order in which pods were deleted.
  std::vector<std::string> Restarts() {
    std::vector<std::string> restarted;
    for (int i = 0; i < 30; ++i) {
      Scene::Pass pass = scene_.MakePass();
      for (const Action& action : pass.plan.actions) {
        const auto* gone = std::get_if<DeleteObject>(&action);
        if (gone == nullptr) continue;
        EXPECT_EQ(gone->resource.plural, kube::kPods.plural);
        EXPECT_EQ(gone->uid, "of-pod");
        std::string name = gone->name.substr(0, gone->name.size() - 2);
        restarted.push_back(name);
        if (name != "kyoyu-1") {
          EXPECT_THAT(scene_.RoutedTo("ro"), Not(HasSubstr(name))) << "reads must leave it before";
        }
        InstanceSeen& instance = scene_.Instance(name);
        instance.restart_pending = instance.template_is_older = instance.pod_ready = instance.streaming = false;
        EXPECT_THAT(InWords(Hold()), Not(Contains(HasSubstr("delete Pod")))) << "one at a time";
        MakePod(name);
      }
      scene_.StartPods();
      scene_.now += std::chrono::seconds(1);
    }
    return restarted;
  }
  void Pend() {
    for (InstanceSeen& instance : scene_.seen.instances) instance.restart_pending = true;
  }

  Scene scene_;
};

TEST_F(PlanUpkeep, AVolumeGrowsWhereItsClassLetsIt) {
  for (InstanceSeen& each : scene_.seen.instances) Claim(each.name)["spec"]["storageClassName"] = "nvme";
  scene_.seen.storage_classes["nvme"] = true;
  scene_.policy.spec.managed->storage_size = "20Gi";
  Plan plan = Hold();
  EXPECT_THAT(InWords(plan), Contains("grow data-kyoyu-1-0 to 20Gi"));
  EXPECT_THAT(InWords(plan), Contains("grow data-kyoyu-3-0 to 20Gi"));
  EXPECT_THAT(InWords(plan), Not(Contains(HasSubstr("StatefulSet")))) << "it would be refused";
  EXPECT_THAT(plan.volumes.growing, HasSubstr("from 10Gi to 20Gi"));
  scene_.Carry(plan);

  // Each set is made anew without its pod; nothing of routing changes.
  plan = Hold();
  EXPECT_THAT(InWords(plan), Contains("delete StatefulSet kyoyu-1"));
  for (const Action& action : plan.actions) {
    const auto* gone = std::get_if<DeleteObject>(&action);
    if (gone == nullptr) continue;
    EXPECT_EQ(gone->propagation, "Orphan");
  }
  EXPECT_EQ(plan.routed.size(), 2U);
  scene_.Carry(plan);
  plan = Hold();
  EXPECT_THAT(InWords(plan), Contains("apply StatefulSet kyoyu-1"));
  scene_.Carry(plan);
  plan = Hold();
  EXPECT_THAT(InWords(plan), IsEmpty());
  EXPECT_EQ(plan.waiting_for, "");
  EXPECT_THAT(plan.volumes.growing, HasSubstr("10Gi of 20Gi")) << "the driver is at it, and nobody waits";
  for (InstanceSeen& each : scene_.seen.instances) Claim(each.name)["status"]["capacity"]["storage"] = "20Gi";
  EXPECT_EQ(Hold().volumes.growing, "");
}

// The apiserver refuses a set whose claim would change.
TEST_F(PlanUpkeep, AClaimKeepsTheLabelsOfTheReleaseThatMadeIt) {
  nlohmann::json& live = scene_.seen.objects[{std::string(kube::kStatefulSets.plural), "kyoyu-1"}];
  const nlohmann::json::json_pointer labels("/spec/volumeClaimTemplates/0/metadata/labels");
  live[labels]["of-an-older-release"] = "x";
  live["spec"]["replicas"] = 0;
  int applied = 0;
  for (const Action& action : Hold().actions) {
    const auto* apply = std::get_if<ApplyObject>(&action);
    if (apply == nullptr || apply->object["metadata"]["name"] != "kyoyu-1" || apply->object["kind"] != "StatefulSet")
      continue;
    ++applied;
    EXPECT_EQ(apply->object[labels], live[labels]);
  }
  EXPECT_EQ(applied, 1);
}

TEST_F(PlanUpkeep, AClassThatForbidsItIsNamedAndNothingIsTried) {
  for (InstanceSeen& each : scene_.seen.instances) Claim(each.name)["spec"]["storageClassName"] = "local-path";
  scene_.seen.storage_classes["local-path"] = false;
  Grow("20Gi");
  Plan plan = Hold();
  EXPECT_THAT(InWords(plan), IsEmpty());
  EXPECT_THAT(plan.volumes.cannot, HasSubstr("StorageClass local-path does not allow"));
  EXPECT_EQ(plan.waiting_for, "");
  scene_.MakePass();
  EXPECT_EQ(scene_.ConditionOf("Degraded").reason, "VolumeCannotGrow");
  EXPECT_EQ(scene_.ConditionOf("Ready").status, "True");
}

TEST_F(PlanUpkeep, AVolumeNeverShrinks) {
  Grow("5Gi");
  Plan plan = Hold();
  EXPECT_THAT(InWords(plan), IsEmpty());
  EXPECT_THAT(plan.volumes.cannot, HasSubstr("never shrinks"));
}

TEST_F(PlanUpkeep, RestartsWaitForAWindowAndTheConditionSaysWhich) {
  Pend();
  EXPECT_THAT(Words(), IsEmpty());
  scene_.MakePass();
  EXPECT_EQ(scene_.ConditionOf("Degraded").reason, "RestartPending");
  EXPECT_THAT(scene_.ConditionOf("Degraded").message, HasSubstr("in the next maintenance window: Sat 02:00-05:00 UTC"));
}

TEST_F(PlanUpkeep, InAWindowReplicasAreRestartedBeforeThePrimaryOneAtATime) {
  Pend();
  scene_.seen.maintenance = true;
  EXPECT_THAT(Restarts(), ElementsAre("kyoyu-3", "kyoyu-2", "kyoyu-1"));
  EXPECT_THAT(scene_.RoutedTo("ro"), testing::AllOf(HasSubstr("kyoyu-2"), HasSubstr("kyoyu-3")));
  EXPECT_EQ(scene_.ConditionOf("Degraded").status, "False");
}

TEST_F(PlanUpkeep, WhereALimitIsLoweredThePrimaryGoesFirst) {
  Pend();
  scene_.Instance("kyoyu-1").lowers_limits = true;
  scene_.seen.maintenance = true;
  EXPECT_THAT(Restarts(), ElementsAre("kyoyu-1", "kyoyu-3", "kyoyu-2"));
}

TEST_F(PlanUpkeep, NobodyIsRestartedWhileAnotherIsUnwell) {
  Pend();
  scene_.seen.maintenance = true;
  scene_.Instance("kyoyu-2").streaming = false;
  EXPECT_THAT(Words(), Not(Contains(HasSubstr("delete Pod"))));
  scene_.Instance("kyoyu-2").streaming = true;
  scene_.Instance("kyoyu-1").config_error = "work_mem (bad)";
  EXPECT_THAT(Words(), Not(Contains(HasSubstr("delete Pod")))) << "it would not start again";
}

TEST_F(PlanUpkeep, ReadsUnderWayFinishBeforeARestart) {
  Pend();
  scene_.seen.maintenance = true;
  scene_.Instance("kyoyu-3").clients = 2;
  scene_.Carry(Hold());
  Plan plan = Hold();
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-3: its clients to finish"));
  EXPECT_THAT(InWords(plan), IsEmpty());
}

TEST_F(PlanUpkeep, NetworkPoliciesLetInWhomTheyShould) {
  RenderContext context = scene_.context();
  context.network = {true, "pgtier-system"};
  Json postgres = RenderPostgresNetworkPolicy(context);
  Json poolers = RenderPoolerNetworkPolicy(context);
  EXPECT_EQ(postgres["spec"]["ingress"].size(), 1U);
  EXPECT_EQ(postgres["spec"]["ingress"][0]["ports"][0]["port"], 5432);
  const Json& from = postgres["spec"]["ingress"][0]["from"];
  ASSERT_EQ(from.size(), 3U);
  EXPECT_EQ(from[0], Json::parse(R"({"podSelector": {"matchLabels": {"pgtier.dev/policy": "kyoyu"}}})"));
  EXPECT_EQ(from[1], Json::parse(R"({"podSelector": {"matchLabels": {"pgtier.dev/database": "kyoyu"}}})"));
  EXPECT_EQ(from[2]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], "pgtier-system");
  EXPECT_EQ(from[2]["podSelector"]["matchLabels"]["app.kubernetes.io/name"], "pgtier");
  EXPECT_EQ(poolers["spec"]["ingress"][0]["from"][0], Json::parse(R"({"podSelector": {}})"));
  EXPECT_NE(postgres["metadata"]["name"], poolers["metadata"]["name"]);
  scene_.policy.spec.endpoint_clients = "Any";
  EXPECT_FALSE(RenderPoolerNetworkPolicy(context)["spec"]["ingress"][0].contains("from"));
}

TEST(MaterializedViews, FollowTheTierAndWhatIsWrongIsSaid) {
  nlohmann::json object = TwoTiers();
  object["spec"]["tiers"][1]["materializedViews"] = {{{"name", "public.v"}, {"every", "30s"}}};
  Scene scene(object);
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("MaterializedViewsRefreshed").status, "") << "the tier lists none";
  object["spec"]["pin"] = "two";
  scene.Edit(object);
  scene.Settle();
  EXPECT_EQ(scene.seen.primary.materialized_views["public.v"].every, std::chrono::seconds(30));
  EXPECT_EQ(scene.ConditionOf("MaterializedViewsRefreshed").status, "True");
  scene.now += std::chrono::minutes(5);
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("MaterializedViewsRefreshed").reason, "RefreshOverdue");
  EXPECT_THAT(scene.ConditionOf("MaterializedViewsRefreshed").message, testing::HasSubstr("due every 30s"));
  scene.seen.primary.materialized_views["public.v"].problem = "there is no such view";
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("MaterializedViewsRefreshed").reason, "RefreshFailed");
  EXPECT_EQ(scene.ConditionOf("MaterializedViewsRefreshed").message, "public.v: there is no such view");
  object["spec"]["pin"] = "one";
  scene.Edit(object);
  scene.Settle();
  EXPECT_TRUE(scene.seen.primary.materialized_views.empty());
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
