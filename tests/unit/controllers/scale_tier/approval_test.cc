// Plans that wait for a person: their hash, who approved them, and what is said.
#include <gmock/gmock.h>

#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/names.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

// The tier `two` waits for approval; `by-hand` asks for it.
Json WithApproval(const Json& changes = Json::object()) {
  Json object = TwoTiers({{"transitions", {{"cooldown", "0s"}}}});
  object["spec"]["tiers"][1]["approval"] = "Required";
  object["spec"].merge_patch(changes);
  return object;
}

Scene Due(const Json& object) {
  Scene scene(object);
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.MakePass();
  return scene;
}

TEST(Approval, ATierThatIsDueSaysHowToApproveIt) {
  Scene scene = Due(WithApproval());
  const crds::PlanStatus& plan = scene.policy.status.plan;
  EXPECT_THAT(plan.hash, MatchesRegex("[0-9a-f]{16}"));
  EXPECT_EQ(plan.from + ">" + plan.to, "one>two");
  EXPECT_EQ(plan.approved_by, "");
  std::vector<std::string> steps;
  for (const crds::PlanStep& step : plan.steps) steps.push_back(step.name);
  EXPECT_THAT(steps, ElementsAre("clone kyoyu-2 and let it catch up", "clone kyoyu-3 and let it catch up",
                                 "route reads of kyoyu-ro to replicas"));
  std::vector<std::string> changes;
  for (const crds::SettingChange& change : plan.changes) {
    changes.push_back(change.field + " " + change.from + ">" + change.to);
  }
  EXPECT_THAT(changes, Contains("readReplicas.min 0>2"));
  EXPECT_THAT(changes, Contains("routing.reads primary>replicas"));
  EXPECT_THAT(changes, Not(Contains(HasSubstr("pooler"))));

  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "True");
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").message,
            "tier two is due (by-hand demanded in spec.demands) and waits for approval of plan " + plan.hash +
                ", see status.plan. To approve it run: kubectl annotate scaletiers kyoyu -n data pgtier.dev/approve=" +
                plan.hash + " --overwrite (or set spec.approvedPlan to it)");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True") << "or kubectl wait would hang";
  EXPECT_EQ(scene.ConditionOf("Ready").reason, "ApprovalRequired");
  EXPECT_EQ(scene.policy.status.tier, "one");
}

TEST(Approval, TheAnnotationLetsItGoAndIsLatched) {
  Scene scene = Due(WithApproval());
  scene.policy.meta.annotations[kApproveAnnotation] = scene.policy.status.plan.hash;
  Scene::Pass pass = scene.MakePass();
  EXPECT_EQ(pass.decision.verdict, core::Verdict::kMove);
  EXPECT_TRUE(pass.written);
  EXPECT_EQ(scene.policy.status.plan.approved_by, "annotation at 2026-11-20T16:00:04Z");
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "False");
  std::vector<std::string> reasons;
  for (const Note& note : pass.notes) reasons.push_back(note.reason);
  EXPECT_THAT(reasons, Contains("PlanApproved"));
  // Taken away in the middle: what has begun goes on.
  scene.policy.meta.annotations.clear();
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
}

TEST(Approval, WhatIsLatchedOutlivesTheAnnotationUntilTheTierIsDue) {
  Scene scene(WithApproval());
  scene.Settle();
  scene.policy.meta.annotations[kApproveAnnotation] = scene.policy.status.plan.hash;
  scene.MakePass();
  EXPECT_THAT(scene.policy.status.plan.approved_by, HasSubstr("annotation at "));
  scene.policy.meta.annotations.clear();
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "one") << "approved is not due";
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
}

TEST(Approval, GitApprovesByTheSpec) {
  Scene scene = Due(WithApproval());
  scene.Edit(WithApproval({{"approvedPlan", scene.policy.status.plan.hash}}));
  scene.MakePass();
  EXPECT_THAT(scene.policy.status.plan.approved_by, HasSubstr("Git at "));
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "two");
}

TEST(Approval, AnotherHashIsNamedAndNotAccepted) {
  Scene scene = Due(WithApproval({{"approvedPlan", "12345678"}}));
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").reason, "OtherPlanApproved");
  scene.policy.meta.annotations[kApproveAnnotation] = "yes please; $(reboot)";
  scene.now += std::chrono::minutes(1);
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.policy.status.target_tier, "");
  EXPECT_THAT(
      scene.ConditionOf("ApprovalRequired").message,
      EndsWith(
          "; spec.approvedPlan approves 12345678, which is not this plan; the annotation approves something that is "
          "no hash, which is not this plan"));
  // The beginning of the right one is another one too.
  scene.policy.meta.annotations[kApproveAnnotation] = scene.policy.status.plan.hash.substr(0, 8);
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.target_tier, "");
}

TEST(Approval, TheHashIsOfWhatWouldBeDoneAndOfNothingElse) {
  Scene scene = Due(WithApproval());
  std::string hash = scene.policy.status.plan.hash;
  auto after = [&](const Json& object) {
    Scene edited = scene;
    edited.Edit(object);
    edited.now += std::chrono::hours(1);
    edited.MakePass();
    return edited.policy.status.plan.hash;
  };
  EXPECT_EQ(after(WithApproval()), hash) << "a generation is no content";
  EXPECT_EQ(after(WithApproval({{"demands", {"by-hand"}}, {"metrics", {{"interval", "30s"}}}})), hash);
  Json more = WithApproval();
  more["spec"]["tiers"][1]["readReplicas"]["min"] = 3;
  EXPECT_NE(after(more), hash);
  Json pool = WithApproval();
  pool["spec"]["tiers"][1]["pooler"]["defaultPoolSize"] = 20;
  EXPECT_NE(after(pool), hash);
  Json base = WithApproval({{"pooler", {{"instances", 1}, {"poolMode", "Session"}}}});
  EXPECT_NE(after(base), hash) << "what is left matters as well";
}

TEST(Approval, ServesOneChangeOnly) {
  Json manual = WithApproval({{"transitions", {{"cooldown", "0s"}}}});
  Scene scene = Due(manual);
  scene.policy.meta.annotations[kApproveAnnotation] = scene.policy.status.plan.hash;
  scene.Settle();
  ASSERT_EQ(scene.policy.status.tier, "two");
  Json down = manual;
  down["spec"]["pin"] = "one";
  scene.Edit(down);
  scene.Settle();
  ASSERT_EQ(scene.policy.status.tier, "one");
  scene.Edit(manual);
  scene.now += std::chrono::minutes(1);
  scene.MakePass();
  EXPECT_EQ(scene.policy.status.target_tier, "") << "an old annotation let it climb again";
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "True");
  EXPECT_THAT(scene.ConditionOf("ApprovalRequired").message, EndsWith("which is not this plan"));
}

TEST(Approval, TheWayDownByHandIsApprovedInTheSameWay) {
  Json object = TwoTiers({{"transitions", {{"cooldown", "0s"}, {"down", "Manual"}}}});
  object["spec"]["tiers"][1]["enterWhen"]["any"][0]["leave"] = {{"below", "0.3"}, {"for", "30s"}};
  Scene scene(object);
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  Read(scene, "pool-utilisation", core::Reading::Of(0.1));
  auto wait = [&] {
    for (int i = 0; i < 4; ++i, scene.now += std::chrono::seconds(15)) scene.MakePass();
  };
  wait();
  EXPECT_EQ(scene.ConditionOf("ApprovalRequired").status, "False") << "a trigger of the tier still fires";
  Read(scene, "by-hand", core::Reading::Of(0));
  wait();
  EXPECT_EQ(scene.policy.status.tier, "two");
  EXPECT_THAT(scene.ConditionOf("ApprovalRequired").message,
              HasSubstr("tier one is due (pool-utilisation 10% < 30% since 16:00:"));
  scene.policy.meta.annotations[kApproveAnnotation] = scene.policy.status.plan.hash;
  scene.Settle();
  EXPECT_EQ(scene.policy.status.tier, "one");
  EXPECT_EQ(scene.policy.status.history.front().reason.substr(0, 16), "pool-utilisation");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/one").reason, "TwoCalm");
  EXPECT_EQ(scene.ConditionOf("tier.pgtier.dev/two").status, "False");
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
