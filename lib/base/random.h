// Randomness from the kernel.
#pragma once

#include <string>

#include "lib/base/result.h"

namespace pgtier {

// `length` characters of A-Z, a-z and 0-9, each drawn evenly from getrandom(2): passwords and identities.
// Errors: kInternal, when the kernel gives none.
Result<std::string> RandomToken(size_t length);

}  // namespace pgtier
