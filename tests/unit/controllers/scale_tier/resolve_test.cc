// From a policy as written to what it means. The tables are in tests/cases/plan.
#include "controllers/scale_tier/resolve.h"

#include <gmock/gmock.h>

#include "lib/base/time_format.h"
#include "tests/support/yaml.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

// What a tier came to, under the names of the API.
Json Describe(const TierSettings& tier) {
  const PoolerSettings& pooler = tier.pooler;
  return {{"engine", pooler.engine},
          {"image", pooler.image},
          {"instances", pooler.instances},
          {"poolMode", pooler.pool_mode},
          {"maxClientConn", pooler.max_client_conn},
          {"defaultPoolSize", pooler.default_pool_size},
          {"minPoolSize", pooler.min_pool_size},
          {"reservePoolSize", pooler.reserve_pool_size},
          {"serverIdleTimeout", FormatDuration(pooler.server_idle_timeout)},
          {"replicas", tier.replicas},
          {"routeReads", tier.route_reads},
          {"maxLag", FormatDuration(tier.max_lag)},
          {"drainTimeout", FormatDuration(tier.drain_timeout)}};
}

TEST(Resolve, TiersAreDeltasOverTheBase) {
  Json file = pgtier::tests::LoadYaml("tests/cases/plan/resolve.yaml");
  ASSERT_GT(file["cases"].size(), 5U);
  for (const Json& test : file["cases"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    Json object = TwoTiers({{"pooler", nullptr}});
    object["spec"].merge_patch(test["spec"]);
    Scene scene(object);
    EXPECT_THAT(scene.policy.problems, IsEmpty());
    for (const auto& [tier, wanted] : test["tiers"].items()) {
      const TierSettings* settings = scene.resolved.Find(tier);
      ASSERT_NE(settings, nullptr) << tier;
      Json found = Describe(*settings);
      Json all = file["defaults"];
      all.update(wanted);
      EXPECT_EQ(found, all) << tier;
    }
  }
}

TEST(Resolve, DefaultsOfThePolicy) {
  Resolved resolved = Scene(TwoTiers({{"metrics", nullptr}})).resolved;
  EXPECT_EQ(resolved.interval, std::chrono::seconds(15));
  EXPECT_EQ(resolved.endpoint, "kyoyu");
  EXPECT_EQ(resolved.ladder.cooldown, std::chrono::minutes(30));
  EXPECT_THAT(resolved.ladder.windows, IsEmpty());
  EXPECT_FALSE(resolved.ladder.observe_only);
  EXPECT_THAT(resolved.unavailable, IsEmpty());
  EXPECT_EQ(Scene(TwoTiers({{"endpoint", {{"name", "db"}}}})).resolved.endpoint, "db");
  EXPECT_TRUE(Scene(TwoTiers({{"mode", "Observe"}})).resolved.ladder.observe_only);
}

TEST(Resolve, TheGapIsThreeIntervalsOrATwentiethOfTheWindow) {
  auto gap = [](const std::string& interval, const std::string& window) {
    Json object = TwoTiers({{"metrics", {{"interval", interval}}}});
    object["spec"]["tiers"][1]["enterWhen"]["any"][0]["for"] = window;
    return FormatDuration(Scene(object).resolved.ladder.tiers[1].triggers[0].gap);
  };
  EXPECT_EQ(gap("15s", "10m"), "45s");
  EXPECT_EQ(gap("15s", "1h"), "3m");
  EXPECT_EQ(gap("1m", "1h"), "3m");
  EXPECT_EQ(gap("5m", "1h"), "15m");
}

TEST(Resolve, SharpWindowsShutTheLadderRatherThanOpenIt) {
  Scene scene;
  scene.policy.spec.maintenance_windows = {"Sometimes"};
  Resolved resolved = Resolve(scene.policy);
  ASSERT_EQ(resolved.ladder.windows.size(), 1U);
  for (int hour = 0; hour < 24 * 7; ++hour) {
    EXPECT_FALSE(core::IsOpen(resolved.ladder.windows[0], scene.now + std::chrono::hours(hour)));
  }
}

TEST(Resolve, ShardingWaitsForApprovalUnlessThePolicySaysOtherwise) {
  Json object = TwoTiers();
  object["spec"]["tiers"][1]["sharding"] = Json::parse(R"({"citus": {"workers": 2}})");
  EXPECT_TRUE(Scene(object).resolved.ladder.tiers[1].approval_required);
  object["spec"]["tiers"][1]["approval"] = "Automatic";
  EXPECT_FALSE(Scene(object).resolved.ladder.tiers[1].approval_required);
  EXPECT_FALSE(Scene().resolved.ladder.tiers[1].approval_required);
}

TEST(Resolve, WhatIsNotDoneIsNamed) {
  Json file = pgtier::tests::LoadYaml("tests/cases/plan/unavailable.yaml");
  ASSERT_GT(file["rows"].size(), 10U);
  for (const Json& row : file["rows"]) {
    SCOPED_TRACE(row.dump());
    Json object = TwoTiers();
    if (row.contains("spec")) object["spec"].merge_patch(row["spec"]);
    if (row.contains("tier")) object["spec"]["tiers"][1].merge_patch(row["tier"]);
    if (row.contains("trigger")) object["spec"]["tiers"][1]["enterWhen"]["any"][0].merge_patch(row["trigger"]);
    Resolved resolved = Scene(object).resolved;
    std::vector<std::string> fields;
    for (const Unavailable& gap : resolved.unavailable) fields.push_back(gap.field);
    EXPECT_THAT(fields, Contains(HasSubstr(row["field"].get<std::string>())));
    std::string blocks = row.value("blocks", "nothing");
    EXPECT_EQ(!resolved.WholePolicyUnavailable().empty(), blocks == "policy");
    if (blocks == "policy") continue;
    EXPECT_EQ(!resolved.ladder.tiers[1].blocked.reason.empty(), blocks == "tier");
    EXPECT_TRUE(resolved.ladder.tiers[0].blocked.reason.empty());
  }
}

std::string ImageOf(const Json& base, const Json& own, const std::string& release) {
  Json object = TwoTiers({{"pooler", base}});
  object["spec"]["tiers"][1]["pooler"] = own;
  return Resolve(Scene(object).policy, release).tiers[1].pooler.image;
}

TEST(Resolve, AnImageIsOfOneEngine) {
  EXPECT_EQ(ImageOf({{"image", "bouncer:mine"}}, {{"instances", 1}}, "cat:release"), "bouncer:mine");
  EXPECT_EQ(ImageOf({{"image", "bouncer:mine"}}, {{"engine", "PgCat"}}, "cat:release"), "cat:release");
  EXPECT_EQ(ImageOf({{"image", "bouncer:mine"}}, {{"engine", "PgCat"}, {"image", "cat:mine"}}, ""), "cat:mine");
  EXPECT_EQ(ImageOf({{"engine", "PgCat"}, {"image", "cat:mine"}}, {{"engine", "PgCat"}}, "cat:release"), "cat:mine");
  EXPECT_EQ(ImageOf({{"engine", "PgCat"}, {"image", "cat:mine"}}, {{"engine", "PgBouncer"}}, "cat:release"), "");
}

TEST(Resolve, TheStrategyIsTheEnginesOwnUnlessThePolicySaysOtherwise) {
  auto strategy = [](const Json& pooler, const Json& routing) {
    Json object = TwoTiers();
    object["spec"]["tiers"][1]["pooler"] = pooler;
    object["spec"]["tiers"][1]["routing"] = routing;
    return Resolve(Scene(object).policy, "cat:release").tiers[1].strategy;
  };
  EXPECT_EQ(strategy(Json::object(), Json::object()), "RoundRobin");
  EXPECT_EQ(strategy({{"engine", "PgCat"}}, Json::object()), "LeastConnections");
  EXPECT_EQ(strategy({{"engine", "PgCat"}}, {{"strategy", "Random"}}), "Random");
  EXPECT_EQ(strategy(Json::object(), {{"strategy", "Weighted"}}), "Weighted");
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
