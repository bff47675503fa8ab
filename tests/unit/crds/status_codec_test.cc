#include <gtest/gtest.h>

#include "crds/scale_tier_policy_codec.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

ScaleTierPolicyStatus FullStatus() {
  WallTime time = *ParseTime("2026-11-20T17:02:11Z");
  Observation seen;
  seen.name = "pool-utilisation";
  seen.observed = "87%";
  seen.threshold = "80%";
  seen.window = "10m";
  seen.source = "pooler";
  seen.leave = "< 20% (1d)";
  seen.memory = {core::TriggerState::kUnknown, std::nullopt, time, time, time, time, "NoData: nothing"};
  ScaleTierPolicyStatus status;
  status.observed_generation = 4;
  status.tier = "read-replicas";
  status.tier_since = time;
  status.next_tier = "sharded";
  status.target_tier = "sharded";
  status.image = "postgres:17";
  status.rotations.certificates = {"2026-11-20", time};
  status.system_identifier = "7123456789012345678";
  status.summary = {"disk 62%/80%", "2/2", "PgBouncer 4/4", "<10ms", "kyoyu-rw.data"};
  status.tiers = {{"read-replicas", time, "PoolUtilisationAboveThreshold", "why", seen, {seen}}};
  status.replicas = {{"kyoyu-2", "<10ms", true, true}};
  status.scaling = {3, 4, "Growing", "2 to 3: why", time, time, time, time};
  status.plan = {"0123456789abcdef",
                 "one",
                 "two",
                 "Git at 2026-11-20T17:02:11Z",
                 {{"clone kyoyu-3", true}},
                 {{"pooler.engine", "PgBouncer", "PgCat"}}};
  status.history = {{"single-node", "read-replicas", time, "why"}};
  status.conditions = {{"Ready", "True", "Holding", "all is well", 4, time}};
  return status;
}

// Every member of `value` is a property of `schema`.
void ExpectKnown(const Json& value, const Json& schema, const std::string& path) {
  if (value.is_array()) {
    for (const Json& item : value) ExpectKnown(item, schema["items"], path + "[]");
    return;
  }
  if (!value.is_object()) return;
  for (const auto& [name, member] : value.items()) {
    ASSERT_TRUE(schema.contains("properties") && schema["properties"].contains(name))
        << path << "." << name << " is not in the schema: the apiserver would drop it";
    ExpectKnown(member, schema["properties"][name], path + "." + name);
  }
}

TEST(StatusCodec, WritesOnlyWhatTheSchemaHas) {
  Json crd = tests::LoadYaml("crds/scaletierpolicies.yaml");
  const Json& schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
  ExpectKnown(EncodeStatus(FullStatus()), schema, "status");
}

TEST(StatusCodec, ReadsBackWhatItWrote) {
  Json written = EncodeStatus(FullStatus());
  Result<ScaleTierPolicy> decoded = DecodeScaleTierPolicy({{"metadata", {{"name", "p"}}}, {"status", written}});
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(EncodeStatus(decoded->status), written);
}

TEST(StatusCodec, HoldsNoNullsAndNoEmptyLists) {
  std::string text = EncodeStatus(ScaleTierPolicyStatus{}).dump();
  EXPECT_EQ(text.find("null"), std::string::npos) << text;
  EXPECT_EQ(text.find("[]"), std::string::npos) << text;
}

}  // namespace
}  // namespace pgtier::crds
