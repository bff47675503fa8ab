// Delivery Payload of tier notify: entered last and left first, with a worker that listens until all was heard.
#include <gmock/gmock.h>

#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

nlohmann::json WithPayload(const char* delivery = "Payload") {
  nlohmann::json object = TwoTables();
  object["spec"]["tiers"][1]["delivery"] = delivery;
  return object;
}

Scene InPayload() {
  Scene scene(WithPayload());
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  EXPECT_TRUE(scene.seen.state->payload.sends);
  scene.seen.state->payload.listening = true;
  scene.Pass();
  return scene;
}

std::string DeliveryInConfig(const Scene& scene) {
  const nlohmann::json* config = scene.seen.Object(kube::kConfigMaps, "audit-notify");
  if (config == nullptr) return "none";
  return nlohmann::json::parse(config->at("data").at("worker.json").get<std::string>()).value("delivery", "Outbox");
}

TEST(ShadowPayload, ComesAfterTheQueue) {
  Scene scene(WithPayload());
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Pass();
  EXPECT_EQ(DeliveryInConfig(scene), "Payload");
  scene.StartPods();
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to notify"));
  EXPECT_THAT(scene.Pass(), ElementsAre("deliver by payload"));
  EXPECT_EQ(scene.policy.status.tier, "triggers") << "not read back yet";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.policy.status.tier, "notify");
}

TEST(ShadowPayload, TheWayBackWaitsUntilAllThatWasSentHasBeenHeard) {
  Scene scene = InPayload();
  scene.Edit(WithPayload("Outbox"));
  scene.old_bodies = true;
  scene.seen.state->queue_depth = 5;
  EXPECT_THAT(scene.Pass(), ElementsAre("deliver by queue"));
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_EQ(DeliveryInConfig(scene), "Payload") << "it listens on";
  EXPECT_THAT(scene.plan.waiting_for, HasSubstr("to hear what was sent"));
  EXPECT_EQ(scene.ConditionOf("Lossless").status, "False");
  scene.old_bodies = false;
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_THAT(scene.Pass(), Contains("apply ConfigMap audit-notify"));
  EXPECT_EQ(DeliveryInConfig(scene), "Outbox");
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "notify");
  EXPECT_EQ(scene.ConditionOf("Lossless").status, "");
}

TEST(ShadowPayload, ATierIsLeftOnlyWhenAllThatWasSentHasBeenHeard) {
  Scene scene = InPayload();
  scene.old_bodies = true;
  scene.policy.spec.pin = "triggers";
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to triggers"));
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_EQ(DeliveryInConfig(scene), "Payload");
  EXPECT_THAT(scene.plan.waiting_for, HasSubstr("notifications"));
  scene.old_bodies = false;
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "triggers");
  EXPECT_FALSE(scene.seen.worker.exists);
}

TEST(ShadowPayload, ALossIsSaidAlwaysAndEachGapOnce) {
  Scene scene = InPayload();
  crds::Condition condition = scene.ConditionOf("Lossless");
  EXPECT_EQ(condition.status, "False");
  EXPECT_EQ(condition.reason, "PayloadDelivery");
  EXPECT_THAT(condition.message, HasSubstr("lost when the worker dies"));
  EXPECT_THAT(condition.message, Not(HasSubstr("no worker listens")));
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_FALSE(scene.written) << "at rest nothing is written";
  auto told = [&] {
    int count = 0;
    for (const Note& note : scene.notes) count += note.warning && note.reason == "PayloadGap" ? 1 : 0;
    return count;
  };
  scene.seen.state->payload.gaps = 1;
  scene.seen.state->payload.last_gap = "2026-11-21T16:00:00Z to 2026-11-21T16:00:07Z";
  scene.now += std::chrono::minutes(2);  // a message alone is written now and then
  scene.Pass();
  EXPECT_EQ(told(), 1);
  EXPECT_THAT(scene.ConditionOf("Lossless").message, HasSubstr("16:00:00Z to 2026-11-21T16:00:07Z"));
  scene.seen.state->payload.listening = false;
  scene.now += std::chrono::minutes(2);
  scene.Pass();
  EXPECT_EQ(told(), 0);
  EXPECT_THAT(scene.ConditionOf("Lossless").message, HasSubstr("no worker listens, so rows go through the queue"));
  scene.Edit(WithPayload("Outbox"));
  scene.Settle();
  EXPECT_EQ(scene.ConditionOf("Lossless").reason, "PayloadGaps");
}

TEST(ShadowPayload, AnApprovalIsForTheDeliveryToo) {
  auto hash = [](const char* delivery) {
    Scene scene(WithPayload(delivery));
    scene.Settle();
    return scene.policy.status.plan.hash;
  };
  EXPECT_NE(hash("Payload"), hash("Outbox"));
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
