// What every rendered object must hold, and must never.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "lib/base/base64.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::Not;

// Every object that a policy in tier two has, as rendered.
std::vector<Json> AllObjects(const Json& object = TwoTiers()) {
  Scene scene(object);
  std::vector<Json> objects;
  Read(scene, "by-hand", core::Reading::Of(1));
  for (int i = 0; i < 10; ++i) {
    for (const Action& action : scene.MakePass().plan.actions) {
      if (const auto* apply = std::get_if<ApplyObject>(&action)) objects.push_back(apply->object);
    }
    scene.StartPods();
  }
  return objects;
}

std::vector<Json> Workloads(const Json& object = TwoTiers()) {
  std::vector<Json> workloads;
  for (Json& each : AllObjects(object)) {
    if (each["kind"] == "StatefulSet" || each["kind"] == "Deployment") workloads.push_back(std::move(each));
  }
  return workloads;
}

TEST(Manifests, PodsAreRestricted) {
  std::vector<Json> workloads = Workloads();
  ASSERT_EQ(workloads.size(), 5U) << "three instances, two poolers";
  for (const Json& workload : workloads) {
    SCOPED_TRACE(workload["metadata"]["name"].get<std::string>());
    const Json& pod = workload["spec"]["template"]["spec"];
    EXPECT_FALSE(pod.value("automountServiceAccountToken", true));
    const Json security_of_pod = pod.value("securityContext", Json::object());
    EXPECT_TRUE(security_of_pod.value("runAsNonRoot", false));
    EXPECT_GT(security_of_pod.value("runAsUser", 0), 0);
    EXPECT_EQ(security_of_pod.value(Json::json_pointer("/seccompProfile/type"), ""), "RuntimeDefault");
    for (const char* shared : {"hostNetwork", "hostPID", "hostIPC", "initContainers"}) {
      EXPECT_FALSE(pod.contains(shared)) << shared;
    }
    for (const Json& container : pod["containers"]) {
      const Json& security = container["securityContext"];
      EXPECT_TRUE(security.value("readOnlyRootFilesystem", false));
      EXPECT_FALSE(security.value("allowPrivilegeEscalation", true));
      EXPECT_EQ(security.value("capabilities", Json()), Json({{"drop", {"ALL"}}}));
      EXPECT_FALSE(security.contains("privileged"));
    }
    for (const Json& volume : pod["volumes"]) EXPECT_FALSE(volume.contains("hostPath"));
  }
}

TEST(Manifests, PasswordsAreInSecretsOnly) {
  const Credentials passwords = Scene().credentials;
  int secrets = 0;
  for (const Json& object : AllObjects()) {
    SCOPED_TRACE(object["kind"].get<std::string>() + " " + object["metadata"]["name"].get<std::string>());
    Json outside = object;
    if (object["kind"] == "Secret") {
      ++secrets;
      outside.erase("data");
    }
    for (const std::string& password : {passwords.superuser, passwords.replication, passwords.pooler, passwords.monitor,
                                        passwords.pooler_admin, passwords.app}) {
      EXPECT_THAT(outside.dump(), Not(HasSubstr(password)));
      EXPECT_THAT(outside.dump(), Not(HasSubstr(EncodeBase64(password))));
    }
  }
  EXPECT_GE(secrets, 4);
}

TEST(Manifests, AnApplicationFindsWhatItNeedsInItsSecretAndNoMore) {
  Scene scene;
  Json secret = RenderAppSecret(scene.context(), scene.credentials);
  EXPECT_EQ(secret["type"], "kubernetes.io/basic-auth");
  std::map<std::string, std::string> data;
  for (const auto& [key, value] : secret["data"].items()) data[key] = *DecodeBase64(value.get<std::string>());
  EXPECT_EQ(data, (std::map<std::string, std::string>{{"username", "app"},
                                                      {"password", "pw-app"},
                                                      {"dbname", "app"},
                                                      {"host", "kyoyu-rw.data.svc"},
                                                      {"host-ro", "kyoyu-ro.data.svc"},
                                                      {"port", "5432"},
                                                      {"ca.crt", scene.credentials.tls.authority.certificate}}));
}

TEST(Manifests, TheAuthoritysKeyIsMountedNowhere) {
  const std::string key = EncodeBase64(Scene().credentials.tls.authority.key);
  int holders = 0;
  for (const Json& object : AllObjects()) {
    SCOPED_TRACE(object["kind"].get<std::string>() + " " + object["metadata"]["name"].get<std::string>());
    bool authority = object["kind"] == "Secret" && object["metadata"]["name"] == "kyoyu-ca";
    if (authority) ++holders;
    if (authority) continue;
    EXPECT_THAT(object.dump(), Not(HasSubstr("kyoyu-ca")));
    EXPECT_FALSE(object.contains("data") && object["data"].contains("ca.key"));
  }
  EXPECT_EQ(holders, 1);
}

TEST(Manifests, InstancesSeeNoPasswordButTheirOwn) {
  for (const Json& workload : Workloads()) {
    if (workload["kind"] != "StatefulSet") continue;
    for (const Json& volume : workload["spec"]["template"]["spec"]["volumes"]) {
      if (!volume.contains("secret") || volume["secret"]["secretName"] == "kyoyu-postgres-tls") continue;
      std::vector<std::string> keys;
      for (const Json& item : volume["secret"]["items"]) keys.push_back(item["key"]);
      EXPECT_THAT(keys, testing::UnorderedElementsAre("superuser", "replication"));
    }
  }
}

TEST(Manifests, EverythingCarriesThePolicysLabelAndNamespace) {
  for (const Json& object : AllObjects()) {
    SCOPED_TRACE(object["metadata"].dump());
    EXPECT_EQ(object["metadata"]["labels"][kPolicyLabel], "kyoyu");
    EXPECT_EQ(object["metadata"]["namespace"], "data");
    EXPECT_TRUE(object["metadata"]["annotations"].contains(kHashAnnotation));
    EXPECT_FALSE(object["apiVersion"].get<std::string>().empty());
  }
}

TEST(Manifests, OnlyRemoveOwns) {
  for (const Json& object : AllObjects()) {
    EXPECT_FALSE(object["metadata"].contains("ownerReferences")) << object["metadata"]["name"];
    if (object["kind"] != "StatefulSet") continue;
    EXPECT_EQ(object["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"], "Retain");
    EXPECT_FALSE(object["spec"]["volumeClaimTemplates"][0]["metadata"].contains("ownerReferences"));
  }
  for (const Json& object : AllObjects(TwoTiers({{"deletionPolicy", "Remove"}}))) {
    ASSERT_EQ(object["metadata"]["ownerReferences"].size(), 1U) << object["metadata"]["name"];
    EXPECT_EQ(object["metadata"]["ownerReferences"][0]["uid"], "uid-of-policy");
    EXPECT_EQ(object["metadata"]["ownerReferences"][0]["kind"], "ScaleTierPolicy");
    if (object["kind"] != "StatefulSet") continue;
    EXPECT_EQ(object["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"], "Delete");
    EXPECT_EQ(object["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain");
  }
}

TEST(Manifests, ANewTemplateRestartsNoDatabase) {
  for (const Json& workload : Workloads()) {
    if (workload["kind"] != "StatefulSet") continue;
    EXPECT_EQ(workload["spec"]["updateStrategy"]["type"], "OnDelete");
  }
}

TEST(Manifests, NamesOfSlotsAreThoseOfPostgres) {
  EXPECT_EQ(SlotName("kyoyu-2"), "pgtier_kyoyu_2");
  EXPECT_EQ(SlotName("a-b-c-10"), "pgtier_a_b_c_10");
  std::string longest = SlotName(InstanceName(std::string(40, 'a'), 65));
  EXPECT_LE(longest.size(), 63U);
  EXPECT_THAT(longest, testing::MatchesRegex("[a-z0-9_]+"));
}

TEST(Manifests, NamesFitWhatTheyName) {
  std::string policy(40, 'a');
  EXPECT_LE(PodName(InstanceName(policy, 65)).size(), 63U);
  EXPECT_LE(PoolerName(policy, "rw").size(), 63U - std::string("-0123456789").size()) << "a ReplicaSet's";
}

TEST(Manifests, EndpointServicesLeadToTheirPoolersByName) {
  std::map<std::string, std::string> leads;
  for (const Json& object : AllObjects()) {
    if (object["kind"] != "Service") continue;
    leads[object["metadata"]["name"]] = kube::StringAt(object, {"spec", "selector", kEndpointLabel});
    EXPECT_EQ(object["spec"]["ports"][0]["port"], 5432);
  }
  EXPECT_EQ(leads.at("kyoyu"), "rw");
  EXPECT_EQ(leads.at("kyoyu-rw"), "rw");
  EXPECT_EQ(leads.at("kyoyu-ro"), "ro");
  EXPECT_EQ(leads.at("kyoyu-primary"), "");
}

TEST(Manifests, ResourcesAndSchedulingReachInstancesOnly) {
  Json object = TwoTiers(Json::parse(R"({"postgres": {"managed": {
    "resources": {"requests": {"cpu": 4, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "scheduling": {"nodeSelector": {"disk": "nvme"}, "priorityClassName": "high",
                   "tolerations": [{"key": "db", "operator": "Exists", "effect": "NoSchedule"}]},
    "imagePullSecrets": [{"name": "registry"}]}}})"));
  for (const Json& workload : Workloads(object)) {
    const Json& pod = workload["spec"]["template"]["spec"];
    bool instance = workload["kind"] == "StatefulSet";
    EXPECT_EQ(pod.contains("nodeSelector"), instance);
    if (!instance) continue;
    EXPECT_EQ(pod["containers"][0]["resources"],
              Json::parse(R"({"requests": {"cpu": "4", "memory": "1Gi"}, "limits": {"memory": "2Gi"}})"));
    EXPECT_EQ(pod["nodeSelector"]["disk"], "nvme");
    EXPECT_EQ(pod["priorityClassName"], "high");
    EXPECT_EQ(pod["tolerations"], Json::parse(R"([{"key": "db", "operator": "Exists", "effect": "NoSchedule"}])"));
    EXPECT_EQ(pod["imagePullSecrets"][0]["name"], "registry");
  }
}

TEST(Manifests, CoversFindsWhatIsMissingAndNotWhatIsMore) {
  Json desired = Json::parse(R"({"a": {"b": 1, "list": [{"x": 1}], "empty": {}}})");
  EXPECT_TRUE(Covers(Json::parse(R"({"a": {"b": 1, "list": [{"x": 1, "y": 2}], "c": 3}, "d": 4})"), desired));
  EXPECT_FALSE(Covers(Json::parse(R"({"a": {"b": 2, "list": [{"x": 1}]}})"), desired));
  EXPECT_FALSE(Covers(Json::parse(R"({"a": {"b": 1, "list": []}})"), desired));
  EXPECT_FALSE(Covers(Json::parse(R"({"a": {"b": 1, "list": [{"x": 1}, {"x": 2}]}})"), desired));
  EXPECT_FALSE(Covers(Json::parse(R"({"a": 1})"), desired));
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
