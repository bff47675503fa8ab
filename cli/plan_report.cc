#include "cli/plan_report.h"

#include <algorithm>
#include <utility>

#include "cli/policy.h"
#include "controllers/ladder/resolve.h"
#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/resolve.h"
#include "controllers/shadow_table/resolve.h"
#include "core/words.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::cli {
using Json = nlohmann::json;

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

namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

struct Rungs {
  std::optional<size_t> current;
  size_t next = 0;  // As many as there are tiers: the last one runs.
};

Rungs FindRungs(const core::Ladder& ladder, const crds::LadderStatus& status) {
  Rungs rungs{core::FindTier(ladder, status.tier), 0};
  std::optional<size_t> target = core::FindTier(ladder, status.target_tier);
  rungs.next = target.has_value() ? *target : rungs.current.has_value() ? *rungs.current + 1 : 0;
  return rungs;
}

const std::string* Find(const Settings* settings, const std::string& name) {
  if (settings == nullptr) return nullptr;
  auto found = std::find_if(settings->begin(), settings->end(), [&](const auto& each) { return each.first == name; });
  return found == settings->end() ? nullptr : &found->second;
}

// One tier may have settings that the other does not.
void Compare(const Settings* before, const Settings* after, PlanReport& report) {
  std::vector<std::string> names;
  for (const Settings* tier : {before, after}) {
    if (tier == nullptr) continue;
    for (const auto& [name, value] : *tier) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    const std::string* was = Find(before, name);
    const std::string* is = Find(after, name);
    SettingChange change{name, was == nullptr ? "" : *was, is == nullptr ? "" : *is, false};
    if (change.current.empty() && change.next.empty()) continue;
    change.differs = before != nullptr && after != nullptr && change.current != change.next;
    report.settings.push_back(std::move(change));
  }
}

PlanReport Begin(const crds::Meta& meta, std::string address, const core::Ladder& ladder, const Rungs& rungs,
                 const RecordedPlan& plan) {
  PlanReport report;
  report.name = meta.name;
  report.namespace_ = meta.namespace_;
  report.address = std::move(address);
  report.plan = plan;
  if (rungs.current.has_value()) report.current = ladder.tiers[*rungs.current].name;
  if (rungs.next < ladder.tiers.size()) {
    report.next = ladder.tiers[rungs.next].name;
    report.approval_required = ladder.tiers[rungs.next].approval_required;
  }
  return report;
}

void NameUnavailable(const controllers::Limits& limits, PlanReport& report) {
  for (const controllers::Unavailable& gap : limits.unavailable) {
    if (gap.whole_policy || gap.tier == report.next) report.unavailable.push_back(gap.field);
  }
}

Settings SettingsOfTier(const controllers::scale_tier::TierSettings& tier) {
  Settings settings = controllers::scale_tier::SettingsOf(tier);
  for (auto& [name, value] : settings) {
    if (name == "pooler.image" && value.empty()) value = "of the release";
  }
  return settings;
}

// Who writes the histories, and by what.
Settings SettingsOfTier(const crds::ShadowTablePolicy& policy, const controllers::shadow_table::Resolved& resolved,
                        const std::string& tier) {
  if (tier == "notify") {
    const controllers::shadow_table::Workers& workers = resolved.workers;
    return {{"histories written by", workers.payload ? "the worker, from notifications, which may be lost"
                                                     : "the worker, from a queue that triggers fill"},
            {"workers", std::to_string(workers.min) + " to " + std::to_string(workers.max)},
            {"queueAlert", std::to_string(workers.queue_alert)}};
  }
  if (tier == "cdc") {
    std::string limit = core::FormatValue(resolved.max_retained_wal.value_or(0), core::Unit::kBytes);
    return {{"histories written by", "the worker, from the write-ahead log"},
            {"workers", "1"},
            {"slot", policy.status.slot.name.empty() ? resolved.spec.slot : policy.status.slot.name},
            {"maxRetainedWAL", limit}};
  }
  return {{"histories written by", "triggers, in the application's transaction"}};
}

}  // namespace

PlanReport DescribePlan(const crds::ScaleTierPolicy& policy, const RecordedPlan& plan) {
  controllers::scale_tier::Resolved resolved = controllers::scale_tier::Resolve(policy);
  Rungs rungs = FindRungs(resolved.ladder, policy.status);
  PlanReport report = Begin(policy.meta, policy.meta.name, resolved.ladder, rungs, plan);
  std::optional<Settings> before;
  std::optional<Settings> after;
  if (rungs.current.has_value()) before = SettingsOfTier(resolved.tiers[*rungs.current]);
  if (!report.next.empty()) after = SettingsOfTier(resolved.tiers[rungs.next]);
  Compare(before ? &*before : nullptr, after ? &*after : nullptr, report);
  NameUnavailable(resolved, report);
  return report;
}

PlanReport DescribePlan(const crds::ShadowTablePolicy& policy, const RecordedPlan& plan) {
  controllers::shadow_table::Resolved resolved = controllers::shadow_table::Resolve(policy);
  Rungs rungs = FindRungs(resolved.ladder, policy.status);
  PlanReport report = Begin(policy.meta, NameFor(Kind::kShadowTable, policy.meta.name), resolved.ladder, rungs, plan);
  Settings before = SettingsOfTier(policy, resolved, report.current);
  Settings after = SettingsOfTier(policy, resolved, report.next);
  Compare(report.current.empty() ? nullptr : &before, report.next.empty() ? nullptr : &after, report);
  NameUnavailable(resolved, report);
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
          ", waits for: kubectl pgtier approve " + report.address + " " + report.plan.hash + " -n " + report.namespace_;
    }
    text += "\n";
  }
  for (const std::string& field : report.unavailable) {
    text += style.Paint("This release does not act on " + field, Tone::kWarning) + "\n";
  }
  return text;
}

}  // namespace pgtier::cli
