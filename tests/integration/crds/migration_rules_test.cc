// What a real API server says to SqlMigrations, good and bad ones.
#include <gmock/gmock.h>

#include "tests/integration/crds/policy_server.h"
#include "tests/support/yaml.h"

namespace pgtier::test {
namespace {

class MigrationRules : public PolicyServerTest {
 protected:
  static nlohmann::json MigrationTable() { return tests::LoadYaml("tests/cases/crd/bad_migration.yaml"); }
};

TEST_F(MigrationRules, BadObjectsAreRefusedInHelpfulWords) {
  const nlohmann::json table = MigrationTable();
  ASSERT_GT(table["creates"].size(), 20U);
  ExpectRefusals(kSqlMigrations, table["creates"]);
}

TEST_F(MigrationRules, ChangesAreRefusedOrTaken) {
  const nlohmann::json table = MigrationTable();
  ExpectChanges(kSqlMigrations, table["updates"]);
}

TEST_F(MigrationRules, GetPrintsWhatMattersByEveryName) {
  nlohmann::json wanted = Example("widen-orders");
  ASSERT_EQ(Refusal(wanted), "");
  auto stored = client()->Get(kSqlMigrations, {namespace_name(), "widen-orders"}, Soon());
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ((*stored)["spec"], wanted["spec"]) << "nothing is defaulted";
  nlohmann::json status = nlohmann::json::parse(R"({
    "summary": {"step": "2/4 fill", "progress": "123000/1000000 rows", "eta": "4m"},
    "conditions": [{"type": "Ready", "status": "False", "reason": "Running", "message": "",
                    "lastTransitionTime": "2020-01-01T00:00:00Z"}]})");
  nlohmann::json object{{"metadata", {{"namespace", namespace_name()}, {"name", "widen-orders"}}}, {"status", status}};
  ASSERT_TRUE(client()->ApplyStatus(kSqlMigrations, object, Soon()).has_value());
  for (const char* name : {"sqlm", "sqlmigrations"}) {
    EXPECT_THAT(Kubectl({"get", name, "-n", namespace_name()}),
                testing::ContainsRegex("NAME +STEP +PROGRESS +ETA +READY +REASON *\n"
                                       "widen-orders +2/4 fill +123000/1000000 rows +4m +False +Running"))
        << name;
  }
}

}  // namespace
}  // namespace pgtier::test
