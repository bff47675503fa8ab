#include "controllers/shadow_table/resolve.h"

#include <gmock/gmock.h>

#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using testing::Contains;
using testing::HasSubstr;

TEST(ShadowResolve, AppliesDocumentedDefaults) {
  Scene scene(TwoTables({{"spec", {{"metrics", nullptr}}}}));
  Resolved resolved = Resolve(scene.policy);
  EXPECT_EQ(resolved.interval, std::chrono::seconds(15));
  EXPECT_EQ(resolved.spec.policy, "data/audit");
  EXPECT_EQ(resolved.spec.channel, "pgtier_shadow");
  EXPECT_EQ(resolved.spec.actor_setting, "app.actor");
  ASSERT_EQ(resolved.spec.tables.size(), 2U);
  EXPECT_EQ(resolved.spec.tables[0].history, "");
  EXPECT_EQ(resolved.spec.tables[1].history, "public.trades_log");
  EXPECT_EQ(resolved.workers.max, 3);
  EXPECT_TRUE(resolved.unavailable.empty());
}

TEST(ShadowResolve, NamesAreAsTheyAreStored) {
  Scene scene(TwoTables({{"spec", {{"tables", {{{"name", "public.Trades"}}, {{"name", "Sessions"}}}}}}}));
  Resolved resolved = Resolve(scene.policy);
  EXPECT_EQ(resolved.spec.tables[0].source, R"("public"."Trades")");
  EXPECT_EQ(resolved.spec.tables[1].source, R"("Sessions")");
}

TEST(ShadowResolve, RowsTravelInNotificationsOnlyWhereThatIsSaid) {
  nlohmann::json object = TwoTables();
  EXPECT_FALSE(Resolve(Scene(object).policy).workers.payload);
  object["spec"]["tiers"][1]["delivery"] = "Outbox";
  EXPECT_FALSE(Resolve(Scene(object).policy).workers.payload);
  object["spec"]["tiers"][1]["delivery"] = "Payload";
  Resolved resolved = Resolve(Scene(object).policy);
  EXPECT_TRUE(resolved.workers.payload);
  EXPECT_TRUE(resolved.unavailable.empty());
}

TEST(ShadowResolve, TheTableOfEventsIsNoSource) {
  Scene scene(TwoTables({{"spec", {{"auditEvents", {{"table", "public.events"}}}}}}));
  EXPECT_TRUE(Resolve(scene.policy).unavailable.empty());
  EXPECT_EQ(Resolve(scene.policy).audit_events, "public.events");
  scene.policy.spec.audit_events_table = "customers";
  EXPECT_THAT(Resolve(scene.policy).WholePolicyRefused(), HasSubstr("auditEvents.table: public.customers"));
}

TEST(ShadowResolve, PartitioningIsTakenAsWritten) {
  Scene scene(TwoTables({{"spec", {{"partitioning", {{"engine", "Hypertable"}, {"compression", {{"rows", 5}}}}}}}}));
  Resolved resolved = Resolve(scene.policy);
  EXPECT_TRUE(resolved.unavailable.empty());
  ASSERT_TRUE(resolved.partitioning.has_value() && resolved.partitioning->compression.has_value());
  EXPECT_EQ(resolved.partitioning->each.engine, shadow::PartitionEngine::kHypertable);
  EXPECT_EQ(resolved.partitioning->compression->rows, 5);
  EXPECT_EQ(resolved.partitioning->compression->older_than, std::chrono::hours(24 * 90));
  scene.Edit(TwoTables({{"spec", {{"partitioning", {{"interval", "10m"}}}}}}));
  EXPECT_THAT(Resolve(scene.policy).Fields(), Contains(HasSubstr("spec.partitioning.interval")));
}

TEST(ShadowResolve, EachPolicyHasASlotOfItsOwn) {
  auto slot = [](const std::string& namespace_, const std::string& name) {
    nlohmann::json object = TwoTables({{"metadata", {{"namespace", namespace_}, {"name", name}}}});
    object["spec"]["tiers"].push_back({{"name", "cdc"}});
    Scene scene(object);
    return Resolve(scene.policy).spec.slot;
  };
  EXPECT_EQ(slot("data", "audit"), "pgtier_data_audit");
  EXPECT_NE(slot("a-b", "c"), slot("a", "b-c"));
  EXPECT_NE(slot("a", "b.c"), slot("a", "b-c"));
  EXPECT_EQ(slot("a-b", "c").find("pgtier_a_b_c_"), 0U);
  const std::string longest(63, 'n');
  for (const std::string& name : {std::string("x"), std::string("y"), std::string(200, 'p')}) {
    EXPECT_EQ(slot(longest, name).size(), 56U);
    EXPECT_EQ(slot(longest, name).find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos);
  }
  EXPECT_NE(slot(longest, "x"), slot(longest, "y"));
}

TEST(ShadowResolve, WithoutAnImageNotifyIsRefused) {
  Scene scene;
  Resolved resolved = Resolve(scene.policy, false);
  EXPECT_EQ(resolved.ladder.tiers[1].blocked.reason, "NotAvailable");
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
