// What one pass of pure code costs: the decision for the example policy kyoyu, and the plan that builds it from
// nothing.
#include <benchmark/benchmark.h>

#include "controllers/scale_tier/plan.h"
#include "core/decide.h"
#include "crds/scale_tier_policy_codec.h"
#include "tests/support/yaml.h"

namespace pgtier {
namespace {

using controllers::scale_tier::Resolved;

const crds::ScaleTierPolicy& Kyoyu() {
  static const crds::ScaleTierPolicy policy =
      *crds::DecodeScaleTierPolicy(tests::LoadYaml("manifests/examples/kyoyu.yaml"));
  return policy;
}

const Resolved& ResolvedKyoyu() {
  static const Resolved resolved = controllers::scale_tier::Resolve(Kyoyu());
  return resolved;
}

// Every trigger read, and none near its threshold but those of the second tier by `value`.
std::map<core::TriggerKey, core::Reading> Readings(double value) {
  std::map<core::TriggerKey, core::Reading> readings;
  const core::Ladder& ladder = ResolvedKyoyu().ladder;
  for (const core::Tier& tier : ladder.tiers) {
    for (const core::Trigger& trigger : tier.triggers) {
      const bool second = tier.name == ladder.tiers[1].name;
      readings[{tier.name, trigger.name}] = core::Reading::Of(second ? value : 0);
    }
  }
  return readings;
}

// The memory goes from pass to pass, as it does in the operator, and time goes on by an interval each.
void Decide(benchmark::State& state, double value) {
  const core::Ladder& ladder = ResolvedKyoyu().ladder;
  const std::map<core::TriggerKey, core::Reading> readings = Readings(value);
  core::Memory memory;
  memory.tier = ladder.tiers[0].name;
  WallTime now = std::chrono::system_clock::from_time_t(1'750'000'000);
  while (state.KeepRunning()) {
    core::Decision decision = core::Decide(ladder, memory, readings, now);
    now += std::chrono::seconds(15);
    memory.triggers = std::move(decision.triggers);
    benchmark::DoNotOptimize(decision.reason);
  }
}
BENCHMARK_CAPTURE(Decide, calm, 0.01);
BENCHMARK_CAPTURE(Decide, breached, 1);

void Resolve(benchmark::State& state) {
  while (state.KeepRunning()) benchmark::DoNotOptimize(controllers::scale_tier::Resolve(Kyoyu()));
}
BENCHMARK(Resolve);

void MakePlanFromNothing(benchmark::State& state) {
  const controllers::scale_tier::Images images{"postgres", "pgbouncer"};
  const controllers::scale_tier::RenderContext context{Kyoyu(), ResolvedKyoyu(), images};
  const controllers::scale_tier::Credentials credentials{"a", "b", "c", "d", "e", "f"};
  core::Decision decision;
  decision.verdict = core::Verdict::kStart;
  decision.to = ResolvedKyoyu().ladder.tiers[0].name;
  while (state.KeepRunning()) {
    auto plan = controllers::scale_tier::MakePlan(context, {}, decision, credentials);
    if (!plan.has_value() || plan->actions.empty()) {
      state.SkipWithError("no plan");
      break;
    }
    benchmark::DoNotOptimize(plan);
  }
}
BENCHMARK(MakePlanFromNothing);

}  // namespace
}  // namespace pgtier

BENCHMARK_MAIN();
