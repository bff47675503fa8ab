#include "controllers/ladder/resolve.h"

#include <algorithm>

namespace pgtier::controllers {
namespace {

constexpr Duration kDefaultCooldown = std::chrono::minutes(30);
constexpr Duration kDefaultInterval = std::chrono::seconds(15);
constexpr Duration kShortestInterval = std::chrono::seconds(1);
constexpr Duration kLongestInterval = std::chrono::hours(1);

core::Trigger ResolveTrigger(const crds::TriggerSpec& spec, Duration interval, bool may_leave) {
  core::Trigger trigger = spec.rule;
  // A window must outlive a few missed readings; of a long one, a twentieth.
  auto gap = [&](Duration window) {
    return spec.rule.gap == Duration::zero() ? std::max(3 * interval, window / 20) : spec.rule.gap;
  };
  trigger.gap = gap(trigger.window);
  if (!may_leave) trigger.leave.reset();
  if (trigger.leave.has_value()) trigger.leave->gap = gap(trigger.leave->window);
  return trigger;
}

}  // namespace

std::string Limits::WholePolicyRefused() const {
  std::string all;
  for (const Refusal& refusal : refusals) {
    if (refusal.tier.empty()) all += (all.empty() ? "" : "; ") + refusal.why;
  }
  return all;
}

std::string Limits::WholePolicyUnavailable() const {
  if (std::string refused = WholePolicyRefused(); !refused.empty()) return refused;
  for (const Unavailable& gap : unavailable) {
    if (gap.whole_policy) return "this release does not do " + gap.field + " yet";
  }
  return "";
}

core::Gate Limits::BlockedBy(const std::string& tier) const {
  for (const Refusal& refusal : refusals) {
    if (refusal.tier == tier) return {"SpecRefused", refusal.why};
  }
  for (const Unavailable& gap : unavailable) {
    if (gap.tier == tier) return {core::kNotAvailable, "this release does not do " + gap.field + " yet"};
  }
  return {};
}

std::vector<std::string> Limits::Fields() const {
  std::vector<std::string> fields;
  for (const Unavailable& gap : unavailable) {
    // A field of the base may stand in the way of several tiers.
    if (std::find(fields.begin(), fields.end(), gap.field) == fields.end()) fields.push_back(gap.field);
  }
  return fields;
}

Duration ResolveInterval(const crds::LadderSpec& spec) {
  return std::clamp(spec.metrics_interval.value_or(kDefaultInterval), kShortestInterval, kLongestInterval);
}

core::Ladder ResolveLadder(const crds::LadderSpec& spec) {
  core::Ladder ladder;
  ladder.pin = spec.pin;
  ladder.observe_only = spec.observe_only;
  ladder.down = spec.down == "Automatic" ? core::Down::kAutomatic
                : spec.down == "Manual"  ? core::Down::kManual
                                         : core::Down::kNever;
  for (const std::string& text : spec.maintenance_windows) {
    // The schema's pattern has been checked by the apiserver; one that slipped through shuts the ladder, not opens it.
    Result<core::MaintenanceWindow> window = core::ParseMaintenanceWindow(text);
    ladder.windows.push_back(window.has_value() ? *window : core::MaintenanceWindow{});
  }
  ladder.cooldown = spec.cooldown.value_or(kDefaultCooldown);
  return ladder;
}

core::Tier ResolveRung(const crds::TierRule& rule, Duration interval, core::Down down) {
  core::Tier tier;
  tier.name = rule.name;
  tier.match = rule.match;
  for (const crds::TriggerSpec& trigger : rule.triggers) {
    tier.triggers.push_back(ResolveTrigger(trigger, interval, down != core::Down::kNever));
  }
  return tier;
}

}  // namespace pgtier::controllers
