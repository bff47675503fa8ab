// ShadowTablePolicy from and to JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "crds/shadow_table_policy.h"
#include "lib/base/result.h"

namespace pgtier::crds {

// Decodes a stored object. Fails only where there is no name; whatever else cannot be read is noted in `problems`.
Result<ShadowTablePolicy> DecodeShadowTablePolicy(const nlohmann::json& object);

// The `status` object, as the status subresource takes it: no nulls, no empty lists.
nlohmann::json EncodeStatus(const ShadowTablePolicyStatus& status);

}  // namespace pgtier::crds
