// Certificates reach servers before anybody demands them, and a new one counts only once it is presented.
#include <gmock/gmock.h>

#include "lib/base/base64.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Scene Settled() {
  nlohmann::json object = TwoTiers();
  object["spec"]["pin"] = "two";
  Scene scene(object);
  scene.Settle();
  return scene;
}

// What stands in a live Secret or ConfigMap of the scene.
std::string Text(const Scene& scene, const kube::Resource& resource, const std::string& name, const std::string& key) {
  const nlohmann::json* object = scene.seen.Object(resource, name);
  if (object == nullptr) return "";
  std::string text = kube::StringAt(*object, {"data", key});
  return resource.plural == kube::kSecrets.plural ? DecodeBase64(text).value_or("") : text;
}

// As an earlier release left it: nobody speaks TLS.
void MakePlain(Scene& scene) {
  for (InstanceSeen& instance : scene.seen.instances) {
    instance.encrypted = false;
    instance.certificate.clear();
  }
  for (PoolerPodSeen& pod : scene.seen.poolers) {
    pod.encrypted = false;
    pod.certificate.clear();
  }
}

TEST(PlanTls, ANewClusterDemandsItFromTheStart) {
  Scene scene = Settled();
  EXPECT_THAT(Text(scene, kube::kSecrets, "kyoyu-pooler-rw", "pooler.ini"),
              testing::AllOf(HasSubstr("server_tls_sslmode = verify-full"), HasSubstr("client_tls_sslmode = prefer")));
  EXPECT_THAT(Text(scene, kube::kSecrets, "kyoyu-pooler-ro", "pooler.ini"),
              HasSubstr("server_tls_sslmode = verify-ca"));
  EXPECT_EQ(Text(scene, kube::kSecrets, "kyoyu-pooler-rw", "pgbouncer.ini"), "");
  EXPECT_THAT(Text(scene, kube::kConfigMaps, "kyoyu-postgres", "pg_hba.conf"), HasSubstr("hostssl"));
}

TEST(PlanTls, NobodyDemandsItBeforeEveryInstanceSpeaksIt) {
  Scene scene = Settled();
  MakePlain(scene);
  scene.Settle();
  auto expect_plain = [&] {
    EXPECT_THAT(Text(scene, kube::kSecrets, "kyoyu-pooler-rw", "pooler.ini"), HasSubstr("server_tls_sslmode = prefer"));
    EXPECT_THAT(Text(scene, kube::kConfigMaps, "kyoyu-postgres", "pg_hba.conf"), Not(HasSubstr("hostssl")));
    EXPECT_THAT(Text(scene, kube::kConfigMaps, "kyoyu-postgres", "primary_conninfo"), Not(HasSubstr("sslmode")));
  };
  expect_plain();
  // Pods of the poolers are replaced by their Deployment; those of instances one by one, the primary last.
  for (PoolerPodSeen& pod : scene.seen.poolers) pod.encrypted = true;
  scene.Settle();
  expect_plain();
  for (const char* name : {"kyoyu-2", "kyoyu-3"}) {
    scene.Instance(name).encrypted = true;
    scene.Settle();
    expect_plain();
  }
  scene.Instance("kyoyu-1").encrypted = true;
  scene.Settle();
  EXPECT_THAT(Text(scene, kube::kSecrets, "kyoyu-pooler-rw", "pooler.ini"),
              HasSubstr("server_tls_sslmode = verify-full"));
  EXPECT_THAT(Text(scene, kube::kConfigMaps, "kyoyu-postgres", "pg_hba.conf"), HasSubstr("hostssl"));
}

TEST(PlanTls, PoolersFromBeforeKeepWhatTheyCanRead) {
  Scene scene = Settled();
  MakePlain(scene);
  scene.Settle();
  std::string plain = Text(scene, kube::kSecrets, "kyoyu-pooler-ro", "pgbouncer.ini");
  EXPECT_THAT(plain, testing::AllOf(HasSubstr("host=kyoyu-2.data.svc"), Not(HasSubstr("/etc/pgtier/tls"))));
  for (const PoolerPodSeen& pod : scene.seen.poolers) {
    for (const poolers::ConfigEntry& entry : pod.config) EXPECT_NE(entry.key, "client_tls_cert_file");
  }
}

TEST(PlanTls, ANewCertificateIsReloadedEverywhereAndReadBack) {
  Scene scene = Settled();
  CertificateNeeds needs = NeedsOf(scene.policy, scene.resolved, 3);
  needs.request = "now";
  scene.credentials.tls = *Renew(scene.credentials.tls, needs, scene.now);
  Plan plan = scene.PlanFor("two", "two");
  std::vector<std::string> words = InWords(plan);
  for (const char* action :
       {"apply Secret kyoyu-ca", "apply Secret kyoyu-postgres-tls", "apply Secret kyoyu-pooler-tls",
        "apply Secret kyoyu-app", "reload kyoyu-1", "reload kyoyu-2", "reload kyoyu-3", "reload kyoyu-pooler-rw-0",
        "reload kyoyu-pooler-ro-0"}) {
    EXPECT_THAT(words, Contains(action));
  }
  EXPECT_THAT(words, Not(Contains(HasSubstr("StatefulSet")))) << "a restart";
  EXPECT_THAT(words, Not(Contains(HasSubstr("Deployment")))) << "a restart";
  EXPECT_THAT(plan.waiting_for, HasSubstr("to take its configuration: certificate"));
  EXPECT_EQ(plan.routed.size(), 2U);
  scene.Carry(plan);
  EXPECT_THAT(scene.PlanFor("two", "two").actions, IsEmpty());
  EXPECT_THAT(scene.PlanFor("two", "two").waiting_for, IsEmpty());
}

TEST(PlanTls, ARotationOnRequestStandsInStatusOnceItIsDone) {
  Scene scene = Settled();
  CertificateNeeds needs = NeedsOf(scene.policy, scene.resolved, 3);
  needs.request = "now";
  scene.credentials.tls = *Renew(scene.credentials.tls, needs, scene.now);
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.rotations.certificates.request, "") << "it is under way";
  Scene::Pass pass = scene.MakePass();
  EXPECT_EQ(scene.policy.status.rotations.certificates.request, "now");
  EXPECT_EQ(pass.notes.at(0).reason, "CertificatesRotated");
  EXPECT_FALSE(scene.MakePass().written);
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
