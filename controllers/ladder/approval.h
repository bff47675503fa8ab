// A tier change as a plan that people read and approve.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/ladder.h"
#include "crds/ladder.h"
#include "lib/base/result.h"

namespace pgtier::controllers {

struct Change {
  std::string from, to;
  std::string hash;  // 16 hexadecimal digits.
  std::vector<crds::PlanStep> steps;
  std::vector<crds::SettingChange> settings;
};

// The hash of what makes a plan: `text`, which names the policy, both tiers, `since` (so an approval serves one change
// and not the same change once more), settings and steps, a line for each part.
std::string HashOfPlan(const std::string& text);

// The hash that somebody approved, and how: "Git" (spec.approvedPlan) or "annotation".
struct Approval {
  std::string hash;
  std::string channel;
};
std::vector<Approval> ApprovalsOf(const crds::Meta& meta, const crds::LadderSpec& spec);

// Fills plan_up, plan_down and approved of the ladder for the tier that runs (empty: none yet). What status has latched
// counts as approved for as long as its plan is the same, also when the annotation is gone. `hash` gives that of the
// change between two tiers, by their indices.
void FillApprovals(const crds::Meta& meta, const crds::LadderSpec& spec, const crds::LadderStatus& status,
                   const std::string& tier, const std::function<std::string(size_t from, size_t to)>& hash,
                   core::Ladder& ladder);

// The plan as status shows it: of `change`. Who approved it is kept from `before` where the plan is the same.
crds::PlanStatus PlanStatusOf(const crds::Meta& meta, const crds::LadderSpec& spec, const crds::PlanStatus& before,
                              const Change& change, WallTime now);

// What a person does to approve the plan `hash` of a policy of `resource` (its short name), and which other plans have
// been approved in vain: "run: kubectl annotate …; spec.approvedPlan approves 0123…, which is not this plan".
std::string HowToApprove(const std::string& resource, const crds::Meta& meta, const crds::LadderSpec& spec,
                         const std::string& hash);

// Whether the policy is annotated to be left alone.
bool IsPaused(const crds::Meta& meta);

// Errors that come again however often one tries: a person must act.
bool NeedsPerson(Code code);

}  // namespace pgtier::controllers
