// A tier change as a plan that people read and approve: its steps, the settings that differ, and a hash of both.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controllers/ladder/approval.h"
#include "controllers/scale_tier/resolve.h"
#include "crds/scale_tier_policy.h"

namespace pgtier::controllers::scale_tier {

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

// controllers::FillApprovals for the tier that runs (empty: none yet).
void FillApprovals(const crds::ScaleTierPolicy& policy, const std::string& tier, int primary_ordinal,
                   Resolved& resolved);

}  // namespace pgtier::controllers::scale_tier
