// A Postgres that pgtier does not run: what is put before it, who takes reads, and what is said when it does not serve.
#include <gmock/gmock.h>

#include "controllers/scale_tier/external.h"
#include "controllers/scale_tier/names.h"
#include "lib/base/base64.h"
#include "lib/postgres/sqlstate.h"
#include "tests/support/yaml.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Text(const Scene& scene, const std::string& secret, const std::string& key) {
  const Json* object = scene.seen.Object(kube::kSecrets, secret);
  return object == nullptr ? "" : DecodeBase64((*object)["data"].value(key, "")).value_or("");
}

TEST(PlanExternal, OnlyPoolersAndServicesAreMade) {
  Scene scene(ExternalTiers());
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "one");
  for (const auto& [key, object] : scene.seen.objects) {
    EXPECT_THAT(key.first, testing::AnyOf("secrets", "services", "deployments", "poddisruptionbudgets")) << key.second;
  }
  EXPECT_EQ(scene.RoutedTo("rw"), "db.example");
  EXPECT_EQ(scene.RoutedTo("ro"), "db.example");
  EXPECT_EQ(scene.seen.primary.tier, "one");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  EXPECT_EQ(scene.ConditionOf("Stalled").status, "False");
  EXPECT_EQ(scene.ConditionOf("NotAvailable").status, "False");
  EXPECT_EQ(scene.policy.status.summary.replicas, "2/0");
}

TEST(PlanExternal, PoolersLogInAsTheApplicationOverTls) {
  Scene scene(ExternalTiers(Json::parse(
      R"({"postgres": {"external": {"port": 6432, "sslMode": "verify-full", "caSecret": {"name": "ca"},
                                    "replicas": [{"host": "a.example", "port": 6433}]}},
          "tiers": [{"name": "one"}]})")));
  scene.credentials.external->ca_pem = "PEM";
  scene.Settle();
  std::string ini = Text(scene, "kyoyu-pooler-rw", "pgbouncer.ini");
  EXPECT_THAT(ini, AllOf(HasSubstr("server_tls_sslmode = verify-full\n"), HasSubstr("port=6432"),
                         Not(HasSubstr("auth_query")), Not(HasSubstr("auth_user"))));
  std::string file = ini.substr(ini.find("server_tls_ca_file = /etc/pgbouncer/") + 36);
  EXPECT_EQ(Text(scene, "kyoyu-pooler-rw", file.substr(0, file.find('\n'))), "PEM");
  std::string users = Text(scene, "kyoyu-pooler-rw", "userlist.txt");
  EXPECT_THAT(users, AllOf(HasSubstr("\"app\" \"pw-of-app\""), Not(HasSubstr("pw-admin"))));
  EXPECT_EQ(Text(scene, "kyoyu-app", "username"), "app");
  EXPECT_EQ(Text(scene, "kyoyu-app", "password"), "pw-of-app");
  // No password stands in what everybody may read.
  for (const auto& [key, object] : scene.seen.objects) {
    if (key.first != "deployments") continue;
    EXPECT_THAT(object.dump(), Not(HasSubstr("pw-")));
  }
  // Another CA is another file, so that PgBouncer is made to read it.
  scene.credentials.external->ca_pem = "OTHER";
  EXPECT_THAT(InWords(scene.PlanFor("one", "one")), Contains("reload kyoyu-pooler-rw-0").Times(1));
}

TEST(PlanExternal, ItClimbsToTheStandbysThatAreListedAndGoesBack) {
  Scene scene(ExternalTiers());
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.RoutedTo("rw"), "db.example");
  EXPECT_EQ(scene.RoutedTo("ro"), "a.example,b.example");
  EXPECT_EQ(scene.policy.status.summary.replicas, "2/2");
  scene.Edit(ExternalTiers({{"pin", "one"}}));
  scene.Settle();
  EXPECT_EQ(scene.RoutedTo("ro"), "db.example");
  EXPECT_EQ(scene.seen.instances.size(), 3U) << "nothing is removed";
}

TEST(PlanExternal, WeightsShareTheReads) {
  Scene scene(ExternalTiers(Json::parse(R"({"routing": {"strategy": "Weighted"}, "pin": "two",
    "postgres": {"external": {"replicas": [{"host": "a.example"}, {"host": "b.example", "weight": 2}]}}})")));
  scene.Settle();
  scene.Settle();
  EXPECT_EQ(scene.RoutedTo("ro"), "b.example,a.example,b.example");
}

TEST(PlanExternal, ATierIsEnteredWithAsManyAsItsMinSays) {
  Scene scene(ExternalTiers());
  scene.Settle();
  scene.Instance("b.example").pod_ready = false;
  scene.Instance("b.example").trouble = "HostUnreachable: b.example does not answer";
  Read(scene, "by-hand", core::Reading::Of(1));
  for (int i = 0; i < 5; ++i) scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "one") << "min is 2";
  EXPECT_EQ(scene.RoutedTo("ro"), "db.example");
  EXPECT_THAT(scene.ConditionOf("Climbing").message, HasSubstr("b.example: HostUnreachable"));

  Json fewer = ExternalTiers();
  fewer["spec"]["tiers"][1]["readReplicas"]["min"] = 1;
  scene.Edit(fewer);
  for (int i = 0; i < 5; ++i) scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_EQ(scene.RoutedTo("ro"), "a.example");
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "ReplicasUnhealthy");
  EXPECT_THAT(scene.ConditionOf("Degraded").message,
              AllOf(HasSubstr("1 of 2 replicas"), HasSubstr("b.example: HostUnreachable")));
}

TEST(PlanExternal, AStandbyThatLagsTakesNoReads) {
  Scene scene(ExternalTiers());
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  scene.Settle();
  ASSERT_EQ(scene.RoutedTo("ro"), "a.example,b.example");
  scene.Instance("a.example").lag = std::chrono::milliseconds(1001);
  scene.MakePass();
  EXPECT_EQ(scene.RoutedTo("ro"), "b.example");
  scene.Instance("b.example").lag = std::chrono::seconds(5);
  scene.MakePass();
  EXPECT_EQ(scene.RoutedTo("ro"), "db.example");
  EXPECT_THAT(scene.ConditionOf("Degraded").message, HasSubstr("reads go to the primary"));
}

TEST(PlanExternal, AServerThatDoesNotServeIsLeftAsItIs) {
  Scene scene(ExternalTiers());
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  scene.Settle();
  scene.seen.primary.answered = false;
  scene.seen.primary.reason = "PasswordRefused";
  scene.seen.primary.error = "db.example refuses the password of role admin";
  scene.seen.primary.needs_person = true;
  scene.needs_person = true;  // As the reconciler has it of a plan that refuses.
  Scene::Pass pass = scene.MakePass();
  EXPECT_THAT(InWords(pass.plan), IsEmpty());
  EXPECT_EQ(pass.plan.refused, "PasswordRefused: db.example refuses the password of role admin");
  EXPECT_EQ(scene.RoutedTo("ro"), "a.example,b.example");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "PasswordRefused");
  EXPECT_EQ(scene.ConditionOf("Ready").message, "db.example refuses the password of role admin");
  // Without its Secrets neither: what runs goes on.
  scene.credentials.external.reset();
  EXPECT_THAT(InWords(scene.MakePass().plan), IsEmpty());
}

TEST(PlanExternal, FailuresThatBeginWithAReasonStallWithIt) {
  Scene scene(ExternalTiers());
  scene.failure = "PrivilegeMissing: role admin lacks a privilege";
  scene.needs_person = true;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Stalled").reason, "PrivilegeMissing");
  EXPECT_EQ(scene.ConditionOf("Stalled").message, "role admin lacks a privilege");
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "PrivilegeMissing");
}

TEST(PlanExternal, WhatMakesNoSenseIsRefusedByName) {
  Json more = ExternalTiers();
  more["spec"]["tiers"][1]["readReplicas"]["min"] = 3;
  Scene scene(more);
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.ConditionOf("Stalled").reason, "SpecRefused");
  EXPECT_THAT(scene.ConditionOf("Stalled").message,
              HasSubstr("readReplicas.min of tier two: 3, and spec.postgres.external.replicas lists 2"));
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/two").reason, "SpecRefused");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True") << "the tier that runs is not touched by it";

  Scene ports(ExternalTiers(
      Json::parse(R"({"postgres": {"external": {"replicas": [{"host": "a"}, {"host": "b", "port": 1}]}}})")));
  EXPECT_THAT(ports.resolved.refusals.at(0).why, HasSubstr("b listens on another port than the first"));

  Scene unverified(ExternalTiers(Json::parse(R"({"postgres": {"external": {"sslMode": "verify-ca"}}})")));
  Scene::Pass pass = unverified.MakePass();
  EXPECT_THAT(InWords(pass.plan), IsEmpty());
  EXPECT_EQ(unverified.ConditionOf("Ready").reason, "SpecRefused");
  EXPECT_THAT(unverified.ConditionOf("Stalled").message, HasSubstr("sslMode: verify-ca needs caSecret"));
}

TEST(ExplainExternal, EachTroubleHasAReasonAndSaysWhatToDo) {
  crds::ExternalPostgres external = *Scene(ExternalTiers()).policy.spec.external;
  external.ca_secret = "ca";
  Json rows = pgtier::tests::LoadYaml("tests/cases/plan/external_trouble.yaml")["rows"];
  ASSERT_GT(rows.size(), 12U);
  for (const Json& row : rows) {
    SCOPED_TRACE(row.dump());
    std::string text = row["error"];
    Error error = row.contains("sqlstate") ? postgres::MakeSqlError(row["sqlstate"].get<std::string>(), text)
                                           : MakeError(Code::kUnavailable, text);
    if (row.value("code", "") == "NOT_FOUND") error.code = Code::kNotFound;
    if (row.value("code", "") == "PERMISSION_DENIED") error.code = Code::kPermissionDenied;
    if (row.value("code", "") == "DEADLINE_EXCEEDED") error.code = Code::kDeadlineExceeded;
    Trouble trouble = ExplainExternal(error, external, "db.example", {"joe", "pw-of-joe"}, "admin");
    EXPECT_EQ(trouble.reason, row["reason"].get<std::string>());
    EXPECT_THAT(trouble.message, HasSubstr(row["says"].get<std::string>()));
    EXPECT_THAT(trouble.message, Not(HasSubstr("pw-of-joe")));
    EXPECT_EQ(trouble.needs_person, row.value("person", true));
  }
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
