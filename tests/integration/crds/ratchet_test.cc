// A rule tightened later, on the smallest node, must not lock old objects in: their status is still written, their
// finalizers still go, and fields beside the fault still change.
#include <gmock/gmock.h>

#include "lib/kube/json.h"
#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

constexpr char kCrd[] = "scaletierpolicies.pgtier.dev";

class Ratchet : public PolicyServerTest {
 protected:
  void SetUp() override {
    PolicyServerTest::SetUp();
    if (IsSkipped()) return;
    auto crd = client()->Get(kube::kCustomResourceDefinitions, {"", kCrd}, Soon());
    ASSERT_TRUE(crd.has_value()) << crd.error().message;
    before_ = (*crd)["spec"];
  }
  // Other tests of this program want the schema as it was.
  void TearDown() override {
    if (!before_.is_null()) PutSpec(before_);
  }

  void PutSpec(const Json& spec) {
    auto crd = client()->Get(kube::kCustomResourceDefinitions, {"", kCrd}, Soon());
    ASSERT_TRUE(crd.has_value());
    (*crd)["spec"] = spec;
    auto replaced = client()->Replace(kube::kCustomResourceDefinitions, *crd, Soon());
    ASSERT_TRUE(replaced.has_value()) << replaced.error().message;
  }

  // Puts a rule on one node of the spec and waits until new objects are refused by it.
  void Tighten(const std::string& pointer, const Json& keywords) {
    Json spec = before_;
    spec[Json::json_pointer("/versions/0/schema/openAPIV3Schema/properties/spec/properties" + pointer)].update(
        keywords);
    PutSpec(spec);
    Json probe = Example("dev");
    probe["metadata"]["name"] = "probe";
    const Deadline deadline = Soon();
    while (Refusal(probe).empty() && !deadline.Expired()) {
      Kubectl({"delete", "scaletiers", "probe", "-n", namespace_name()});
      SleepFor(std::chrono::milliseconds(50), {});
    }
    ASSERT_NE(Refusal(probe), "") << "the rule is not in force";
  }

  // Makes an object, tightens, then does everything that must go on.
  void ExpectNotLockedIn(const std::string& pointer, const Json& keywords) {
    Json policy = Example("dev");
    policy["metadata"]["finalizers"] = {"pgtier.dev/test"};
    ASSERT_EQ(Refusal(policy), "");
    Tighten(pointer, keywords);

    Json status{{"metadata", {{"namespace", namespace_name()}, {"name", "dev"}}},
                {"status", {{"observedGeneration", 1}, {"tier", "single-node"}}}};
    auto written = client()->ApplyStatus(kScaleTierPolicies, status, Soon());
    EXPECT_TRUE(written.has_value()) << written.error().message;
    kube::ObjectKey key{namespace_name(), "dev"};
    auto patched = client()->MergePatch(kScaleTierPolicies, key, {{"spec", {{"mode", "Observe"}}}}, Soon());
    EXPECT_TRUE(patched.has_value()) << patched.error().message;

    ASSERT_TRUE(client()->Delete(kScaleTierPolicies, key, {}, Soon()).has_value());
    auto freed = client()->MergePatch(kScaleTierPolicies, key, {{"metadata", {{"finalizers", nullptr}}}}, Soon());
    EXPECT_TRUE(freed.has_value()) << freed.error().message;
    EXPECT_EQ(client()->Get(kScaleTierPolicies, key, Soon()).error().code, Code::kNotFound);
  }

 private:
  Json before_;
};

TEST_F(Ratchet, ARuleOnTheSmallestNode) {
  Json rule{{"rule", "self > 1000"}, {"message", "at least 1000 from now on"}};
  ExpectNotLockedIn("/pooler/properties/maxClientConn", {{"x-kubernetes-validations", Json::array({rule})}});
}

TEST_F(Ratchet, ABoundOnTheSmallestNode) { ExpectNotLockedIn("/pooler/properties/maxClientConn", {{"minimum", 1000}}); }

TEST_F(Ratchet, APatternInsideTheTiers) { ExpectNotLockedIn("/tiers/items/properties/name", {{"pattern", "^tier-"}}); }

}  // namespace
}  // namespace pgtier::test
