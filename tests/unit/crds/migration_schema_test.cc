// Holds crds/sqlmigrations.yaml and the C++ types together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crds/sql_migration_codec.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"
#include "tests/unit/crds/schema_sample.h"

namespace pgtier::crds {
namespace {

Json MigrationSchema(const char* part) {
  Json crd = tests::LoadYaml("crds/sqlmigrations.yaml");
  return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
}

Json Migration(const Json& spec) { return {{"metadata", {{"name", "sample"}}}, {"spec", spec}}; }

TEST(MigrationSchema, TheChartHoldsACopy) {
  EXPECT_EQ(tests::LoadYaml("helm/pgtier/crds/sqlmigrations.yaml"), tests::LoadYaml("crds/sqlmigrations.yaml"))
      << "cp crds/sqlmigrations.yaml helm/pgtier/crds/";
}

TEST(MigrationSchema, EveryFieldIsReadByTheDecoder) {
  Json schema = MigrationSchema("spec");
  std::vector<std::string> leaves;
  Leaves(schema, "", leaves);
  ASSERT_GT(leaves.size(), 30U);
  Json sample = Sample(schema);
  const std::vector<std::string> unbroken = DecodeSqlMigration(Migration(sample))->problems;
  for (const std::string& leaf : leaves) {
    SCOPED_TRACE(leaf);
    Json broken = sample;
    broken[Json::json_pointer(leaf)] = Json::object({{"wrong", true}});
    EXPECT_NE(DecodeSqlMigration(Migration(broken))->problems, unbroken) << "the decoder does not read it";
  }
}

// What the runner is given is what was written.
TEST(MigrationSchema, StepsAreEncodedAsTheyWereWritten) {
  Json schema = MigrationSchema("spec")["properties"]["steps"]["items"];
  for (const char* kind : {"sql", "createIndex", "backfill", "verify", "partitionHistory"}) {
    SCOPED_TRACE(kind);
    Json step{{"name", "one"}, {kind, Sample(schema["properties"][kind])}};
    if (std::string(kind) == "sql") step["transaction"] = false;
    if (std::string(kind) == "createIndex") step[kind].erase("definition");
    Result<SqlMigration> decoded = DecodeSqlMigration(Migration({{"steps", Json::array({step})}}));
    ASSERT_TRUE(decoded.has_value());
    EXPECT_THAT(decoded->problems, testing::IsEmpty());
    EXPECT_EQ(EncodeMigrationStep(decoded->spec.steps[0]), step);
  }
}

TEST(MigrationSchema, AStepThatIsTwoIsAProblem) {
  Json step{{"name", "two"}, {"sql", "SELECT 1"}, {"verify", {{"query", "SELECT 1"}, {"expect", "1"}}}};
  EXPECT_THAT(DecodeSqlMigration(Migration({{"steps", Json::array({step})}}))->problems,
              testing::ElementsAre(testing::HasSubstr("not exactly one of")));
}

TEST(MigrationSchema, TheExampleDecodes) {
  Result<SqlMigration> migration = DecodeSqlMigration(tests::LoadYaml("manifests/examples/widen-orders.yaml"));
  ASSERT_TRUE(migration.has_value());
  EXPECT_THAT(migration->problems, testing::IsEmpty());
  ASSERT_EQ(migration->spec.steps.size(), 4U);
  EXPECT_EQ(migration->spec.steps[1].backfill->batch_rows, 2000);
  EXPECT_EQ(migration->spec.slot_retained, 5.0 * 1024 * 1024 * 1024);
}

TEST(MigrationStatusCodec, WritesOnlyWhatTheSchemaHasAndReadsItBack) {
  WallTime time = *ParseTime("2026-11-20T17:02:11Z");
  SqlMigrationStatus status;
  status.observed_generation = 4;
  status.summary = {"2/3 fill", "10/20 rows", "5m"};
  status.plan_hash = "0123456789abcdef";
  status.approved_by = "Git at 2026-11-20T17:02:11Z";
  status.steps = {{"fill", "Done", time, time, "10/20 rows", "5m", "LockHeld: why"}};
  status.dry_run = {"0123456789abcdef", {"1 fill: updates"}};
  status.conditions = {{"Ready", "True", "Complete", "all is well", 4, time}};
  Json written = EncodeStatus(status);
  Json properties = MigrationSchema("status")["properties"];
  for (const auto& [name, value] : written.items()) {
    ASSERT_TRUE(properties.contains(name)) << name;
    Json members = value.is_array() ? value[0] : value;
    Json known = value.is_array() ? properties[name]["items"]["properties"] : properties[name]["properties"];
    if (!members.is_object()) continue;
    for (const auto& [member, ignored] : members.items()) EXPECT_TRUE(known.contains(member)) << name << "." << member;
  }
  Result<SqlMigration> decoded = DecodeSqlMigration({{"metadata", {{"name", "m"}}}, {"status", written}});
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(EncodeStatus(decoded->status), written);
  EXPECT_EQ(EncodeStatus(SqlMigrationStatus{}).dump().find("null"), std::string::npos);
}

}  // namespace
}  // namespace pgtier::crds
