// The number of replicas: the table in tests/cases/decide/scaling.yaml, and what holds under any load.
#include "core/scaling.h"

#include <gtest/gtest.h>

#include <random>

#include "lib/base/time_format.h"
#include "tests/support/yaml.h"

namespace pgtier::core {
namespace {

using Json = nlohmann::json;

const WallTime kBegin = std::chrono::system_clock::from_time_t(0);

WallTime After(Duration passed) { return kBegin + std::chrono::duration_cast<WallTime::duration>(passed); }

ScalingRule ToRule(const Json& rule) {
  auto time = [&](const char* name) { return *ParseDuration(rule[name].get<std::string>()); };
  return {rule["min"], rule["max"], time("growAfter"), time("shrinkAfter"), time("interval")};
}

Load ToLoad(const Json& load) {
  if (load.is_number()) return {load.get<double>(), ""};
  if (load.is_object()) return {load["known"].get<double>(), "Test: another source is missing"};
  return {std::nullopt, "Test: no reading"};
}

// What survives a restart.
ScalingMemory AsScalingStatusKeepsIt(const ScalingMemory& memory) {
  ScalingMemory kept;
  kept.replicas = memory.replicas;
  kept.grow.breached_since = memory.grow.breached_since;
  kept.grow.observed_at = memory.grow.observed_at;
  kept.shrink.breached_since = memory.shrink.breached_since;
  kept.shrink.observed_at = memory.shrink.observed_at;
  return kept;
}

TEST(Scaling, Need) {
  Json file = tests::LoadYaml("tests/cases/decide/scaling.yaml");
  ASSERT_GT(file["needed"].size(), 8U);
  for (const Json& row : file["needed"]) {
    EXPECT_EQ(ReplicasNeeded(row["replicas"].get<int>(), row["load"].get<double>(), row["min"].get<int>()),
              row["needed"].get<int>())
        << row;
  }
}

TEST(Scaling, Cases) {
  Json file = tests::LoadYaml("tests/cases/decide/scaling.yaml");
  ASSERT_GT(file["cases"].size(), 10U);
  for (const Json& test : file["cases"]) {
    SCOPED_TRACE(test["name"].get<std::string>());
    Json rule = file["defaults"]["rule"];
    rule.merge_patch(test.value("rule", Json::object()));
    ScalingMemory memory;
    memory.replicas = test["start"];
    for (const Json& step : test["steps"]) {
      SCOPED_TRACE("at " + step["at"].get<std::string>());
      if (step.value("restart", false)) memory = AsScalingStatusKeepsIt(memory);
      if (step.value("suppressed", false)) {
        memory = SuppressScaling(memory);
        EXPECT_EQ(memory.replicas, step["is"].get<int>());
        continue;
      }
      ScalingDecision decision = DecideScaling(ToRule(rule), memory, ToLoad(step["load"]),
                                               After(*ParseDuration(step["at"].get<std::string>())));
      EXPECT_EQ(decision.replicas, step["is"].get<int>());
      if (step.contains("says")) {
        EXPECT_EQ(decision.message, step["says"].get<std::string>());
      }
      EXPECT_EQ(decision.memory.replicas, decision.replicas);
      memory = decision.memory;
    }
  }
}

// One walk: readers whose work, in busy replicas, moves about `work` by `noise`, measured every 15 s for `hours`.
struct Walked {
  int changes = 0;
  int turns = 0;  // Changes in another direction than the one before.
  int replicas = 0;
};

Walked WalkUnder(unsigned seed, const ScalingRule& rule, double work, double noise, int hours) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> about(work * (1 - noise), work * (1 + noise));
  std::bernoulli_distribution missing(0.05);
  ScalingMemory memory;
  memory.replicas = rule.min;
  Walked walked;
  int direction = 0;
  for (Duration passed{}; passed < std::chrono::hours(hours); passed += rule.interval) {
    Load load{std::min(1.0, about(random) / memory.replicas), ""};
    if (missing(random)) load = {std::nullopt, "Test: no reading"};
    ScalingDecision decision = DecideScaling(rule, memory, load, After(passed));
    EXPECT_GE(decision.replicas, rule.min);
    EXPECT_LE(decision.replicas, rule.max);
    int step = decision.replicas - memory.replicas;
    EXPECT_LE(std::abs(step), 1) << "one at a time";
    EXPECT_EQ(step != 0, !decision.message.empty());
    if (step != 0) {
      EXPECT_TRUE(load.value.has_value()) << "Unknown moved it";
      ++walked.changes;
      if (direction != 0 && step != direction) ++walked.turns;
      direction = step;
    }
    memory = decision.memory;
  }
  walked.replicas = memory.replicas;
  return walked;
}

TEST(Scaling, ASteadyLoadEndsAtASteadyCount) {
  const ScalingRule kRule{1, 8, std::chrono::minutes(2), std::chrono::minutes(30), std::chrono::seconds(15)};
  for (unsigned seed = 1; seed <= 60; ++seed) {
    // From an idle database to more than all of them can carry, and readings that are off by up to a tenth.
    double work = 0.1 * seed;
    Walked walked = WalkUnder(seed, kRule, work, 0.1, 12);
    EXPECT_EQ(walked.turns, 0) << "flaps at " << work;
    // With the noise at its highest all the time they would need one more.
    EXPECT_GE(walked.replicas, std::min(8, ReplicasNeeded(1, work * 0.9, 1))) << work;
    EXPECT_LE(walked.replicas, std::min(8, ReplicasNeeded(1, work * 1.1, 1) + 1)) << work;
  }
}

TEST(Scaling, AWildLoadTurnsSeldom) {
  const ScalingRule kRule{1, 8, std::chrono::minutes(2), std::chrono::minutes(30), std::chrono::seconds(15)};
  for (unsigned seed = 1; seed <= 60; ++seed) {
    Walked walked = WalkUnder(seed, kRule, 0.1 * seed, 0.9, 24);
    // Whatever comes, a replica goes only after half an hour of calm.
    EXPECT_LE(walked.turns, 2 * 24 * 2) << seed;
  }
}

}  // namespace
}  // namespace pgtier::core
