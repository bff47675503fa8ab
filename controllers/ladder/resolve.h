// From the fields that every ladder has to what they mean: defaults applied, triggers as the decision takes them.
#pragma once

#include <string>
#include <vector>

#include "core/ladder.h"
#include "crds/ladder.h"

namespace pgtier::controllers {

// A field that the schema takes and this release does not act on.
struct Unavailable {
  std::string field;  // "spec.tiers[2].sharding"
  std::string tier;   // Only this tier cannot be entered; empty: see `whole_policy`.
  bool whole_policy = false;
};

// What the schema takes and makes no sense as it stands: a person must change it.
struct Refusal {
  std::string why;   // Begins with the field.
  std::string tier;  // Only this tier cannot be entered; empty: nothing can be done.
};

// What of a policy is not acted on.
struct Limits {
  std::vector<Unavailable> unavailable;
  std::vector<Refusal> refusals;

  // The refusals that let nothing be done, or empty.
  [[nodiscard]] std::string WholePolicyRefused() const;
  // Why nothing at all can be done, or empty: refused, or not available.
  [[nodiscard]] std::string WholePolicyUnavailable() const;
  // Why that tier cannot be entered.
  [[nodiscard]] core::Gate BlockedBy(const std::string& tier) const;
  // Each field that is not available, once.
  [[nodiscard]] std::vector<std::string> Fields() const;
};

// Time between two readings: what the spec says, from 1 s to 1 h; 15 s where it says nothing.
Duration ResolveInterval(const crds::LadderSpec& spec);

// Everything of the ladder but its tiers, plans and approvals.
core::Ladder ResolveLadder(const crds::LadderSpec& spec);

// A rung: name, match and triggers. Whether it needs approval, or cannot be entered, is the caller's to say. Nothing is
// left where `down` says Never, so no trigger's `leave` is kept then.
core::Tier ResolveRung(const crds::TierRule& rule, Duration interval, core::Down down);

}  // namespace pgtier::controllers
