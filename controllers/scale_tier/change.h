// A tier change as a plan that people read and approve: its steps, the settings that differ, and a hash of both.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controllers/scale_tier/resolve.h"
#include "crds/scale_tier_policy.h"

namespace pgtier::controllers::scale_tier {

struct Change {
  std::string from, to;
  std::string hash;  // 16 hexadecimal digits.
  std::vector<crds::PlanStep> steps;
  std::vector<crds::SettingChange> settings;
};

// A pooler's settings under the names that the policy writes them with, in the schema's order.
std::vector<std::pair<std::string, std::string>> SettingsOf(const PoolerSettings& pooler);

// All settings of a tier likewise, those first. Whatever is added to TierSettings belongs here, or an approval would
// hold for a plan that does something else.
std::vector<std::pair<std::string, std::string>> SettingsOf(const TierSettings& tier);

// The change from one tier to another of the policy. `since` is when the tier that runs was entered: the hash is of
// this stay there, so an approval serves one change and not the same change once more. Beside that the hash depends on
// the resolved settings of both tiers and on the steps (which name instances, so on `primary_ordinal`) alone: an edit
// elsewhere in the spec does not void an approval.
Change DescribeChange(const crds::ScaleTierPolicy& policy, const Resolved& resolved, const TierSettings& from,
                      const TierSettings& to, int primary_ordinal, std::optional<WallTime> since);

// The hash that somebody approved, and how: "Git" (spec.approvedPlan) or "annotation".
struct Approval {
  std::string hash;
  std::string channel;
};
std::vector<Approval> ApprovalsOf(const crds::ScaleTierPolicy& policy);

// Fills plan_up, plan_down and approved of the ladder for the tier that runs (empty: none yet). What status has latched
// counts as approved for as long as its plan is the same, also when the annotation is gone.
void FillApprovals(const crds::ScaleTierPolicy& policy, const std::string& tier, int primary_ordinal,
                   Resolved& resolved);

// The plan as status shows it: of the change to `to`. Who approved it is kept from `before` where the plan is the same.
crds::PlanStatus PlanStatusOf(const crds::ScaleTierPolicy& policy, const Change& change, WallTime now);

// What a person does to approve the plan `hash`, and which other plans have been approved in vain:
// "run: kubectl annotate …; spec.approvedPlan approves 0123…, which is not this plan".
std::string HowToApprove(const crds::ScaleTierPolicy& policy, const std::string& hash);

}  // namespace pgtier::controllers::scale_tier
