// Passes that go as they should.
#include <gmock/gmock.h>

#include "lib/kube/json.h"
#include "tests/integration/controllers/reconciler_on_server.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

class Reconciler : public ReconcilerTest {
 protected:
  // Passes until what is there stands still, then three more that must write nothing.
  void ExpectRest() {
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(Pass().has_value());
    std::map<std::string, std::string> settled = Versions();
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(Pass().has_value());
      EXPECT_EQ(Versions(), settled) << "a pass at rest wrote";
    }
  }
};

TEST_F(Reconciler, EnforceMakesEverything) {
  Make(Example("dev"));
  auto passed = Pass();
  ASSERT_TRUE(passed.has_value()) << passed.error().message;
  EXPECT_THAT(Children(),
              testing::ElementsAre("ConfigMap dev-postgres", "Deployment dev-pooler-ro", "Deployment dev-pooler-rw",
                                   "PodDisruptionBudget dev-pooler-ro", "PodDisruptionBudget dev-pooler-rw",
                                   "PodDisruptionBudget dev-postgres", "Secret dev-app", "Secret dev-ca",
                                   "Secret dev-internal", "Secret dev-pooler-ro", "Secret dev-pooler-rw",
                                   "Secret dev-pooler-tls", "Secret dev-postgres-tls", "Service dev", "Service dev-1",
                                   "Service dev-primary", "Service dev-ro", "Service dev-rw", "StatefulSet dev-1"));
  EXPECT_EQ(Policy()->status.tier, "single-node");
  EXPECT_EQ(Policy()->status.image, "postgres:test");
  EXPECT_EQ(ConditionOf("Ready").status, "False");
  EXPECT_EQ(ConditionOf("Reconciling").message, "waiting for dev-1 to start");
  EXPECT_EQ(ConditionOf("Stalled").status, "False");
}

TEST_F(Reconciler, APassAtRestWritesNothing) {
  Make(Example("dev"));
  ExpectRest();
}

TEST_F(Reconciler, NorForAPolicyWithEverySetting) {
  Json policy = Example("kyoyu-demo");
  policy["metadata"]["name"] = "dev";
  policy["spec"]["postgres"]["managed"]["scheduling"] = Json::parse(
      R"({"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 30,
          "effect": "NoExecute"}], "priorityClassName": ""})");
  policy["spec"]["postgres"]["managed"]["imagePullSecrets"] = Json::parse(R"([{"name": "registry"}])");
  Make(policy);
  ExpectRest();
  // Deletion Remove: everything is owned, so that Kubernetes collects it.
  for (const kube::Resource& resource : {kube::kServices, kube::kSecrets, kube::kStatefulSets, kube::kDeployments}) {
    auto list = client()->List(resource, namespace_name(), {}, Soon());
    for (const Json& item : (*list)["items"]) {
      const Json& owners = kube::At(item, {"metadata", "ownerReferences"});
      ASSERT_EQ(owners.size(), 1U) << item["metadata"]["name"];
      EXPECT_EQ(owners[0]["uid"], Policy()->meta.uid);
    }
  }
}

TEST_F(Reconciler, RetainLetsGoOfWhatRemoveOwned) {
  Json policy = Example("dev");
  policy["spec"]["deletionPolicy"] = "Remove";
  Make(policy);
  ASSERT_TRUE(Pass().has_value());
  Patch({{"spec", {{"deletionPolicy", "Retain"}}}});
  ASSERT_TRUE(Pass().has_value());
  auto set = client()->Get(kube::kStatefulSets, {namespace_name(), "dev-1"}, Soon());
  EXPECT_TRUE(kube::At(*set, {"metadata", "ownerReferences"}).empty());
  EXPECT_EQ(kube::StringAt(*set, {"spec", "persistentVolumeClaimRetentionPolicy", "whenDeleted"}), "Retain");
}

TEST_F(Reconciler, APolicyThatOthersAddedATierToComesToRestAgain) {
  Make(Example("dev"));
  ASSERT_TRUE(Pass().has_value());
  Json tiers = Example("dev")["spec"]["tiers"];
  tiers.insert(tiers.begin() + 1, Json::parse(R"({"name": "between", "readReplicas": {"min": 1},
                                                 "enterWhen": {"any": [{"name": "soon", "demand": {}}]}})"));
  Patch({{"spec", {{"tiers", tiers}}}});
  ExpectRest();
  EXPECT_EQ(Policy()->status.next_tier, "between");
}

TEST_F(Reconciler, DriftIsUndone) {
  Make(Example("dev"));
  ASSERT_TRUE(Pass().has_value());
  kube::ObjectKey key{namespace_name(), "dev-rw"};
  auto other = server().Connect({.field_manager = "somebody"});
  Json drift{{"spec", {{"selector", {{"pgtier.dev/endpoint", "elsewhere"}}}}}};
  ASSERT_TRUE(other->MergePatch(kube::kServices, key, drift, Soon()).has_value());
  ASSERT_TRUE(Pass().has_value());
  auto service = client()->Get(kube::kServices, key, Soon());
  EXPECT_EQ(kube::StringAt(*service, {"spec", "selector", "pgtier.dev/endpoint"}), "rw");
}

TEST_F(Reconciler, PasswordsAreMadeOnce) {
  Make(Example("dev"));
  ASSERT_TRUE(Pass().has_value());
  auto before = client()->Get(kube::kSecrets, {namespace_name(), "dev-internal"}, Soon());
  operator_ = std::make_unique<OneOperator>(
      client(), [this](const kube::ObjectKey&) { return Policy(); }, &clock_);
  ASSERT_TRUE(Pass().has_value());
  auto after = client()->Get(kube::kSecrets, {namespace_name(), "dev-internal"}, Soon());
  EXPECT_EQ((*before)["data"], (*after)["data"]) << "a restart of the operator locks it out of the database";
}

TEST_F(Reconciler, CertificatesAreRenewedInTimeAndOnceOnRequest) {
  Make(Example("dev"));
  ASSERT_TRUE(Pass().has_value());
  auto data = [&](const std::string& name) {
    return (*client()->Get(kube::kSecrets, {namespace_name(), name}, Soon()))["data"];
  };
  Json authority = data("dev-ca");
  Json server = data("dev-postgres-tls");
  EXPECT_EQ(data("dev-app")["ca.crt"], authority["ca.crt"]);
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(data("dev-postgres-tls"), server);

  clock_.Advance(std::chrono::hours(24 * 61));
  ASSERT_TRUE(Pass().has_value());
  EXPECT_NE(data("dev-postgres-tls"), server);
  EXPECT_EQ(data("dev-ca"), authority);

  Patch(Json::parse(R"({"metadata": {"annotations": {"pgtier.dev/rotate-certificates": "leaked"}}})"));
  ASSERT_TRUE(Pass().has_value());
  Json rotated = data("dev-ca");
  EXPECT_NE(rotated["ca.key"], authority["ca.key"]);
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(data("dev-ca"), rotated);
}

TEST_F(Reconciler, AVolumeGrowsAndItsStatefulSetIsMadeAnewAroundThePod) {
  const Json storage_class{
      {"metadata", {{"name", "grows-" + namespace_name()}}}, {"provisioner", "test"}, {"allowVolumeExpansion", true}};
  ASSERT_TRUE(client()->Create(kube::kStorageClasses, storage_class, Soon()).has_value());
  Json policy = Example("dev");
  policy["spec"]["postgres"]["managed"]["storage"] = {{"size", "1Gi"},
                                                      {"storageClassName", "grows-" + namespace_name()}};
  Make(policy);
  ASSERT_TRUE(Pass().has_value());
  kube::ObjectKey set_key{namespace_name(), "dev-1"};
  auto set = client()->Get(kube::kStatefulSets, set_key, Soon());
  Json claim = (*set)["spec"]["volumeClaimTemplates"][0];
  claim["metadata"]["name"] = "data-dev-1-0";
  claim["metadata"]["namespace"] = namespace_name();
  claim["spec"]["volumeName"] = "volume";
  claim.erase("status");
  auto made = client()->Create(kube::kPersistentVolumeClaims, claim, Soon());
  ASSERT_TRUE(made.has_value()) << made.error().message;
  Json bound{{"metadata", {{"namespace", namespace_name()}, {"name", "data-dev-1-0"}}},
             {"status", {{"phase", "Bound"}, {"capacity", {{"storage", "1Gi"}}}}}};
  ASSERT_TRUE(client()->ApplyStatus(kube::kPersistentVolumeClaims, bound, Soon()).has_value());

  Patch({{"spec", {{"postgres", {{"managed", {{"storage", {{"size", "2Gi"}}}}}}}}}});
  ASSERT_TRUE(Pass().has_value());
  auto grown = client()->Get(kube::kPersistentVolumeClaims, {namespace_name(), "data-dev-1-0"}, Soon());
  EXPECT_EQ(kube::StringAt(*grown, {"spec", "resources", "requests", "storage"}), "2Gi");
  ASSERT_TRUE(Pass().has_value());
  set = client()->Get(kube::kStatefulSets, set_key, Soon());
  ASSERT_TRUE(set.has_value());
  EXPECT_EQ((*set)["metadata"]["finalizers"], Json::array({"orphan"})) << "its pod would go with it";
  ASSERT_TRUE(Pass().has_value()) << "while it goes";
  // What the garbage collector does, after it let go of the pod.
  Json let_go = Json::parse(R"({"metadata": {"finalizers": null}})");
  ASSERT_TRUE(client()->MergePatch(kube::kStatefulSets, set_key, let_go, Soon()).has_value());
  ASSERT_TRUE(Pass().has_value());
  set = client()->Get(kube::kStatefulSets, set_key, Soon());
  ASSERT_TRUE(set.has_value());
  EXPECT_EQ(kube::StringAt((*set)["spec"]["volumeClaimTemplates"][0], {"spec", "resources", "requests", "storage"}),
            "2Gi");
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(ConditionOf("Degraded").reason, "VolumeGrows") << "no driver is here";
}

TEST_F(Reconciler, ObserveMakesNothingAndSaysWhatItWould) {
  Json policy = Example("dev");
  policy["spec"]["mode"] = "Observe";
  Make(policy);
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(ConditionOf("Ready").status, "True");
  Patch({{"spec", {{"demands", {"by-hand"}}}}});
  ASSERT_TRUE(Pass().has_value());
  ASSERT_TRUE(Pass().has_value());
  EXPECT_THAT(Children(), IsEmpty());
  EXPECT_EQ(Policy()->status.tier, "single-node");
  EXPECT_EQ(ConditionOf("Ready").reason, "WouldEnterReadReplicas");
  EXPECT_THAT(ConditionOf("Ready").message, HasSubstr("would enter read-replicas: by-hand demanded"));
  ASSERT_TRUE(operator_->events.Flush(Soon()));
  auto events = client()->List(kube::kEvents, namespace_name(), {}, Soon());
  EXPECT_THAT(events->dump(), HasSubstr("WouldEnterReadReplicas"));
}

TEST_F(Reconciler, APausedPolicyIsLeftAlone) {
  Json policy = Example("dev");
  policy["metadata"]["annotations"]["pgtier.dev/paused"] = "";
  Make(policy);
  ASSERT_TRUE(Pass().has_value());
  EXPECT_THAT(Children(), IsEmpty());
  EXPECT_EQ(ConditionOf("Paused").status, "True");
  Patch(Json::parse(R"({"metadata": {"annotations": {"pgtier.dev/paused": null}}})"));
  ASSERT_TRUE(Pass().has_value());
  EXPECT_FALSE(Children().empty());
  EXPECT_EQ(ConditionOf("Reconciling").status, "True");
}

TEST_F(Reconciler, WhatIsNotAvailableIsNamedAndStalls) {
  Json policy = Example("dev");
  policy["spec"]["tiers"][0]["sharding"] = Json::parse(R"({"external": {"host": "h", "adminSecret": {"name": "s"}}})");
  Make(policy);
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(ConditionOf("Stalled").status, "True");
  EXPECT_EQ(ConditionOf("Stalled").reason, "NotAvailable");
  EXPECT_THAT(ConditionOf("Stalled").message, HasSubstr("spec.tiers[0].sharding"));
  EXPECT_EQ(ConditionOf("Ready").status, "False");
  EXPECT_THAT(Children(), IsEmpty());
}

TEST_F(Reconciler, ADeletedPolicyIsForgotten) {
  Make(Example("dev"));
  ASSERT_TRUE(Pass().has_value());
  EXPECT_THAT(operator_->metrics.Serialize(), HasSubstr("pgtier_ready{"));
  ASSERT_TRUE(client()->Delete(kScaleTierPolicies, {namespace_name(), "dev"}, {}, Soon()).has_value());
  auto passed = Pass();
  ASSERT_TRUE(passed.has_value());
  EXPECT_EQ(passed->after, Duration::zero());
  EXPECT_THAT(operator_->metrics.Serialize(), testing::Not(HasSubstr("pgtier_ready{")));
  EXPECT_FALSE(Children().empty()) << "Retain keeps what runs";
}

}  // namespace
}  // namespace pgtier::test
