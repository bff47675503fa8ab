// SCRAM-SHA-256 verifiers, as Postgres stores them (RFC 5803).
#pragma once

#include <string>

namespace pgtier::postgres {

// Whether `verifier` ("SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>") was made of `password`. False too
// for what is no such verifier. The password is printable ASCII, which SASLprep leaves as it is.
bool IsVerifierOf(const std::string& verifier, const std::string& password);

}  // namespace pgtier::postgres
