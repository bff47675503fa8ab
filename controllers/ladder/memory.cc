#include "controllers/ladder/memory.h"

#include "core/words.h"

namespace pgtier::controllers {
namespace {

std::string LeaveRule(const crds::TriggerSpec& trigger) {
  if (!trigger.rule.leave.has_value()) return "";
  return " leave " + std::to_string(static_cast<int>(trigger.rule.leave->comparison)) + " " +
         std::to_string(trigger.rule.leave->threshold);
}

void CloseWindow(core::TriggerMemory& memory) {
  memory.breached_since.reset();
  memory.calm_since.reset();
  memory.leave_since.reset();
}

}  // namespace

std::map<core::TriggerKey, std::string> JudgedBy(const std::vector<const crds::TierRule*>& tiers) {
  std::map<core::TriggerKey, std::string> rules;
  for (const crds::TierRule* tier : tiers) {
    for (const crds::TriggerSpec& trigger : tier->triggers) {
      rules[{tier->name, trigger.rule.name}] = std::to_string(static_cast<int>(trigger.rule.comparison)) + " " +
                                               std::to_string(trigger.rule.threshold) + " " + trigger.rule.source +
                                               " " + trigger.pooler_metric + " " + trigger.query + LeaveRule(trigger);
    }
  }
  return rules;
}

void ForgetOtherRules(const std::map<core::TriggerKey, std::string>& now,
                      const std::map<core::TriggerKey, std::string>& before,
                      std::map<core::TriggerKey, core::TriggerMemory>& triggers) {
  for (auto& [key, memory] : triggers) {
    auto is = now.find(key);
    auto was = before.find(key);
    if (is == now.end() || was == before.end() || is->second != was->second) CloseWindow(memory);
  }
}

std::map<core::TriggerKey, core::TriggerMemory> TriggersInStatus(const crds::LadderStatus& status,
                                                                 const core::Ladder& ladder) {
  std::map<core::TriggerKey, core::TriggerMemory> triggers;
  for (const crds::TierStatus& tier : status.tiers) {
    std::optional<size_t> index = core::FindTier(ladder, tier.name);
    for (const crds::Observation& before : tier.observations) {
      core::TriggerMemory& memory = triggers[{tier.name, before.name}] = before.memory;
      if (!index.has_value()) continue;
      for (const core::Trigger& rule : ladder.tiers[*index].triggers) {
        bool same = rule.comparison == core::Comparison::kDemand ||
                    core::FormatValue(rule.threshold, rule.unit) == before.threshold;
        if (rule.name != before.name) continue;
        if (!same || rule.source != before.source) CloseWindow(memory);
        if (core::DescribeLeave(rule) != before.leave) memory.leave_since.reset();
      }
    }
  }
  return triggers;
}

}  // namespace pgtier::controllers
