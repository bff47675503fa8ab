// SqlMigrationReconciler on a real API server and a real Postgres, without pods: the test runs what the Job would, from
// the ConfigMap that the Job mounts.
#include <gmock/gmock.h>

#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/sql_migration_reconciler.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/base64.h"
#include "lib/base/time_format.h"
#include "migrations/runner.h"
#include "tests/fake/manual_clock.h"
#include "tests/integration/crds/policy_server.h"
#include "tests/integration/postgres/local_server.h"

namespace pgtier::test {
namespace {

using controllers::sql_migration::SqlMigrationReconciler;
using Json = nlohmann::json;
using ::testing::HasSubstr;

class MigrationReconcilerTest : public PolicyServerTest {
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
    database_ = "shop" + std::to_string(++count);
    ASSERT_TRUE(postgres_->Connect()->Execute("CREATE DATABASE " + database_, Soon()).has_value());
    Run("CREATE TABLE orders (id int PRIMARY KEY, total numeric); INSERT INTO orders SELECT g, g FROM"
        " generate_series(1, 5000) g");
    postgres::ConnectOptions options = postgres_->Options(database_);
    folder_.Write("password", options.password);
    Json data = Json::object();
    const Json texts{{"host", "db.test"},        {"port", std::to_string(options.port)}, {"dbname", database_},
                     {"username", options.user}, {"password", options.password},         {"sslmode", "disable"}};
    for (const auto& [key, text] : texts.items()) {
      data[key] = EncodeBase64(text.get<std::string>());
    }
    Json secret{
        {"metadata", {{"namespace", namespace_name()}, {"name", "db"}, {"labels", {{"pgtier.dev/use", "postgres"}}}}},
        {"data", data}};
    ASSERT_TRUE(client()->Apply(kube::kSecrets, secret, true, Soon()).has_value());
    events_ = std::make_unique<kube::EventRecorder>(client(), &system_clock_, &metrics_,
                                                    kube::EventRecorderOptions{.instance = "test"});
    reconciler_ = std::make_unique<SqlMigrationReconciler>(SqlMigrationReconciler::Parts{
        client(), events_.get(), &clock_, &metrics_, "pgtier:test",
        [this](const kube::ObjectKey&) { return Migration(); }, [](const kube::ObjectKey&) { return nullptr; }, nullptr,
        nullptr, [](const std::string&, Deadline) -> Result<std::string> { return std::string("127.0.0.1"); }});
  }

  void Make(const Json& changes = Json::object()) {
    Json migration = Example("widen-orders");
    migration["spec"].erase("databaseRef");
    migration["spec"]["connectionSecret"] = {{"name", "db"}};
    migration.merge_patch(changes);
    ASSERT_EQ(Refusal(migration), "");
  }
  void Change(const Json& patch) {
    auto changed = client()->MergePatch(kSqlMigrations, Key(), patch, Soon());
    ASSERT_TRUE(changed.has_value()) << changed.error().message;
  }
  void Pass() {
    clock_.Advance(std::chrono::seconds(15));
    auto passed = reconciler_->Reconcile(Key(), Soon(), {});
    EXPECT_TRUE(passed.has_value()) << passed.error().message;
  }
  [[nodiscard]] kube::ObjectKey Key() const { return {namespace_name(), "widen-orders"}; }
  [[nodiscard]] kube::ObjectKey JobKey() const {
    return {namespace_name(), controllers::sql_migration::MigrationJob("widen-orders")};
  }
  std::shared_ptr<const crds::SqlMigration> Migration() {
    auto object = client()->Get(kSqlMigrations, Key(), Soon());
    if (!object.has_value()) return nullptr;
    return std::make_shared<crds::SqlMigration>(*crds::DecodeSqlMigration(*object));
  }
  std::string Says(const std::string& type) {
    auto migration = Migration();
    const crds::Condition* found = crds::FindCondition(migration->status.conditions, type);
    return found == nullptr ? "nothing" : found->status + " " + found->reason + ": " + found->message;
  }
  Result<Json> Job() { return client()->Get(kube::kJobs, JobKey(), Soon()); }

  // What a pod of the Job does; then the Job's status, as Kubernetes writes it.
  int PlayPod(const std::stop_token& stop = {}) {
    auto config_map = client()->Get(kube::kConfigMaps, JobKey(), Soon());
    EXPECT_TRUE(config_map.has_value());
    Json config = Json::parse((*config_map)["data"]["migration.json"].get<std::string>());
    EXPECT_EQ(config["database"]["host"], "db.test");
    config["database"]["host"] = "127.0.0.1";
    config["database"]["passwordFile"] = folder_.path() + "/password";
    config["resultFile"] = folder_.path() + "/result";
    folder_.Write("migration.json", config.dump());
    int code = migrations::RunMigration(folder_.path() + "/migration.json", migrations::BuiltInSteps(), stop);
    if (code == migrations::kExitDone) EndJob("SuccessCriteriaMet", "Complete");
    if (code == migrations::kExitFailed) EndJob("FailureTarget", "Failed");
    return code;
  }
  void EndJob(const char* first, const char* then) {
    std::string now = FormatTime(system_clock_.Now());
    auto condition = [&](const char* type) {
      return Json{
          {"type", type}, {"status", "True"}, {"lastTransitionTime", now}, {"reason", "Played"}, {"message", ""}};
    };
    bool done = std::string(then) == "Complete";
    Json status{
        {"startTime", now}, {done ? "succeeded" : "failed", 1}, {"conditions", Json::array({condition(first)})}};
    for (int part = 0; part < 2; ++part) {
      auto patched = client()->MergePatch(kube::kJobs, JobKey(), {{"status", status}}, Soon(), {}, "status");
      ASSERT_TRUE(patched.has_value()) << patched.error().message;
      status["conditions"].push_back(condition(then));
      if (done) status["completionTime"] = now;
    }
  }
  void Run(const std::string& sql) {
    auto connection = postgres_->Connect(database_);
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    auto done = connection->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message << " of: " << sql;
  }
  std::string Ask(const std::string& sql) {
    auto connection = postgres_->Connect(database_);
    auto rows = connection->Query(sql, Soon());
    return rows.has_value() && !rows->empty() ? std::string((*rows)[0].Text(0).value_or("NULL")) : "nothing";
  }

  static inline std::unique_ptr<pgtier::testing::LocalPostgres> postgres_;
  pgtier::testing::ServerFolder folder_;
  std::string database_;
  fake::ManualClock clock_;
  SystemClock system_clock_;
  Metrics metrics_;
  std::unique_ptr<kube::EventRecorder> events_;
  std::unique_ptr<SqlMigrationReconciler> reconciler_;
};

TEST_F(MigrationReconcilerTest, RunsToItsEndAndThenWritesNothing) {
  Make();
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("False Starting"));
  ASSERT_TRUE(Job().has_value());
  EXPECT_EQ((*Job())["spec"]["template"]["spec"]["automountServiceAccountToken"], false);
  Pass();
  EXPECT_EQ(PlayPod(), migrations::kExitDone);
  Pass();
  EXPECT_THAT(Says("Complete"), HasSubstr("True"));
  EXPECT_EQ(Migration()->status.summary.step, "4/4");
  EXPECT_EQ(Migration()->status.steps[1].progress, "5000/5000 rows");
  EXPECT_EQ(Ask("SELECT count(*) FROM orders WHERE total_cents IS NULL"), "0");
  std::string version = Migration()->meta.resource_version;
  for (int i = 0; i < 5; ++i) Pass();
  EXPECT_EQ(Migration()->meta.resource_version, version);
}

TEST_F(MigrationReconcilerTest, PausedInTheMiddleItGoesOnFromItsCheckpoint) {
  Make();
  Change({{"spec",
           {{"steps",
             Json::array(
                 {{{"name", "add"},
                   {"backfill",
                    {{"table", "orders"}, {"set", "total = total + 1"}, {"batchRows", 10}, {"pause", "5ms"}}}}})}}}});
  Pass();
  std::stop_source stop;
  std::jthread pauser([&] {
    Deadline deadline = Soon();
    while (Ask("SELECT done > 100 FROM pgtier.migrations") != "t" && !deadline.Expired()) {
      SleepFor(std::chrono::milliseconds(20), {});
    }
    stop.request_stop();
  });
  EXPECT_EQ(PlayPod(stop.get_token()), migrations::kExitStopped);
  Change({{"metadata", {{"annotations", {{"pgtier.dev/paused", "true"}}}}}});
  Pass();
  EXPECT_EQ((*Job())["spec"]["suspend"], true);
  Pass();
  EXPECT_THAT(Says("Paused"), HasSubstr("True"));
  EXPECT_EQ(Migration()->status.steps[0].state, "Paused");
  EXPECT_THAT(Migration()->status.summary.progress, HasSubstr("/5000 rows"));
  Change({{"metadata", {{"annotations", {{"pgtier.dev/paused", nullptr}}}}}});
  Pass();
  EXPECT_EQ((*Job())["spec"]["suspend"], false);
  // Faster: another Job of the same step.
  Change({{"spec",
           {{"steps",
             Json::array({{{"name", "add"}, {"backfill", {{"table", "orders"}, {"set", "total = total + 1"}}}}})}}}});
  for (int i = 0; i < 3; ++i) Pass();
  EXPECT_EQ(PlayPod(), migrations::kExitDone);
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("True Complete"));
  EXPECT_EQ(Ask("SELECT count(*) FROM orders WHERE total <> id + 1"), "0");
}

TEST_F(MigrationReconcilerTest, AStepThatFailsIsNamedAndMended) {
  Run("ALTER TABLE orders RENAME TO others");
  Make();
  Pass();
  EXPECT_EQ(PlayPod(), migrations::kExitFailed);
  Pass();
  EXPECT_THAT(Says("Stalled"),
              HasSubstr("True StepFailed: step add-column: relation \"public.orders\" does not exist"));
  EXPECT_EQ(Migration()->status.steps[0].state, "Failed");
  Run("ALTER TABLE others RENAME TO orders");
  ASSERT_TRUE(client()->Delete(kube::kJobs, JobKey(), {.propagation = "Background"}, Soon()).has_value());
  Pass();
  ASSERT_TRUE(Job().has_value());
  EXPECT_EQ(PlayPod(), migrations::kExitDone);
  Pass();
  EXPECT_THAT(Says("Stalled"), HasSubstr("False"));
  EXPECT_THAT(Says("Complete"), HasSubstr("True"));
}

TEST_F(MigrationReconcilerTest, WaitsForApproval) {
  Make({{"spec", {{"requireApproval", true}}}});
  Pass();
  EXPECT_FALSE(Job().has_value());
  EXPECT_THAT(Says("Ready"), HasSubstr("True ApprovalRequired"));
  Change({{"metadata", {{"annotations", {{"pgtier.dev/approve", Migration()->status.plan_hash}}}}}});
  Pass();
  ASSERT_TRUE(Job().has_value());
  EXPECT_THAT(Migration()->status.approved_by, HasSubstr("annotation at"));
}

TEST_F(MigrationReconcilerTest, SomebodyElsesJobIsLeftAlone) {
  Json other{
      {"metadata", {{"namespace", namespace_name()}, {"name", JobKey().name}}},
      {"spec",
       {{"template",
         {{"spec", {{"restartPolicy", "Never"}, {"containers", Json::array({{{"name", "c"}, {"image", "i"}}})}}}}}}}};
  ASSERT_TRUE(client()->Create(kube::kJobs, other, Soon()).has_value());
  Make();
  Pass();
  EXPECT_THAT(Says("Stalled"), HasSubstr("exists already and is not of this policy"));
  EXPECT_EQ((*Job())["spec"]["template"]["spec"]["containers"][0]["image"], "i");
}

}  // namespace
}  // namespace pgtier::test
