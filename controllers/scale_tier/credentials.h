// Passwords and certificates, from the Secrets of a policy and back.
#pragma once

#include <optional>
#include <string>

#include "controllers/scale_tier/seen.h"
#include "lib/base/result.h"

namespace pgtier::controllers::scale_tier {

// What stands in the Secrets of `seen`; nothing where there is none yet. Of a rotation of passwords (passwords.h) that
// was broken off anywhere it gives the state from which it goes on.
std::optional<Credentials> ReadCredentials(const Seen& seen, const std::string& policy);

// `known`, with whatever is missing in it drawn anew.
Result<Credentials> CompleteCredentials(const std::optional<Credentials>& known);

}  // namespace pgtier::controllers::scale_tier
