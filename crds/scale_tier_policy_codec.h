// ScaleTierPolicy from and to JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "crds/scale_tier_policy.h"
#include "lib/base/result.h"

namespace pgtier::crds {

// Decodes a stored object. Fails only where there is no name; whatever else cannot be read is noted in `problems`.
Result<ScaleTierPolicy> DecodeScaleTierPolicy(const nlohmann::json& object);

// The `status` object, as the status subresource takes it: no nulls, no empty lists.
nlohmann::json EncodeStatus(const ScaleTierPolicyStatus& status);

}  // namespace pgtier::crds
