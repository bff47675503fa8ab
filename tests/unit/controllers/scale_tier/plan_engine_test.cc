// From PgBouncer to PgCat and back: who serves, when the Services follow, and how the former one leaves.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "lib/kube/json.h"
#include "lib/poolers/pgcat_config.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

constexpr char kSplitHosts[] = "kyoyu-primary.data.svc,kyoyu-2.data.svc,kyoyu-3.data.svc";
constexpr char kBothReplicas[] = "kyoyu-2.data.svc,kyoyu-3.data.svc";

// The second tier runs PgCat.
Json WithPgCat() {
  Json object = TwoTiers();
  object["spec"]["tiers"][1]["pooler"] = {{"engine", "PgCat"}, {"image", "pgcat:mine"}};
  return object;
}

std::string Selected(const Scene& scene, const std::string& service) {
  const Json* live = scene.seen.Object(kube::kServices, service);
  return live == nullptr ? "" : kube::StringAt(*live, {"spec", "selector", kEndpointLabel});
}

std::vector<std::string> Selected(const Scene& scene) {
  return {Selected(scene, "kyoyu"), Selected(scene, "kyoyu-rw"), Selected(scene, "kyoyu-ro")};
}

std::vector<std::string> Deployments(const Scene& scene) {
  std::vector<std::string> names;
  for (const auto& [key, object] : scene.seen.objects) {
    if (key.first == kube::kDeployments.plural) names.push_back(key.second);
  }
  return names;
}

// In tier `one`, and asked for `two`; both replicas stream.
Scene AtTheSwitch() {
  Scene scene(WithPgCat());
  scene.Settle();
  // The replicas alone, one after the other.
  const std::vector<PoolerPodSeen> poolers = scene.seen.poolers;
  for (int replica = 0; replica < 2; ++replica) {
    scene.Carry(scene.PlanFor("one", "two"));
    scene.StartPods();
    scene.seen.poolers = poolers;
  }
  return scene;
}

TEST(PlanEngine, PostgresLetsPgCatInWithoutTlsWhereAPolicyHasIt) {
  auto hba = [](Scene& scene) {
    scene.Settle();
    return (*scene.seen.Object(kube::kConfigMaps, "kyoyu-postgres"))["data"]["pg_hba.conf"].get<std::string>();
  };
  Scene with(WithPgCat());
  std::string own = "host       \"" + with.policy.spec.managed->database + "\" ";
  EXPECT_THAT(hba(with), HasSubstr(own)) << "before the tier is entered: its poolers would not come up";
  Scene without(TwoTiers());
  EXPECT_THAT(hba(without), Not(HasSubstr(own)));
}

// Up to the pass in which the Services have changed and nobody has left.
Scene Switched() {
  Scene scene = AtTheSwitch();
  scene.StartPods();
  scene.Carry(scene.PlanFor("one", "two"));  // The new poolers take their configuration.
  scene.Carry(scene.PlanFor("one", "two"));  // The Services follow.
  return scene;
}

TEST(PlanEngine, TheFirstTierMayBeginWithPgCat) {
  Scene scene(TwoTiers(Json::parse(R"({"pooler": {"engine": "PgCat", "image": "pgcat:mine"}})")));
  Plan plan = scene.PlanFor("", "one");
  EXPECT_THAT(
      InWords(plan),
      AllOf(Contains("apply Deployment kyoyu-pooler-pgcat"), Contains("apply Deployment kyoyu-pooler-pgcat-rw"),
            Contains("apply Deployment kyoyu-pooler-pgcat-ro"), Not(Contains("apply Deployment kyoyu-pooler-rw"))));
  scene.Settle();
  EXPECT_THAT(Selected(scene), ElementsAre("pgcat", "pgcat-rw", "pgcat-ro"));
  EXPECT_EQ(scene.policy.status.summary.pooler, "PgCat 3/3");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.RoutedTo("pgcat"), std::string(kPrimaryHost) + "," + kPrimaryHost);
  EXPECT_EQ(scene.RoutedTo("pgcat-ro"), kPrimaryHost);
}

TEST(PlanEngine, ThePlanSaysThatTheEngineChanges) {
  Scene scene(WithPgCat());
  scene.Settle();
  std::vector<std::string> steps;
  for (const crds::PlanStep& step : scene.policy.status.plan.steps) steps.push_back(step.name);
  EXPECT_THAT(steps, Contains("start PgCat, lead kyoyu, kyoyu-rw and kyoyu-ro to it, and let the clients of PgBouncer "
                              "finish"));
}

TEST(PlanEngine, TheServicesStayUntilEveryNewPoolerServesAsWanted) {
  Scene scene = AtTheSwitch();
  EXPECT_THAT(Deployments(scene), UnorderedElementsAre("kyoyu-pooler-rw", "kyoyu-pooler-ro", "kyoyu-pooler-pgcat",
                                                       "kyoyu-pooler-pgcat-rw", "kyoyu-pooler-pgcat-ro"));
  Plan not_ready = scene.PlanFor("one", "two");
  EXPECT_EQ(not_ready.waiting_for, "pooler pgcat-rw: 0 of 1 pods ready");
  scene.Carry(not_ready);
  EXPECT_THAT(Selected(scene), ElementsAre("rw", "rw", "ro"));

  scene.StartPods();
  Plan configuring = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(configuring), Contains("reload kyoyu-pooler-pgcat-0"));
  scene.Carry(configuring);
  EXPECT_THAT(Selected(scene), ElementsAre("rw", "rw", "ro")) << "the pods had not taken their configuration";

  scene.PoolerPod("pgcat-ro").answered = false;
  scene.Carry(scene.PlanFor("one", "two"));
  EXPECT_THAT(Selected(scene), ElementsAre("rw", "rw", "ro")) << "one did not answer";

  scene.PoolerPod("pgcat-ro").answered = true;
  Plan switching = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(switching),
              ElementsAre("apply Service kyoyu", "apply Service kyoyu-rw", "apply Service kyoyu-ro"));
  scene.Carry(switching);
  EXPECT_THAT(Selected(scene), ElementsAre("pgcat", "pgcat-rw", "pgcat-ro"));
}

TEST(PlanEngine, EachEndpointHasItsServers) {
  Scene scene = Switched();
  EXPECT_EQ(scene.RoutedTo("pgcat"), kSplitHosts);
  EXPECT_EQ(scene.RoutedTo("pgcat-rw"), kPrimaryHost);
  EXPECT_EQ(scene.RoutedTo("pgcat-ro"), kBothReplicas);
  EXPECT_EQ(scene.RoutedTo("ro"), kBothReplicas) << "its clients read on while they finish";
}

TEST(PlanEngine, TheFormerPoolersGoWhenTheirClientsAreGone) {
  Scene scene = Switched();
  scene.PoolerPod("rw").clients = 2;
  Plan marking = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(marking), ElementsAre("drain kyoyu-pooler-rw", "drain kyoyu-pooler-ro"));
  EXPECT_EQ(marking.waiting_for, "kyoyu-pooler-rw: 2 clients to finish");
  scene.Carry(marking);
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), IsEmpty()) << "nodes may still send new clients";

  scene.now += std::chrono::seconds(6);
  Plan first = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(first),
              ElementsAre("delete Deployment kyoyu-pooler-ro", "delete PodDisruptionBudget kyoyu-pooler-ro"));
  EXPECT_EQ(first.closed_clients, 0);
  scene.Carry(first);
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), IsEmpty());

  scene.PoolerPod("rw").clients = 0;
  Plan second = scene.PlanFor("one", "two");
  EXPECT_THAT(InWords(second),
              ElementsAre("delete Deployment kyoyu-pooler-rw", "delete PodDisruptionBudget kyoyu-pooler-rw"));
  scene.Carry(second);
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), ElementsAre("record two"));
}

TEST(PlanEngine, WhoHasNotFinishedInTimeIsClosedAndCounted) {
  Scene scene(WithPgCat());
  Read(scene, "by-hand", core::Reading::Of(1));
  // Two of PgBouncer's clients stay for ever.
  int shut_down = 0;
  int64_t told = 0;
  for (int i = 0; i < 90 && scene.policy.status.tier != "two"; ++i) {
    for (PoolerPodSeen& pod : scene.seen.poolers) pod.clients = pod.endpoint == "rw" ? 2 : 0;
    Scene::Pass pass = scene.MakePass();
    for (const std::string& word : InWords(pass.plan)) shut_down += word == "shut down kyoyu-pooler-rw-0" ? 1 : 0;
    for (const Note& note : pass.notes) {
      if (note.reason != "ClientsClosed") continue;
      ++told;
      EXPECT_THAT(note.message, HasSubstr("2 clients of the former pooler were closed"));
    }
    scene.StartPods();
    scene.now += std::chrono::seconds(1);
  }
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(shut_down, 1);
  EXPECT_EQ(told, 1);
  EXPECT_EQ(scene.policy.status.closed_clients, 2);
  EXPECT_THAT(Deployments(scene), Not(Contains("kyoyu-pooler-rw")));
  EXPECT_EQ(scene.policy.status.summary.pooler, "PgCat 3/3");
}

TEST(PlanEngine, APoolerThatSaysNothingIsNotTakenForEmpty) {
  Scene scene = Switched();
  scene.Carry(scene.PlanFor("one", "two"));
  scene.PoolerPod("rw").answered = false;
  scene.now += std::chrono::seconds(10);
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), Not(Contains("delete Deployment kyoyu-pooler-rw")));
  scene.now += std::chrono::seconds(30);
  EXPECT_THAT(InWords(scene.PlanFor("one", "two")), Contains("delete Deployment kyoyu-pooler-rw"));
}

TEST(PlanEngine, BackToPgBouncerInTheMiddle) {
  Scene scene = Switched();
  scene.Carry(scene.PlanFor("one", "two"));  // PgBouncer's clients are waited for.
  Plan back = scene.PlanFor("two", "one");
  EXPECT_THAT(InWords(back), AllOf(Contains("do not drain kyoyu-pooler-rw"), Contains("do not drain kyoyu-pooler-ro")));
  for (int i = 0; i < 4; ++i) {
    scene.Carry(scene.PlanFor("two", "one"));
    scene.now += std::chrono::seconds(6);
  }
  EXPECT_THAT(Selected(scene), ElementsAre("rw", "rw", "ro"));
  EXPECT_THAT(Deployments(scene), UnorderedElementsAre("kyoyu-pooler-rw", "kyoyu-pooler-ro"));
}

TEST(PlanEngine, ALaggingReplicaIsBannedAtOnceAndLeavesTheConfiguration) {
  Scene scene(WithPgCat());
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  scene.Instance("kyoyu-3").lag = std::chrono::seconds(5);
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(InWords(plan),
              ElementsAre("apply Secret kyoyu-pooler-pgcat", "ban kyoyu-3.data.svc at kyoyu-pooler-pgcat-0",
                          "sync kyoyu-pooler-pgcat-0", "reload kyoyu-pooler-pgcat-0",
                          "apply Secret kyoyu-pooler-pgcat-ro", "ban kyoyu-3.data.svc at kyoyu-pooler-pgcat-ro-0",
                          "sync kyoyu-pooler-pgcat-ro-0", "reload kyoyu-pooler-pgcat-ro-0"));
  // It was banned and is well again before its configuration came: only the ban is taken back.
  for (const Action& action : plan.actions) {
    if (!std::holds_alternative<BanReplica>(action)) continue;
    Plan one;
    one.actions = {action};
    scene.Carry(one);
  }
  EXPECT_EQ(scene.RoutedTo("pgcat-ro"), "kyoyu-2.data.svc");
  scene.Instance("kyoyu-3").lag = std::chrono::milliseconds(1);
  Plan well = scene.PlanFor("two", "two");
  EXPECT_THAT(InWords(well), ElementsAre("unban kyoyu-3.data.svc at kyoyu-pooler-pgcat-0",
                                         "unban kyoyu-3.data.svc at kyoyu-pooler-pgcat-ro-0"));
  scene.Carry(well);
  EXPECT_THAT(InWords(scene.PlanFor("two", "two")), IsEmpty());

  // With no other one to take its reads a ban would be forgotten: they go to the primary.
  scene.Instance("kyoyu-2").lag = scene.Instance("kyoyu-3").lag = std::chrono::seconds(5);
  Plan both = scene.PlanFor("two", "two");
  EXPECT_THAT(InWords(both), Not(Contains(HasSubstr("ban "))));
  scene.Carry(both);
  EXPECT_EQ(scene.RoutedTo("pgcat"), std::string(kPrimaryHost) + "," + kPrimaryHost);
  EXPECT_EQ(scene.RoutedTo("pgcat-ro"), kPrimaryHost);
}

poolers::PgCatPool PoolFor(const Json& pooler, const std::string& endpoint, bool replicas) {
  Json object = WithPgCat();
  object["spec"]["tiers"][1]["pooler"].update(pooler);
  Scene scene(object);
  std::vector<poolers::Server> servers{{"p", 5432, 1, poolers::ServerRole::kPrimary}};
  if (replicas) servers.push_back({"r", 5432, 1, poolers::ServerRole::kReplica});
  return PgCatSettingsFor(scene.context(), *scene.resolved.Find("two"), endpoint, servers, scene.credentials).pools[0];
}

TEST(PlanEngine, PgCatIsToldEverySetting) {
  poolers::PgCatPool pool = PoolFor(Json::parse(R"({"defaultPoolSize": 7, "reservePoolSize": 2, "minPoolSize": 3,
                                                    "serverIdleTimeout": "20s"})"),
                                    "pgcat", true);
  EXPECT_EQ(pool.name, "app");
  EXPECT_EQ(pool.users[0].username, "app");
  EXPECT_EQ(pool.users[0].password, "pw-app");
  EXPECT_EQ(pool.users[0].pool_size, 9) << "PgCat has no reserve: it is part of the pool";
  EXPECT_EQ(pool.users[0].min_pool_size, 3);
  EXPECT_EQ(pool.idle_timeout, std::chrono::seconds(20));
  EXPECT_EQ(pool.load_balancing_mode, "loc");
  EXPECT_TRUE(pool.splits);
  EXPECT_FALSE(pool.primary_reads);
  EXPECT_EQ(pool.default_role, "primary");
}

TEST(PlanEngine, WhatPgCatCannotTellGoesToThePrimary) {
  EXPECT_EQ(PoolFor(Json::object(), "pgcat", false).default_role, "primary");
  EXPECT_EQ(PoolFor(Json::object(), "pgcat-rw", true).default_role, "primary");
  EXPECT_EQ(PoolFor(Json::object(), "pgcat-ro", true).default_role, "replica");
  EXPECT_FALSE(PoolFor(Json::object(), "pgcat-ro", true).splits);
  EXPECT_FALSE(PoolFor(Json::object(), "pgcat-rw", true).splits);
  // In a session everything follows the first statement.
  EXPECT_FALSE(PoolFor({{"poolMode", "Session"}}, "pgcat", true).splits);
  EXPECT_EQ(PoolFor({{"poolMode", "Session"}}, "pgcat", true).pool_mode, "session");
}

TEST(PlanEngine, WhoeverTakesReadsStandsThereAsAReplica) {
  auto servers = [](const std::string& endpoint, bool replicas) {
    std::string all;
    for (const poolers::Server& server : PoolFor(Json::object(), endpoint, replicas).servers) {
      all += server.host + (server.role == poolers::ServerRole::kPrimary ? ":primary " : ":replica ");
    }
    return all;
  };
  EXPECT_EQ(servers("pgcat", true), "p:primary r:replica ");
  EXPECT_EQ(servers("pgcat", false), "p:primary p:replica ");
  EXPECT_EQ(servers("pgcat-rw", true), "p:primary ");
  EXPECT_EQ(servers("pgcat-ro", true), "r:replica ");
  EXPECT_EQ(servers("pgcat-ro", false), "p:replica ");
}

TEST(PlanEngine, PgCatGivesItsClientsTheirTimeBeforeItIsTold) {
  Scene scene(WithPgCat());
  Json deployment = RenderPooler(scene.context(), *scene.resolved.Find("two"), "pgcat");
  const Json& pod = deployment["spec"]["template"]["spec"];
  EXPECT_EQ(pod["containers"][0]["image"], "pgcat:mine");
  EXPECT_EQ(pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 30);
  EXPECT_EQ(pod["terminationGracePeriodSeconds"], 40);
  EXPECT_EQ(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/etc/pgcat");
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
