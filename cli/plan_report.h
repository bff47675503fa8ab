// `kubectl pgtier plan`: what runs and what would run in the next tier, setting by setting, and the steps that lead
// there. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/table.h"
#include "crds/scale_tier_policy.h"
#include "crds/shadow_table_policy.h"

namespace pgtier::cli {

// What the API server has under status.plan.
struct RecordedPlan {
  std::string hash;  // Empty: no plan is recorded.
  std::string approved_by;
  std::string from, to;  // Which change it is of.
  std::vector<crds::PlanStep> steps;
};
RecordedPlan ReadPlan(const nlohmann::json& object);

struct SettingChange {
  std::string name;
  std::string current, next;  // In words. `next` is empty where there is no next tier.
  bool differs = false;
};

struct PlanReport {
  std::string name, namespace_;
  std::string address;        // NAME as commands take it.
  std::string current, next;  // Names of tiers; `next` empty: the last one runs.
  std::vector<SettingChange> settings;
  RecordedPlan plan;
  bool approval_required = false;
  std::vector<std::string> unavailable;  // Fields that keep this release from entering `next`.
};

PlanReport DescribePlan(const crds::ScaleTierPolicy& policy, const RecordedPlan& plan);
PlanReport DescribePlan(const crds::ShadowTablePolicy& policy, const RecordedPlan& plan);

// The shape in docs/cli.md.
nlohmann::json ToJson(const PlanReport& report);
std::string Render(const PlanReport& report, const Style& style);

}  // namespace pgtier::cli
