// A policy of either kind, as the API server has it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "cli/options.h"
#include "crds/scale_tier_policy.h"
#include "crds/shadow_table_policy.h"
#include "lib/base/result.h"
#include "lib/kube/client.h"

namespace pgtier::cli {

// A policy as read, in both forms.
struct Policy {
  nlohmann::json object;
  std::variant<crds::ScaleTierPolicy, crds::ShadowTablePolicy> decoded;

  [[nodiscard]] const crds::Meta& meta() const;
  [[nodiscard]] const crds::LadderSpec& spec() const;
  [[nodiscard]] const crds::LadderStatus& status() const;
  [[nodiscard]] std::vector<const crds::TierRule*> tiers() const;
  [[nodiscard]] const kube::Resource& resource() const;
  // "scaletierpolicy/kyoyu", as kubectl prints it.
  [[nodiscard]] std::string Printed() const;
  // The NAME by which every command finds this very policy.
  [[nodiscard]] std::string Named() const;
};

// NAME of a policy of that kind: "kyoyu", "shadowtables/kyoyu-audit".
std::string NameFor(Kind kind, const std::string& name);

// kAny: the ScaleTierPolicy of that name, or where there is none the ShadowTablePolicy.
// Errors: kNotFound says what was looked for; others as the client's.
Result<Policy> ReadPolicy(kube::Client& client, Kind kind, const kube::ObjectKey& key, Deadline deadline);

}  // namespace pgtier::cli
