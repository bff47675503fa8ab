// What must be accepted, and what people see of it.
#include <gmock/gmock.h>

#include <fstream>

#include "lib/kube/json.h"
#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

class Examples : public PolicyServerTest {};

TEST_F(Examples, AreAccepted) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(PGTIER_SOURCE_DIR) + "/manifests/examples")) {
    SCOPED_TRACE(entry.path().string());
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    Json policy = Example(entry.path().stem());
    policy["metadata"]["name"] = "example-" + std::to_string(files);
    EXPECT_EQ(Refusal(policy), "");
    // The file itself, by the strict validation that kubectl does.
    bool failed = false;
    Kubectl({"create", "namespace", "data"});
    std::string words = Kubectl({"create", "--dry-run=server", "--validate=strict", "-f", entry.path()}, &failed);
    EXPECT_FALSE(failed) << words;
  }
  EXPECT_GE(files, 3);
}

TEST_F(Examples, NothingIsDefaultedInsideLists) {
  ASSERT_EQ(Refusal(Example("kyoyu")), "");
  Json wanted = Example("kyoyu")["spec"];
  Json stored = Get("kyoyu")["spec"];
  EXPECT_EQ(stored["tiers"], wanted["tiers"]) << "client-side apply would see a difference for ever";
  EXPECT_EQ(stored["mode"], "Enforce");
  EXPECT_EQ(stored["deletionPolicy"], "Retain");
  EXPECT_EQ(stored["transitions"]["down"], "Never");
}

TEST_F(Examples, GetPrintsWhatMattersByEveryName) {
  ASSERT_EQ(Refusal(Example("dev")), "");
  Json status = Json::parse(R"({
    "tier": "single-node", "tierSince": "2020-01-01T00:00:00Z", "nextTier": "read-replicas",
    "summary": {"closest": "disk 62%/80%", "replicas": "2/2", "pooler": "PgBouncer 2/2", "lag": "12ms",
                "endpoint": "dev-rw.x"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "PoolUtilisationAboveThreshold", "message": "",
                    "lastTransitionTime": "2020-01-01T00:00:00Z"}]})");
  Json object{{"metadata", {{"namespace", namespace_name()}, {"name", "dev"}}}, {"status", status}};
  ASSERT_TRUE(client()->ApplyStatus(kScaleTierPolicies, object, Soon()).has_value());
  for (const char* name : {"scaletiers", "scaletier", "stp", "scaletierpolicies", "pgtier"}) {
    std::string printed = Kubectl({"get", name, "-n", namespace_name()});
    EXPECT_THAT(printed,
                testing::ContainsRegex(
                    "NAME +TIER +SINCE +NEXT +CLOSEST +REPLICAS +POOLER +READY +REASON *\n"
                    "(scaletierpolicy.pgtier.dev/)?dev +single-node +[0-9]+y[^ ]* +read-replicas +disk 62%/80% "
                    "+2/2 +PgBouncer 2/2 +True +PoolUtilisationAboveThreshold"))
        << name;
  }
  EXPECT_THAT(Kubectl({"get", "stp", "-n", namespace_name(), "-o", "wide"}),
              testing::ContainsRegex("MODE +LAG +ENDPOINT +AGE *\n.*Enforce +12ms +dev-rw.x"));
}

TEST_F(Examples, ExplainTellsWhatAFieldMeans) {
  EXPECT_THAT(Kubectl({"explain", "scaletiers.spec.pooler.poolMode"}), HasSubstr("Absent: Transaction"));
}

}  // namespace
}  // namespace pgtier::test
