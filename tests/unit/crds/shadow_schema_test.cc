// Holds crds/shadowtablepolicies.yaml, the C++ types and the ladder's common fields together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crds/shadow_table_policy_codec.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"
#include "tests/unit/crds/schema_sample.h"

namespace pgtier::crds {
namespace {

Json SchemaOf(const std::string& file, const char* part) {
  Json crd = tests::LoadYaml("crds/" + file);
  return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
}

Json ShadowSpecSchema() { return SchemaOf("shadowtablepolicies.yaml", "spec"); }

Json ShadowPolicy(const Json& spec) { return {{"metadata", {{"name", "sample"}}}, {"spec", spec}}; }

// A sample with one of each pair that excludes each other.
Json ShadowSample(const char* without) {
  Json sample = Sample(ShadowSpecSchema());
  sample["tiers"][0]["enterWhen"].erase(without);
  return sample;
}

TEST(ShadowSchema, TheChartHoldsACopy) {
  EXPECT_EQ(tests::LoadYaml("helm/pgtier/crds/shadowtablepolicies.yaml"),
            tests::LoadYaml("crds/shadowtablepolicies.yaml"))
      << "cp crds/shadowtablepolicies.yaml helm/pgtier/crds/";
}

// One trigger shape everywhere: what people and the codec know of one kind holds for the other.
TEST(ShadowSchema, SharesTheLaddersFields) {
  Json scale = SchemaOf("scaletierpolicies.yaml", "spec")["properties"];
  Json shadow = ShadowSpecSchema()["properties"];
  for (const char* field : {"metrics", "transitions", "pin", "demands", "approvedPlan", "mode"}) {
    EXPECT_EQ(shadow[field], scale[field]) << field;
  }
  EXPECT_EQ(shadow["tiers"]["items"]["properties"]["enterWhen"], scale["tiers"]["items"]["properties"]["enterWhen"]);
  Json scale_status = SchemaOf("scaletierpolicies.yaml", "status")["properties"];
  Json shadow_status = SchemaOf("shadowtablepolicies.yaml", "status")["properties"];
  for (const char* field : {"observedGeneration", "tier", "tierSince", "targetTier", "nextTier", "tiers", "plan",
                            "history", "conditions"}) {
    EXPECT_EQ(shadow_status[field], scale_status[field]) << field;
  }
}

TEST(ShadowSchema, EveryFieldIsReadByTheDecoder) {
  std::vector<std::string> leaves;
  Leaves(ShadowSpecSchema(), "", leaves);
  ASSERT_GT(leaves.size(), 60U);
  for (const char* other : {"all", "any"}) {
    Json sample = ShadowSample(other);
    // The full sample sets what excludes each other, so it has problems of its own: a field counts as read only when
    // breaking it changes them.
    const std::vector<std::string> unbroken = DecodeShadowTablePolicy(ShadowPolicy(sample))->problems;
    for (const std::string& leaf : leaves) {
      if (leaf.find(std::string("/enterWhen/") + other) != std::string::npos || leaf.ends_with("/demand")) continue;
      SCOPED_TRACE(leaf);
      Json broken = sample;
      Json& field = broken[Json::json_pointer(leaf)];
      field = field.is_object() ? Json("wrong") : Json::object({{"wrong", true}});
      Result<ShadowTablePolicy> decoded = DecodeShadowTablePolicy(ShadowPolicy(broken));
      ASSERT_TRUE(decoded.has_value());
      EXPECT_NE(decoded->problems, unbroken) << "the decoder does not read it";
    }
  }
}

TEST(ShadowSchema, TheExampleDecodes) {
  Result<ShadowTablePolicy> policy = DecodeShadowTablePolicy(tests::LoadYaml("manifests/examples/kyoyu-audit.yaml"));
  ASSERT_TRUE(policy.has_value());
  EXPECT_THAT(policy->problems, testing::IsEmpty());
  const ShadowTablePolicySpec& spec = policy->spec;
  EXPECT_EQ(spec.database_name, "kyoyu");
  EXPECT_EQ(spec.channel, "audit_shadow_channel");
  ASSERT_EQ(spec.tables.size(), 6U);
  EXPECT_EQ(spec.tables[3].shadow, "public.trades_history");
  EXPECT_EQ(spec.actor_setting, "app.actor");
  ASSERT_EQ(spec.tiers.size(), 3U);
  EXPECT_EQ(spec.tiers[1].workers_max, 3);
  EXPECT_EQ(spec.tiers[1].queue_alert, 1000);
  EXPECT_EQ(spec.tiers[1].triggers[0].http.scale, 0.001);
  EXPECT_EQ(spec.tiers[2].slot, "pgtier_audit");
  EXPECT_EQ(spec.tiers[2].max_retained_wal, 20.0 * 1024 * 1024 * 1024);
  EXPECT_EQ(spec.tiers[2].triggers.size(), 2U);
}

ShadowTablePolicyStatus FullShadowStatus() {
  WallTime time = *ParseTime("2026-11-20T17:02:11Z");
  ShadowTablePolicyStatus status;
  status.observed_generation = 4;
  status.tier = "notify";
  status.tier_since = time;
  status.next_tier = "cdc";
  status.target_tier = "cdc";
  status.epoch = 7;
  status.summary = {"audit-rows 62M/100M", "12", "40ms", "6/6", "1/1"};
  status.tables = {{"public.trades", "public.trades_history", true, "NoPrimaryKey: none"}};
  status.slot = {"pgtier_audit", "reserved", true};
  status.tiers = {{"notify", time, "InsertP99AboveThreshold", "why", std::nullopt, {}}};
  status.plan = {"0123456789abcdef", "notify", "cdc", "", {{"start the worker", true}}, {{"tier", "notify", "cdc"}}};
  status.history = {{"triggers", "notify", time, "why"}};
  status.conditions = {{"Ready", "True", "Holding", "all is well", 4, time}};
  return status;
}

TEST(ShadowStatusCodec, WritesOnlyWhatTheSchemaHasAndReadsItBack) {
  Json written = EncodeStatus(FullShadowStatus());
  Json properties = SchemaOf("shadowtablepolicies.yaml", "status")["properties"];
  for (const auto& [name, value] : written.items()) {
    ASSERT_TRUE(properties.contains(name)) << name;
    Json members = value.is_array() ? value[0] : value;
    Json known = value.is_array() ? properties[name]["items"]["properties"] : properties[name]["properties"];
    if (!members.is_object()) continue;
    for (const auto& [member, ignored] : members.items()) EXPECT_TRUE(known.contains(member)) << name << "." << member;
  }
  Result<ShadowTablePolicy> decoded = DecodeShadowTablePolicy({{"metadata", {{"name", "p"}}}, {"status", written}});
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(EncodeStatus(decoded->status), written);
  std::string empty = EncodeStatus(ShadowTablePolicyStatus{}).dump();
  EXPECT_EQ(empty.find("null"), std::string::npos) << empty;
  EXPECT_EQ(empty.find("[]"), std::string::npos) << empty;
}

}  // namespace
}  // namespace pgtier::crds
