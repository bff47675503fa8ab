// What is remembered of triggers between two passes, and what of it still holds after an edit of the policy.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/ladder.h"
#include "crds/ladder.h"

namespace pgtier::controllers {

// The rules of a policy's tiers, whatever else each resource has in them.
template <typename Tier>
std::vector<const crds::TierRule*> RulesIn(const std::vector<Tier>& tiers) {
  std::vector<const crds::TierRule*> rules;
  for (const Tier& tier : tiers) rules.push_back(&tier);
  return rules;
}

// What each trigger is judged by, so that a window opened under another rule is not taken for one under this.
std::map<core::TriggerKey, std::string> JudgedBy(const std::vector<const crds::TierRule*>& tiers);

// Closes the windows of triggers that were judged by something else before.
void ForgetOtherRules(const std::map<core::TriggerKey, std::string>& now,
                      const std::map<core::TriggerKey, std::string>& before,
                      std::map<core::TriggerKey, core::TriggerMemory>& triggers);

// The memories that status holds, without the windows of triggers whose threshold or source is another one now.
std::map<core::TriggerKey, core::TriggerMemory> TriggersInStatus(const crds::LadderStatus& status,
                                                                 const core::Ladder& ladder);

}  // namespace pgtier::controllers
