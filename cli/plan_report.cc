#include "cli/plan_report.h"

#include <algorithm>
#include <utility>

#include "controllers/ladder/resolve.h"
#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/resolve.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::cli {
namespace {

using controllers::scale_tier::Resolve;
using controllers::scale_tier::Resolved;
using controllers::scale_tier::TierSettings;
using Json = nlohmann::json;

// A setting's value, or empty where the tier does not have it.
std::string ValueOf(const TierSettings* tier, const std::string& name) {
  if (tier == nullptr) return "";
  for (auto& [each, value] : controllers::scale_tier::SettingsOf(*tier)) {
    if (each != name) continue;
    return name == "pooler.image" && value.empty() ? "of the release" : value;
  }
  return "";
}

}  // namespace

RecordedPlan ReadPlan(const Json& object) {
  RecordedPlan plan;
  plan.hash = kube::StringAt(object, {"status", "plan", "hash"});
  plan.approved_by = kube::StringAt(object, {"status", "plan", "approvedBy"});
  plan.from = kube::StringAt(object, {"status", "plan", "from"});
  plan.to = kube::StringAt(object, {"status", "plan", "to"});
  const Json& steps = kube::At(object, {"status", "plan", "steps"});
  if (!steps.is_array()) return plan;
  for (const Json& step : steps) {
    const Json& reversible = kube::At(step, {"reversible"});
    crds::PlanStep each;
    each.name = kube::StringAt(step, {"name"});
    each.reversible = !reversible.is_boolean() || reversible.get<bool>();
    plan.steps.push_back(std::move(each));
  }
  return plan;
}

PlanReport DescribePlan(const crds::ScaleTierPolicy& policy, const RecordedPlan& plan) {
  Resolved resolved = Resolve(policy);
  PlanReport report;
  report.name = policy.meta.name;
  report.namespace_ = policy.meta.namespace_;
  report.plan = plan;
  std::optional<size_t> current = core::FindTier(resolved.ladder, policy.status.tier);
  std::optional<size_t> next = core::FindTier(resolved.ladder, policy.status.target_tier);
  if (!next.has_value()) next = current.has_value() ? *current + 1 : 0;
  const TierSettings* before = current.has_value() ? &resolved.tiers[*current] : nullptr;
  const TierSettings* after = *next < resolved.tiers.size() ? &resolved.tiers[*next] : nullptr;
  if (before != nullptr) report.current = before->name;
  if (after != nullptr) {
    report.next = after->name;
    report.approval_required = resolved.ladder.tiers[*next].approval_required;
  }
  // One tier may have settings that the other does not.
  std::vector<std::string> names;
  for (const TierSettings* tier : {before, after}) {
    if (tier == nullptr) continue;
    for (const auto& [name, value] : controllers::scale_tier::SettingsOf(*tier)) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    SettingChange change{name, ValueOf(before, name), ValueOf(after, name), false};
    if (change.current.empty() && change.next.empty()) continue;
    change.differs = before != nullptr && after != nullptr && change.current != change.next;
    report.settings.push_back(std::move(change));
  }
  for (const controllers::Unavailable& gap : resolved.unavailable) {
    if (gap.whole_policy || gap.tier == report.next) report.unavailable.push_back(gap.field);
  }
  return report;
}

Json ToJson(const PlanReport& report) {
  Json object{{"name", report.name}, {"namespace", report.namespace_}, {"approvalRequired", report.approval_required}};
  if (!report.current.empty()) object["currentTier"] = report.current;
  if (!report.next.empty()) object["nextTier"] = report.next;
  object["settings"] = Json::array();
  for (const SettingChange& change : report.settings) {
    Json each{{"name", change.name}, {"differs", change.differs}};
    if (!report.current.empty()) each["current"] = change.current;
    if (!report.next.empty()) each["next"] = change.next;
    object["settings"].push_back(std::move(each));
  }
  object["steps"] = Json::array();
  for (const crds::PlanStep& step : report.plan.steps) {
    object["steps"].push_back({{"name", step.name}, {"reversible", step.reversible}});
  }
  if (!report.plan.hash.empty()) object["hash"] = report.plan.hash;
  if (!report.plan.from.empty()) object["planFrom"] = report.plan.from;
  if (!report.plan.to.empty()) object["planTo"] = report.plan.to;
  if (!report.plan.approved_by.empty()) object["approvedBy"] = report.plan.approved_by;
  object["unavailable"] = report.unavailable;
  return object;
}

std::string Render(const PlanReport& report, const Style& style) {
  std::string text = style.Paint(report.name, Tone::kStrong) + " in " + report.namespace_ + ": ";
  text += report.current.empty() ? "no tier runs yet" : "tier " + report.current + " runs";
  text += report.next.empty() ? "; it is the last one\n\n" : "; next is " + report.next + "\n\n";
  std::vector<std::string> header{"SETTING"};
  if (!report.current.empty()) header.push_back(report.current);
  if (!report.next.empty()) header.push_back(report.next);
  header.emplace_back("");
  Table table(header);
  for (const SettingChange& change : report.settings) {
    Tone tone = change.differs ? Tone::kWarning : Tone::kPlain;
    std::vector<Cell> row{{change.name, tone}};
    if (!report.current.empty()) row.push_back({change.current, tone});
    if (!report.next.empty()) row.push_back({change.next, tone});
    row.push_back({change.differs ? "changes" : "", tone});
    table.Add(std::move(row));
  }
  text += table.Render(style) + "\n";
  if (report.plan.steps.empty() && report.plan.hash.empty()) {
    text += "No plan is recorded in status: none is under way or waits.\n";
  }
  for (size_t i = 0; i < report.plan.steps.size(); ++i) {
    const crds::PlanStep& step = report.plan.steps[i];
    if (i == 0) {
      text += report.plan.to.empty() ? "Steps:\n" : "Steps from " + report.plan.from + " to " + report.plan.to + ":\n";
    }
    text += std::string("  ") + std::to_string(i + 1) + ". " + step.name +
            (step.reversible ? "" : style.Paint(" (cannot be undone)", Tone::kBad)) + "\n";
  }
  if (!report.plan.hash.empty()) {
    text += "Hash: " + style.Paint(report.plan.hash, Tone::kStrong);
    if (!report.plan.approved_by.empty()) {
      text += ", approved by " + report.plan.approved_by;
    } else if (report.approval_required) {
      text +=
          ", waits for: kubectl pgtier approve " + report.name + " " + report.plan.hash + " -n " + report.namespace_;
    }
    text += "\n";
  }
  for (const std::string& field : report.unavailable) {
    text += style.Paint("This release does not act on " + field, Tone::kWarning) + "\n";
  }
  return text;
}

}  // namespace pgtier::cli
