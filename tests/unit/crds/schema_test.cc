// Holds crds/scaletierpolicies.yaml and the C++ types together: every field of the schema is read by the decoder, or
// stands in the list of those that this release names as not available.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "crds/scale_tier_policy_codec.h"
#include "tests/support/yaml.h"
#include "tests/unit/crds/schema_sample.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

Json SpecSchema() {
  Json crd = tests::LoadYaml("crds/scaletierpolicies.yaml");
  return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
}

// `any` and `all` exclude each other, so each is sampled without the other.
Json Policy(const Json& spec) { return {{"metadata", {{"name", "sample"}}}, {"spec", spec}}; }

// Fields that are stored and not acted on: resolve.cc names each of them in the condition NotAvailable, by the object
// that holds it.
const std::set<std::string> kNotRead = {"demand", "sharding/external"};

bool Exempt(const std::string& pointer) {
  for (const std::string& name : kNotRead) {
    if (pointer.find("/" + name + "/") != std::string::npos || pointer.ends_with("/" + name)) return true;
  }
  return false;
}

// Helm takes no file from outside of a chart, and a link does not survive every way in which a repository is copied.
TEST(Schema, TheChartHoldsACopy) {
  EXPECT_EQ(tests::LoadYaml("helm/pgtier/crds/scaletierpolicies.yaml"), tests::LoadYaml("crds/scaletierpolicies.yaml"))
      << "cp crds/scaletierpolicies.yaml helm/pgtier/crds/";
}

TEST(Schema, EveryFieldIsReadByTheDecoder) {
  Json schema = SpecSchema();
  std::vector<std::string> leaves;
  Leaves(schema, "", leaves);
  ASSERT_GT(leaves.size(), 80U);
  for (const char* other : {"all", "any"}) {
    Json sample = Sample(schema);
    sample["tiers"][0]["enterWhen"].erase(other);
    // Of one trigger only one source and one comparison are read; each is tried below all the same.
    // The full sample sets what excludes each other, so it has problems of its own: a field counts as read only when
    // breaking it changes them.
    const std::vector<std::string> unbroken = DecodeScaleTierPolicy(Policy(sample))->problems;
    for (const std::string& leaf : leaves) {
      if (leaf.find(std::string("/enterWhen/") + other) != std::string::npos || Exempt(leaf)) continue;
      SCOPED_TRACE(leaf);
      Json broken = sample;
      Json::json_pointer pointer(leaf);
      Json& field = broken[pointer];
      field = field.is_object() ? Json("wrong") : Json::object({{"wrong", true}});
      Result<ScaleTierPolicy> decoded = DecodeScaleTierPolicy(Policy(broken));
      ASSERT_TRUE(decoded.has_value());
      EXPECT_NE(decoded->problems, unbroken) << "the decoder does not read it";
    }
  }
}

TEST(Schema, AFullSampleDecodesWithoutAProblem) {
  Json sample = Sample(SpecSchema());
  sample["tiers"][0]["enterWhen"].erase("all");
  Json& trigger = sample["tiers"][0]["enterWhen"]["any"][0];
  for (const char* source : {"sql", "http", "status", "demand", "pooler"}) trigger.erase(source);
  for (const char* comparison : {"atLeast", "below"}) trigger.erase(comparison);
  trigger["leave"].erase("above");
  Result<ScaleTierPolicy> decoded = DecodeScaleTierPolicy(Policy(sample));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_THAT(decoded->problems, testing::IsEmpty());
}

TEST(Schema, NamesWhatCannotBeRead) {
  Json spec = Sample(SpecSchema());
  spec["tiers"][0]["enterWhen"].erase("all");
  spec["tiers"][0]["enterWhen"]["any"][0]["above"] = "50m";
  Result<ScaleTierPolicy> decoded = DecodeScaleTierPolicy(Policy(spec));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_THAT(decoded->problems,
              testing::Contains(testing::StartsWith("spec.tiers[0].enterWhen.any[0].above: not a number")));
}

}  // namespace
}  // namespace pgtier::crds
