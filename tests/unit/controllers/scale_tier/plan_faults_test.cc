// What a plan does about servers, slots and settings that are not what they were.
#include <gmock/gmock.h>

#include "controllers/scale_tier/names.h"
#include "tests/fake/manual_clock.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

template <typename T>
std::vector<T> ActionsOf(const Plan& plan) {
  std::vector<T> found;
  for (const Action& action : plan.actions) {
    if (const T* one = std::get_if<T>(&action)) found.push_back(*one);
  }
  return found;
}

Scene SettledWithReplicas() {
  nlohmann::json object = TwoTiers();
  object["spec"]["pin"] = "two";
  Scene scene(object);
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
  return scene;
}

TEST(PlanFaults, AnotherServerInThePrimarysPlaceIsLeftAlone) {
  Scene scene = SettledWithReplicas();
  scene.policy.status.system_identifier = "1";
  scene.seen.primary.system_identifier = "2";
  scene.seen.primary.installed.clear();
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(plan.actions, IsEmpty()) << "its routing, its Secrets, and above all no database in it";
  EXPECT_THAT(plan.refused, HasSubstr("its volume was lost or exchanged"));
}

TEST(PlanFaults, AnEmptyPrimaryBesideReplicasIsLeftAloneAlsoWithoutAStatus) {
  Scene scene = SettledWithReplicas();
  scene.policy.status.system_identifier.clear();
  scene.seen.primary.lacks_database = true;
  scene.seen.primary.installed.clear();
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(plan.actions, IsEmpty());
  EXPECT_THAT(plan.refused, Not(IsEmpty()));
}

TEST(PlanFaults, AReplicaWhoseWalIsGoneIsClonedAnew) {
  Scene scene = SettledWithReplicas();
  std::string slot = SlotName("kyoyu-2");
  scene.seen.primary.lost_slots.insert(slot);
  scene.seen.primary.slots[slot] = false;
  scene.Instance("kyoyu-2").streaming = false;
  Plan plan = scene.PlanFor("two", "two");
  std::vector<std::string> deleted;
  for (const DeleteObject& action : ActionsOf<DeleteObject>(plan)) deleted.push_back(action.name);
  EXPECT_THAT(deleted, testing::Contains("kyoyu-2"));
  EXPECT_THAT(deleted, testing::Not(testing::Contains("kyoyu-1")));
  ASSERT_EQ(ActionsOf<DropSlot>(plan).size(), 1U);
  EXPECT_EQ(ActionsOf<DropSlot>(plan)[0].slot, slot);
  EXPECT_THAT(plan.waiting_for, HasSubstr("cloned anew"));
  EXPECT_THAT(plan.routed, testing::ElementsAre("kyoyu-3"));
}

// Away while the primary changed: the new one's slot for it keeps WAL from then on, and is never lost.
TEST(PlanFaults, AReplicaThatNeedsWalFromBeforeItsSlotIsClonedAnew) {
  Scene scene = SettledWithReplicas();
  InstanceSeen& replica = scene.Instance("kyoyu-2");
  replica.streaming = false;
  replica.newest = postgres::Lsn{100};
  scene.seen.primary.oldest_wal = postgres::Lsn{1000};
  scene.seen.primary.slots[SlotName("kyoyu-2")] = false;
  auto plan_after = [&](const std::string& text, Duration waited) {
    core::Decision decision;
    decision.from = decision.to = "two";
    Waited lasting{"whatever is waited for", {}, {{text, waited}}};
    return *MakePlan(scene.context(), scene.seen, decision, scene.credentials, lasting);
  };
  std::string waits = plan_after("", {}).waiting_for;
  EXPECT_EQ(waits, "kyoyu-2: to stream from the primary, which does not have the WAL after 0/64 any more");
  EXPECT_THAT(plan_after("", {}).lasting, testing::ElementsAre(waits));
  EXPECT_THAT(ActionsOf<DeleteObject>(plan_after(waits, std::chrono::seconds(30))), IsEmpty()) << "it may replay still";
  EXPECT_THAT(ActionsOf<DeleteObject>(plan_after("another", std::chrono::hours(1))), IsEmpty());
  Plan plan = plan_after(waits, std::chrono::seconds(61));
  EXPECT_THAT(ActionsOf<DeleteObject>(plan), testing::SizeIs(3)) << "Service, volume, StatefulSet";
  EXPECT_THAT(ActionsOf<DropSlot>(plan), testing::SizeIs(1));
  EXPECT_THAT(plan.waiting_for, HasSubstr("cloned anew"));

  // It streams, has what it needs, or that is not known.
  for (const std::function<void()>& change : std::initializer_list<std::function<void()>>{
           [&] { replica.streaming = true; }, [&] { replica.newest = postgres::Lsn{1000}; },
           [&] { scene.seen.primary.oldest_wal.reset(); }, [&] { replica.newest.reset(); },
           [&] { replica.answered = false; }, [&] { replica.replay_paused = true; }}) {
    Seen before = scene.seen;
    change();
    EXPECT_THAT(ActionsOf<DeleteObject>(plan_after(waits, std::chrono::seconds(61))), IsEmpty());
    scene.seen = before;
  }
}

// Two at once: each has its own patience, whichever is the first to be waited for.
TEST(PlanFaults, AReplicaIsCutOffAlsoWhileSomethingElseIsWaitedFor) {
  Scene scene = SettledWithReplicas();
  fake::ManualClock clock;
  PassMemory memory(&clock);
  for (const char* name : {"kyoyu-2", "kyoyu-3"}) {
    scene.Instance(name).streaming = false;
    scene.Instance(name).newest = postgres::Lsn{name == std::string("kyoyu-2") ? 100U : 200U};
    scene.seen.primary.slots[SlotName(name)] = false;
  }
  scene.seen.primary.oldest_wal = postgres::Lsn{1000};
  core::Decision decision;
  decision.from = decision.to = "two";
  for (int seconds = 0; seconds <= 60; seconds += 10) {
    // The first one moves all the while.
    scene.Instance("kyoyu-2").newest = postgres::Lsn{100U + static_cast<uint64_t>(seconds)};
    Plan plan =
        *MakePlan(scene.context(), scene.seen, decision, scene.credentials, memory.WaitedFor(scene.policy.meta));
    memory.NoteLasting(scene.policy.meta, plan.lasting);
    std::vector<std::string> deleted;
    for (const DeleteObject& each : ActionsOf<DeleteObject>(plan)) deleted.push_back(each.name);
    EXPECT_THAT(deleted, testing::Not(testing::Contains("kyoyu-2")));
    EXPECT_EQ(std::count(deleted.begin(), deleted.end(), "kyoyu-3"), seconds < 60 ? 0 : 2) << seconds;
    clock.Advance(std::chrono::seconds(10));
  }
}

TEST(PlanFaults, AReplicaThatStandsIsNamedWithWhatFindsOutWhy) {
  Scene scene = SettledWithReplicas();
  InstanceSeen& replica = scene.Instance("kyoyu-2");
  replica.streaming = false;
  replica.newest = postgres::Lsn{1000};
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_EQ(plan.waiting_for, "kyoyu-2: to stream from the primary");
  ASSERT_THAT(plan.lasting, testing::SizeIs(1));
  core::Decision decision;
  decision.from = decision.to = "two";
  Waited waited{"another", {}, {{*plan.lasting.begin(), std::chrono::seconds(61)}}};
  plan = *MakePlan(scene.context(), scene.seen, decision, scene.credentials, waited);
  EXPECT_THAT(plan.waiting_for, HasSubstr("It has stood at 0/3E8 for a minute"));
  EXPECT_THAT(plan.waiting_for, HasSubstr("kubectl delete pod kyoyu-2-0 -n data"));
  replica.newest = postgres::Lsn{1001};
  plan = *MakePlan(scene.context(), scene.seen, decision, scene.credentials, waited);
  EXPECT_EQ(plan.waiting_for, "kyoyu-2: to stream from the primary") << "it moves";
}

TEST(PlanFaults, AReplicaWhoseReplayIsPausedIsNamedAndNotPromoted) {
  Scene scene = SettledWithReplicas();
  InstanceSeen& replica = scene.Instance("kyoyu-2");
  replica.replay_paused = true;
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "ReplayPaused") << "before it lags";
  replica.lag = std::chrono::hours(1);
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(plan.waiting_for, HasSubstr("kyoyu-2: its replay is paused. kubectl exec kyoyu-2-0 -n data"));
  EXPECT_THAT(plan.routed, testing::ElementsAre("kyoyu-3"));
  scene.MakePass();
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "ReplayPaused");
  EXPECT_THAT(scene.ConditionOf("Degraded").message, HasSubstr("1 of 2 replicas may take reads; kyoyu-2: its replay"));
}

TEST(PlanFaults, ASettingThatTheServerRefusesIsNamedAndHoldsUpNothingElse) {
  Scene scene = SettledWithReplicas();
  scene.Instance("kyoyu-1").config_error = "work_mem (setting could not be applied)";
  Plan plan = scene.PlanFor("two", "two");
  EXPECT_THAT(plan.refused, HasSubstr("spec.postgres.managed.parameters: kyoyu-1 refuses work_mem"));
  EXPECT_THAT(plan.routed, testing::SizeIs(2));
}

TEST(PlanFaults, ARecoveryPlanTouchesNeitherRoutingNorReplicas) {
  Scene scene = SettledWithReplicas();
  scene.images.postgres = "postgres:other";
  scene.Edit([] {
    nlohmann::json object = TwoTiers();
    object["spec"]["postgres"]["managed"]["parameters"] = {{"work_mem", "8MB"}};
    return object;
  }());
  Plan plan = MakeRecoveryPlan(scene.context(), scene.seen, scene.credentials);
  ASSERT_THAT(plan.actions, Not(IsEmpty())) << "the corrected configuration must reach the server";
  for (const Action& action : plan.actions) {
    ASSERT_TRUE(std::holds_alternative<ApplyObject>(action));
    const nlohmann::json& object = std::get<ApplyObject>(action).object;
    EXPECT_THAT(object["metadata"]["name"], testing::Not(HasSubstr("pooler")));
  }
}

TEST(PlanFaults, ADeletedStatefulSetComesBackWithTheImageThatTheDatabaseHad) {
  Scene scene = SettledWithReplicas();
  std::string image = scene.policy.status.image;
  scene.images.postgres = "postgres:newer-release";
  scene.seen.objects.erase({"statefulsets", "kyoyu-1"});
  EXPECT_EQ(scene.PlanFor("two", "two").image, image);
}

TEST(PlanFaults, AReplicaComesBackOnlyWellBelowTheLimit) {
  InstanceSeen instance;
  instance.pod_ready = instance.streaming = true;
  instance.replayed = postgres::Lsn{100};
  instance.lag = std::chrono::milliseconds(800);
  PrimarySeen primary;
  EXPECT_TRUE(MayTakeReads(instance, primary, std::chrono::seconds(1), true));
  EXPECT_FALSE(MayTakeReads(instance, primary, std::chrono::seconds(1), false));
  instance.lag = std::chrono::milliseconds(400);
  EXPECT_TRUE(MayTakeReads(instance, primary, std::chrono::seconds(1), false));
}

TEST(PlanFaults, QuantitiesInTheApiserversWritingAreTheSame) {
  EXPECT_TRUE(Covers({{"cpu", "500m"}}, {{"cpu", "0.5"}}));
  EXPECT_TRUE(Covers({{"memory", "1Gi"}}, {{"memory", "1024Mi"}}));
  EXPECT_TRUE(Covers({{"cpu", "2"}}, {{"cpu", "2000m"}}));
  EXPECT_FALSE(Covers({{"cpu", "500m"}}, {{"cpu", "0.6"}}));
  EXPECT_FALSE(Covers({{"name", "a"}}, {{"name", "b"}}));
}

TEST(PlanFaults, ADrainEndsWithItsTimeout) {
  Scene scene = SettledWithReplicas();
  nlohmann::json object = TwoTiers();
  object["spec"]["pin"] = "one";
  scene.Edit(object);
  // The poolers already run without replicas.
  scene.Carry(scene.PlanFor("two", "one"));
  scene.StartPods();
  scene.Instance("kyoyu-2").clients = 1;
  scene.Instance("kyoyu-3").clients = 1;
  core::Decision decision;
  decision.from = "two";
  decision.to = "one";
  Result<Plan> waiting = MakePlan(scene.context(), scene.seen, decision, scene.credentials);
  ASSERT_TRUE(waiting.has_value());
  EXPECT_THAT(ActionsOf<DeleteObject>(*waiting), IsEmpty());
  Waited waited{waiting->waiting_for, std::chrono::minutes(1)};
  Result<Plan> over = MakePlan(scene.context(), scene.seen, decision, scene.credentials, waited);
  ASSERT_TRUE(over.has_value());
  EXPECT_THAT(ActionsOf<DeleteObject>(*over), Not(IsEmpty()));
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
