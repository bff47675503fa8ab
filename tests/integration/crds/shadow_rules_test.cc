// What a real API server says to ShadowTablePolicies, good and bad ones.
#include <gmock/gmock.h>

#include "tests/integration/crds/policy_server.h"
#include "tests/support/yaml.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class ShadowRules : public PolicyServerTest {
 protected:
  static Json ShadowTable() { return tests::LoadYaml("tests/cases/crd/bad_shadow.yaml"); }
};

TEST_F(ShadowRules, BadObjectsAreRefusedInHelpfulWords) {
  const Json table = ShadowTable();
  ASSERT_GT(table["creates"].size(), 30U);
  ExpectRefusals(kShadowTablePolicies, table["creates"]);
}

TEST_F(ShadowRules, ChangesAreRefusedOrTaken) {
  const Json table = ShadowTable();
  ExpectChanges(kShadowTablePolicies, table["updates"]);
}

TEST_F(ShadowRules, NothingIsDefaultedInsideLists) {
  Json wanted = Example("kyoyu-audit");
  ASSERT_EQ(Refusal(wanted), "");
  auto stored = client()->Get(kShadowTablePolicies, {namespace_name(), "kyoyu-audit"}, Soon());
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ((*stored)["spec"]["tiers"], wanted["spec"]["tiers"]);
  EXPECT_EQ((*stored)["spec"]["tables"], wanted["spec"]["tables"]);
  EXPECT_EQ((*stored)["spec"]["deletionPolicy"], "Retain");
}

TEST_F(ShadowRules, GetPrintsWhatMattersByEveryName) {
  ASSERT_EQ(Refusal(Example("audit-dev")), "");
  Json status = Json::parse(R"({
    "tier": "triggers", "tierSince": "2020-01-01T00:00:00Z", "nextTier": "notify",
    "summary": {"closest": "insert-p99 31ms/50ms", "queue": "0", "lag": "0s", "tables": "1/1"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "Started", "message": "",
                    "lastTransitionTime": "2020-01-01T00:00:00Z"}]})");
  Json object{{"metadata", {{"namespace", namespace_name()}, {"name", "audit-dev"}}}, {"status", status}};
  ASSERT_TRUE(client()->ApplyStatus(kShadowTablePolicies, object, Soon()).has_value());
  for (const char* name : {"shadowtables", "shtp", "shadowtablepolicies"}) {
    EXPECT_THAT(Kubectl({"get", name, "-n", namespace_name()}),
                testing::ContainsRegex(
                    "NAME +TIER +SINCE +NEXT +CLOSEST +QUEUE +LAG +TABLES +READY +REASON *\n"
                    "audit-dev +triggers +[0-9]+y[^ ]* +notify +insert-p99 31ms/50ms +0 +0s +1/1 +True +Started"))
        << name;
  }
}

}  // namespace
}  // namespace pgtier::test
