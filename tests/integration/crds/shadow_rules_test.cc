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
  for (const Json& row : table["creates"]) {
    SCOPED_TRACE(row["set"].dump());
    Json policy = Example(row["of"]);
    SetAll(policy, row["set"]);
    std::string words = Refusal(policy);
    EXPECT_THAT(words, HasSubstr(row["says"].get<std::string>()));
    if (words.empty()) Kubectl({"delete", "shadowtables", "--all", "-n", namespace_name()});
  }
}

TEST_F(ShadowRules, ChangesAreRefusedOrTaken) {
  int number = 0;
  const Json table = ShadowTable();
  for (const Json& row : table["updates"]) {
    SCOPED_TRACE(row.dump());
    Json policy = Example(row["of"]);
    policy["metadata"]["name"] = "policy-" + std::to_string(++number);
    ASSERT_EQ(Refusal(policy), "");
    kube::ObjectKey key{namespace_name(), policy["metadata"]["name"]};
    if (row.contains("status")) {
      Json status{{"metadata", {{"namespace", key.namespace_}, {"name", key.name}}}, {"status", row["status"]}};
      ASSERT_TRUE(client()->ApplyStatus(kShadowTablePolicies, status, Soon()).has_value());
    }
    auto changed = client()->Get(kShadowTablePolicies, key, Soon());
    ASSERT_TRUE(changed.has_value());
    SetAll(*changed, row["set"]);
    auto replaced = client()->Replace(kShadowTablePolicies, *changed, Soon());
    if (!row.contains("says")) {
      EXPECT_TRUE(replaced.has_value()) << replaced.error().message;
      continue;
    }
    ASSERT_FALSE(replaced.has_value());
    EXPECT_THAT(replaced.error().message, HasSubstr(row["says"].get<std::string>()));
  }
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
