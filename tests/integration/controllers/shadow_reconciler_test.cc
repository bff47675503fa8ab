// ShadowTableReconciler on a real API server and a real Postgres, without pods: the test says when workers are ready,
// and moves their rows.
#include <gmock/gmock.h>

#include <thread>

#include "controllers/shadow_table/resources.h"
#include "controllers/shadow_table/shadow_table_reconciler.h"
#include "crds/shadow_table_policy_codec.h"
#include "lib/base/base64.h"
#include "lib/kube/json.h"
#include "tests/fake/manual_clock.h"
#include "tests/integration/crds/policy_server.h"
#include "tests/integration/postgres/local_server.h"

namespace pgtier::test {
namespace {

using controllers::shadow_table::ShadowTableReconciler;
using Json = nlohmann::json;
using ::testing::HasSubstr;

// What the operator refuses is where the test's server is.
Result<std::string> AnyHost(const std::string&, Deadline) { return std::string("127.0.0.1"); }

class ShadowReconcilerTest : public PolicyServerTest {
 protected:
  static void TearDownTestSuite() { postgres_.reset(); }

  void SetUp() override {
    PolicyServerTest::SetUp();
    if (IsSkipped()) return;
    if (std::string why = pgtier::testing::WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    if (postgres_ == nullptr) {
      auto started = pgtier::testing::LocalPostgres::Start();
      ASSERT_TRUE(started.has_value()) << started.error().message;
      postgres_ = *std::move(started);
    }
    static int count = 0;
    database_ = "audit" + std::to_string(++count);
    Run("postgres", "CREATE DATABASE " + database_);
    Run("CREATE TABLE customers (id bigint PRIMARY KEY, name text)");
    MakeSecret();
    events_ = std::make_unique<kube::EventRecorder>(client(), &system_clock_, &metrics_,
                                                    kube::EventRecorderOptions{.instance = "test"});
    reconciler_ = std::make_unique<ShadowTableReconciler>(ShadowTableReconciler::Parts{
        client(), events_.get(), &prometheus_, &clock_, &metrics_, "pgtier:test",
        [this](const kube::ObjectKey&) { return Policy(); }, [this](const kube::ObjectKey&) { return scale_tier_; },
        nullptr, nullptr, AnyHost});
  }

  // The connection's Secret, with `changes` merged over its texts.
  void MakeSecret(const Json& changes = Json::object()) {
    postgres::ConnectOptions options = postgres_->Options(database_);
    Json texts{{"host", "db.test"},
               {"port", std::to_string(options.port)},
               {"dbname", database_},
               {"username", options.user},
               {"password", options.password},
               {"sslmode", "disable"},
               {"monitor-username", options.user},
               {"monitor-password", options.password}};
    texts.merge_patch(changes);
    Json data = Json::object();
    for (const auto& [key, text] : texts.items()) data[key] = EncodeBase64(text.get<std::string>());
    Json secret{
        {"metadata", {{"namespace", namespace_name()}, {"name", "db"}, {"labels", {{"pgtier.dev/use", "postgres"}}}}},
        {"data", data}};
    ASSERT_TRUE(client()->Apply(kube::kSecrets, secret, true, Soon()).has_value());
  }

  void Make(const Json& changes = Json::object()) {
    Json policy = Example("audit-dev");
    policy["spec"].erase("databaseRef");
    policy["spec"]["connectionSecret"] = {{"name", "db"}};
    policy["spec"]["actor"] = {{"setting", "app.actor"}};
    policy["spec"]["transitions"] = {{"cooldown", "0s"}, {"down", "Automatic"}};
    policy["spec"]["tiers"][1]["enterWhen"]["any"][0] = Json{{"name", "rows"},
                                                             {"above", 100},
                                                             {"unit", "Count"},
                                                             {"for", "1m"},
                                                             {"tolerate", {{"gap", "5m"}}},
                                                             {"leave", {{"below", 50}, {"for", "1m"}}},
                                                             {"sql", {{"query", "SELECT count(*) FROM public.load"}}}};
    policy.merge_patch(changes);
    Run("CREATE TABLE load (id int)");
    ASSERT_EQ(Refusal(policy), "");
  }

  // One pass, half a minute after the one before.
  void Pass() {
    clock_.Advance(std::chrono::seconds(30));
    auto passed = reconciler_->Reconcile({namespace_name(), "audit-dev"}, Soon(), {});
    EXPECT_TRUE(passed.has_value()) << passed.error().message;
  }
  // Passes until that tier runs as specified; before each, Kubernetes and the worker do what they would.
  void PassUntil(const std::string& tier) {
    for (int i = 0; i < 30; ++i) {
      PlayKubernetes();
      Pass();
      auto policy = Policy();
      if (policy->status.tier == tier && policy->status.target_tier.empty() && ConditionOf("Ready").status == "True") {
        return;
      }
    }
    FAIL() << "not in " << tier << ": " << EncodeStatus(Policy()->status).dump(1);
  }
  void PlayKubernetes() {
    auto worker = client()->Get(kube::kDeployments, Worker(), Soon());
    if (!worker.has_value()) return;
    Json generation = (*worker)["metadata"]["generation"];
    Json status{{"metadata", {{"namespace", namespace_name()}, {"name", Worker().name}}},
                {"status",
                 {{"observedGeneration", generation}, {"replicas", 1}, {"updatedReplicas", 1}, {"readyReplicas", 1}}}};
    ASSERT_TRUE(client()->ApplyStatus(kube::kDeployments, status, Soon()).has_value());
    Run("SELECT pgtier.shadow_drain_all('" + namespace_name() + "/audit-dev')");
  }
  [[nodiscard]] kube::ObjectKey Worker() const { return {namespace_name(), "audit-dev-notify"}; }

  std::shared_ptr<const crds::ShadowTablePolicy> Policy() {
    auto object = client()->Get(kShadowTablePolicies, {namespace_name(), "audit-dev"}, Soon());
    if (!object.has_value()) return nullptr;
    return std::make_shared<crds::ShadowTablePolicy>(*crds::DecodeShadowTablePolicy(*object));
  }
  crds::Condition ConditionOf(const std::string& type) {
    auto policy = Policy();
    const crds::Condition* condition = crds::FindCondition(policy->status.conditions, type);
    return condition == nullptr ? crds::Condition{} : *condition;
  }

  void Run(const std::string& database, const std::string& sql) {
    auto connection = postgres_->Connect(database);
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    auto done = connection->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message << " of: " << sql;
  }
  void Run(const std::string& sql) { Run(database_, sql); }
  int64_t Count(const std::string& what) {
    auto connection = postgres_->Connect(database_);
    auto rows = connection->Query("SELECT count(*) AS n FROM " + what, Soon());
    return rows.has_value() ? *(*rows->Single()).Get<int64_t>("n") : -1;
  }

  static inline std::unique_ptr<pgtier::testing::LocalPostgres> postgres_;
  std::string database_;
  std::shared_ptr<const crds::ScaleTierPolicy> scale_tier_;  // Whatever databaseRef names.
  fake::ManualClock clock_;
  SystemClock system_clock_;
  Metrics metrics_;
  std::unique_ptr<kube::EventRecorder> events_;
  observe::Prometheus prometheus_{observe::AllowedHosts({})};
  std::unique_ptr<ShadowTableReconciler> reconciler_;
};

TEST_F(ShadowReconcilerTest, ClimbsToNotifyAndBackAndKeepsEveryChange) {
  Make();
  PassUntil("triggers");
  EXPECT_EQ(Policy()->status.summary.tables, "1/1");
  Run("INSERT INTO customers SELECT g, 'one' FROM generate_series(1, 10) g");
  EXPECT_EQ(Count("customers_history"), 10);

  Run("INSERT INTO load SELECT generate_series(1, 101)");
  PassUntil("notify");
  EXPECT_EQ(ConditionOf("tier.pgtier.dev/notify").reason, "RowsAboveThreshold");
  EXPECT_THAT(ConditionOf("tier.pgtier.dev/notify").message, HasSubstr("101"));
  Run("SET app.actor = 'ada'; UPDATE customers SET name = 'two'");
  EXPECT_EQ(Count("customers_history"), 10) << "they wait for the worker";
  Pass();
  EXPECT_THAT(ConditionOf("Degraded").status, "False");
  Run("DELETE FROM load");
  PassUntil("triggers");
  EXPECT_FALSE(client()->Get(kube::kDeployments, Worker(), Soon()).has_value());
  Run("DELETE FROM customers WHERE id > 5");
  EXPECT_EQ(Count("customers_history"), 25);
  EXPECT_EQ(Count("customers_history WHERE operation = 'UPDATE' AND actor = 'ada'"), 10);
  EXPECT_EQ(Policy()->status.history.size(), 2U);
}

TEST_F(ShadowReconcilerTest, TheWorkersPasswordLetsItIn) {
  Make();
  PassUntil("triggers");
  Run("INSERT INTO load SELECT generate_series(1, 101)");
  PassUntil("notify");
  auto secret = client()->Get(kube::kSecrets, Worker(), Soon());
  ASSERT_TRUE(secret.has_value());
  postgres::ConnectOptions options = postgres_->Options(database_);
  options.user = "pgtier_shadow_notify";
  options.password = *DecodeBase64((*secret)["data"]["password"].get<std::string>());
  auto connection = postgres::Connection::Open(options, Soon());
  ASSERT_TRUE(connection.has_value()) << connection.error().message;
  EXPECT_FALSE(connection->Query("SELECT * FROM public.customers", Soon()).has_value()) << "no right on tables";
}

TEST_F(ShadowReconcilerTest, AtRestNothingIsWritten) {
  Make();
  PassUntil("triggers");
  for (int i = 0; i < 10; ++i) Pass();
  std::string version = Policy()->meta.resource_version;
  for (int i = 0; i < 10; ++i) Pass();
  EXPECT_EQ(Policy()->meta.resource_version, version);
}

TEST_F(ShadowReconcilerTest, WhatStandsInTheWayIsNamedAndMended) {
  Run("ALTER TABLE customers SET UNLOGGED");
  Run("DROP TABLE customers");
  Make();
  Pass();
  Pass();
  EXPECT_EQ(ConditionOf("Ready").status, "False");
  EXPECT_EQ(ConditionOf("Stalled").status, "True");
  EXPECT_THAT(ConditionOf("Stalled").message, HasSubstr("public.customers"));
  Run("CREATE TABLE customers (id bigint PRIMARY KEY, name text)");
  PassUntil("triggers");
  EXPECT_EQ(ConditionOf("Stalled").status, "False");
}

TEST_F(ShadowReconcilerTest, AWrongPasswordStallsAndIsMended) {
  MakeSecret({{"password", "wrong"}});
  Make();
  Pass();
  EXPECT_EQ(ConditionOf("Ready").reason, "AccessRefused");
  EXPECT_EQ(ConditionOf("Stalled").status, "True");
  EXPECT_THAT(ConditionOf("Ready").message, ::testing::Not(HasSubstr("wrong")));
  MakeSecret();
  PassUntil("triggers");
}

TEST_F(ShadowReconcilerTest, DeletionLeavesTriggersAndNoWorker) {
  Make();
  PassUntil("triggers");
  Run("INSERT INTO load SELECT generate_series(1, 101)");
  PassUntil("notify");
  Run("INSERT INTO customers VALUES (1, 'queued')");
  ASSERT_TRUE(client()->Delete(kShadowTablePolicies, {namespace_name(), "audit-dev"}, {}, Soon()).has_value());
  for (int i = 0; i < 10 && Policy() != nullptr; ++i) {
    Pass();
    PlayKubernetes();
  }
  EXPECT_EQ(Policy(), nullptr);
  EXPECT_EQ(Count("customers_history"), 1);
  EXPECT_FALSE(client()->Get(kube::kDeployments, Worker(), Soon()).has_value());
  Run("INSERT INTO customers VALUES (2, 'still kept')");
  EXPECT_EQ(Count("customers_history"), 2);
}

TEST_F(ShadowReconcilerTest, DeletionWithRemoveTakesTheTriggersAway) {
  Make({{"spec", {{"deletionPolicy", "Remove"}}}});
  PassUntil("triggers");
  Run("INSERT INTO customers VALUES (1, 'kept')");
  ASSERT_TRUE(client()->Delete(kShadowTablePolicies, {namespace_name(), "audit-dev"}, {}, Soon()).has_value());
  for (int i = 0; i < 10 && Policy() != nullptr; ++i) Pass();
  EXPECT_EQ(Policy(), nullptr);
  Run("INSERT INTO customers VALUES (2, 'nobody keeps it')");
  EXPECT_EQ(Count("customers_history"), 1);
}

TEST_F(ShadowReconcilerTest, TheTableOfEventsIsMadeOrAdoptedAndOnlyTheApplicationWritesIt) {
  Run("CREATE ROLE app_" + database_ + " LOGIN");
  Run("CREATE ROLE counter_" + database_ + " LOGIN PASSWORD 'counter'");
  Run("ALTER TABLE customers OWNER TO app_" + database_);
  MakeSecret({{"monitor-username", "counter_" + database_}, {"monitor-password", "counter"}});
  Json changes{{"spec", {{"auditEvents", {{"table", "public.customer_audit_events"}}}}}};
  Make(changes);
  PassUntil("triggers");
  Pass();
  Pass();
  EXPECT_TRUE(Policy()->status.audit_events.exists);
  EXPECT_EQ(Policy()->status.audit_events.finding, "");
  EXPECT_EQ(Count("pg_tables WHERE tablename = 'customer_audit_events' AND tableowner = 'app_" + database_ + "'"), 1);
  EXPECT_EQ(Count("pg_trigger WHERE tgrelid = 'customer_audit_events'::regclass"), 0);
  Run("SET ROLE app_" + database_ + "; INSERT INTO customer_audit_events (event) VALUES ('login')");
  Run("SET ROLE counter_" + database_ + "; SELECT count(*) FROM customer_audit_events");
  std::string version = Policy()->meta.resource_version;
  for (int i = 0; i < 3; ++i) Pass();
  EXPECT_EQ(Policy()->meta.resource_version, version) << "at rest";
  Run("ALTER TABLE customer_audit_events DROP COLUMN at_utc CASCADE");
  Pass();
  EXPECT_EQ(ConditionOf("Degraded").reason, "AuditEventsNotFit");
  EXPECT_THAT(ConditionOf("Degraded").message, HasSubstr("has no column at_utc"));
  EXPECT_EQ(ConditionOf("Ready").status, "True");
  Run("ALTER TABLE customer_audit_events ADD COLUMN at_utc timestamptz NOT NULL DEFAULT now()");
  Pass();
  EXPECT_EQ(ConditionOf("Degraded").status, "False");
}

TEST_F(ShadowReconcilerTest, ADatabaseRefMayLeadToAPostgresThatRunsElsewhere) {
  postgres::ConnectOptions options = postgres_->Options(database_);
  auto scale = std::make_shared<crds::ScaleTierPolicy>();
  scale->meta.namespace_ = namespace_name();
  scale->meta.name = "elsewhere";
  crds::ExternalPostgres& external = scale->spec.external.emplace();
  external.host = "db.test";
  external.port = options.port;
  external.database = database_;
  external.ssl_mode = "disable";
  external.admin_secret = "missing";
  scale_tier_ = scale;
  Json policy{{"spec", {{"connectionSecret", nullptr}, {"databaseRef", {{"name", "elsewhere"}}}}}};
  Make(policy);
  Pass();
  EXPECT_EQ(ConditionOf("Ready").reason, "SecretNotFound");
  EXPECT_THAT(ConditionOf("Stalled").message,
              HasSubstr("ScaleTierPolicy elsewhere: spec.postgres.external.adminSecret"));
  auto mended = std::make_shared<crds::ScaleTierPolicy>(*scale);
  mended->spec.external->admin_secret = mended->spec.external->monitor_secret = "db";
  scale_tier_ = mended;
  PassUntil("triggers");
  EXPECT_EQ(Policy()->status.database, "db.test:" + std::to_string(options.port) + "/" + database_);
  Run("INSERT INTO load SELECT generate_series(1, 101)");
  PassUntil("notify");
  auto config = client()->Get(kube::kConfigMaps, Worker(), Soon());
  ASSERT_TRUE(config.has_value());
  EXPECT_THAT((*config)["data"]["worker.json"].get<std::string>(), HasSubstr("\"host\": \"db.test\""));
  // The server goes on without the policy that named it: it may hold a slot, so nothing is forgotten.
  scale_tier_ = nullptr;
  ASSERT_TRUE(client()->Delete(kShadowTablePolicies, {namespace_name(), "audit-dev"}, {}, Soon()).has_value());
  Pass();
  ASSERT_NE(Policy(), nullptr);
  EXPECT_EQ(ConditionOf("Ready").reason, "DatabaseRefNotFound");
  scale_tier_ = mended;
  for (int i = 0; i < 10 && Policy() != nullptr; ++i) {
    Pass();
    PlayKubernetes();
  }
  EXPECT_EQ(Policy(), nullptr);
}

TEST_F(ShadowReconcilerTest, WithoutASuperuserAChangeOfASourceIsSeenByNameAndCarriedOver) {
  const std::string role = "rds_" + database_;
  Run("CREATE ROLE " + role + " LOGIN CREATEROLE PASSWORD 'rds'");
  Run("ALTER DATABASE " + database_ + " OWNER TO " + role + "; ALTER SCHEMA public OWNER TO " + role +
      "; ALTER TABLE customers OWNER TO " + role);
  // The roles are the cluster's; where another test made them, their members are needed.
  Run("DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgtier_shadow') THEN GRANT pgtier_shadow TO " +
      role + "; END IF; END $$");
  MakeSecret({{"username", role}, {"password", "rds"}});
  Make();
  PassUntil("triggers");
  EXPECT_EQ(ConditionOf("DdlNotFollowed").reason, "NoEventTriggers");
  Run("ALTER TABLE customers ADD COLUMN phone text");
  Pass();
  EXPECT_EQ(ConditionOf("DdlNotFollowed").reason, "ColumnsChanged");
  EXPECT_THAT(ConditionOf("DdlNotFollowed").message, HasSubstr("public.customers: phone added"));
  Pass();
  Run("INSERT INTO customers VALUES (1, 'ada', '555')");
  EXPECT_EQ(Count("customers_history WHERE phone = '555'"), 1);
  EXPECT_EQ(ConditionOf("DdlNotFollowed").reason, "NoEventTriggers");
  EXPECT_THAT(ConditionOf("DdlNotFollowed").message, HasSubstr("last seen: public.customers: phone added"));
}

}  // namespace
}  // namespace pgtier::test
