// Runs the decision tables in tests/cases/decide: a new case is a few lines there, not code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "controllers/scale_tier/resolve.h"
#include "core/decide.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"

namespace pgtier::core {
namespace {

using Json = nlohmann::json;

const WallTime kStart = std::chrono::system_clock::from_time_t(0);

WallTime At(const std::string& since_start) {
  return kStart + std::chrono::duration_cast<WallTime::duration>(*ParseDuration(since_start));
}

controllers::scale_tier::Resolved ResolvePolicy(const Json& policy) {
  Result<crds::ScaleTierPolicy> decoded = crds::DecodeScaleTierPolicy(policy);
  EXPECT_TRUE(decoded.has_value());
  EXPECT_THAT(decoded->problems, testing::IsEmpty());
  return controllers::scale_tier::Resolve(*decoded);
}

Reading ToReading(const Json& value) {
  return value.is_number() ? Reading::Of(value.get<double>()) : Reading::Unknown("Test: no reading");
}

std::string VerdictName(const Decision& decision) {
  switch (decision.verdict) {
    case Verdict::kStart:
      return "start";
    case Verdict::kHold:
      return "hold";
    case Verdict::kMove:
      return "move";
    case Verdict::kWouldMove:
      return "would";
  }
  return "";
}

// What survives a restart: status, in whole seconds and without the numbers themselves.
std::map<TriggerKey, TriggerMemory> AsStatusKeepsIt(std::map<TriggerKey, TriggerMemory> memories) {
  auto round = [](std::optional<WallTime>& time) {
    if (time.has_value()) time = *ParseTime(FormatTime(*time));
  };
  for (auto& [key, memory] : memories) {
    memory.observed.reset();
    round(memory.observed_at);
    round(memory.breached_since);
    round(memory.calm_since);
    round(memory.leave_since);
  }
  return memories;
}

// A policy of two tiers, low and high, with the case's trigger between them.
Json PolicyOfCase(const Json& test, const Json& defaults) {
  Json trigger = test.value("trigger", defaults["trigger"]);
  trigger["name"] = "load";
  trigger["prometheus"] = {{"query", "load"}};
  Json high{{"name", "high"}, {"enterWhen", {{"any", Json::array({trigger})}}}};
  if (test.contains("approval")) high["approval"] = test["approval"];
  return {{"metadata", {{"name", "case"}}},
          {"spec",
           {{"mode", test.value("observe", false) ? "Observe" : "Enforce"},
            {"postgres", {{"managed", {{"database", "d"}, {"storage", {{"size", "1Gi"}}}}}}},
            {"tiers", Json::array({{{"name", "low"}}, high})},
            {"pin", test.value("pin", "")},
            {"transitions",
             {{"cooldown", test.value("cooldown", "0s")},
              {"maintenanceWindows", test.value("windows", Json::array())},
              {"down", test.value("down", "Never")}}}}}};
}

void RunCase(const Json& test, const Json& defaults) {
  SCOPED_TRACE(test["name"].get<std::string>());
  Ladder ladder = ResolvePolicy(PolicyOfCase(test, defaults)).ladder;
  ladder.plan_up = "plan-up";
  ladder.plan_down = "plan-down";
  for (const Json& hash : test.value("approved", Json::array())) ladder.approved.insert(hash.get<std::string>());
  Memory memory;
  memory.tier = test.value("start", "low");
  memory.target = test.value("target", "");
  if (test.contains("last_change")) memory.last_change = At(test["last_change"]);
  for (const Json& step : test["steps"]) {
    SCOPED_TRACE("at " + step["at"].get<std::string>());
    if (step.value("restart", false)) memory.triggers = AsStatusKeepsIt(memory.triggers);
    Decision decision = Decide(ladder, memory, {{{"high", "load"}, ToReading(step["load"])}}, At(step["at"]));
    memory.triggers = decision.triggers;
    for (const char* verdict : {"hold", "move", "would"}) {
      if (!step.contains(verdict)) continue;
      EXPECT_EQ(VerdictName(decision), verdict) << decision.reason << ": " << decision.message;
      EXPECT_EQ(verdict == std::string("move") ? decision.to : decision.reason, step[verdict].get<std::string>())
          << decision.message;
    }
  }
}

TEST(DecideCases, Windows) {
  Json file = tests::LoadYaml("tests/cases/decide/windows.yaml");
  ASSERT_GT(file["cases"].size(), 10U);
  for (const Json& test : file["cases"]) RunCase(test, file["defaults"]);
}

TEST(DecideCases, LeavingAndApproval) {
  Json file = tests::LoadYaml("tests/cases/decide/leave.yaml");
  ASSERT_GT(file["cases"].size(), 10U);
  for (const Json& test : file["cases"]) RunCase(test, file["defaults"]);
}

// Readings of every trigger far from its threshold, but one.
std::map<TriggerKey, Reading> AllCalmBut(const Ladder& ladder, const TriggerKey& key, double value) {
  std::map<TriggerKey, Reading> readings;
  for (const Tier& tier : ladder.tiers) {
    for (const Trigger& trigger : tier.triggers) {
      TriggerKey own{tier.name, trigger.name};
      readings[own] = Reading::Of(own == key ? value : 0);
    }
  }
  return readings;
}

void RunRow(const Ladder& ladder, const Json& row) {
  SCOPED_TRACE(row.dump());
  TriggerKey key{row["tier"].get<std::string>(), row["trigger"].get<std::string>()};
  size_t tier = *FindTier(ladder, key.first);
  Memory memory;
  memory.tier = ladder.tiers[tier - 1].name;
  auto readings = AllCalmBut(ladder, key, row["value"].get<double>());
  Duration window{};
  for (const Trigger& trigger : ladder.tiers[tier].triggers) {
    if (trigger.name == key.second) window = trigger.window;
  }
  constexpr Duration kStep = std::chrono::seconds(15);
  Decision decision;
  for (Duration passed{}; passed <= window; passed += kStep) {
    decision = Decide(ladder, memory, readings, kStart + std::chrono::duration_cast<WallTime::duration>(passed));
    memory.triggers = decision.triggers;
    if (passed < window) {
      ASSERT_EQ(decision.verdict, Verdict::kHold) << FormatDuration(passed);
    }
  }
  EXPECT_EQ(decision.verdict == Verdict::kMove, row["moves"].get<bool>()) << decision.message;
  if (row.contains("reason")) {
    EXPECT_EQ(decision.reason, row["reason"].get<std::string>());
  }
}

TEST(DecideCases, EveryThresholdOfTheExampleAtItsEdge) {
  Json file = tests::LoadYaml("tests/cases/decide/edges.yaml");
  Ladder ladder = ResolvePolicy(tests::LoadYaml(file["policy"])).ladder;
  ladder.windows.clear();
  ASSERT_GT(file["rows"].size(), 10U);
  std::set<TriggerKey> covered;
  for (const Json& row : file["rows"]) {
    RunRow(ladder, row);
    covered.emplace(row["tier"].get<std::string>(), row["trigger"].get<std::string>());
  }
  for (const Tier& tier : ladder.tiers) {
    for (const Trigger& trigger : tier.triggers) {
      EXPECT_TRUE(covered.contains({tier.name, trigger.name})) << trigger.name << " has no row";
    }
  }
}

}  // namespace
}  // namespace pgtier::core
