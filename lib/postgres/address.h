// Where the name of a server leads, and whether it may be gone to.
#pragma once

#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::postgres {

// Whether `address` ("10.0.0.1", "fe80::1") is loopback, link-local (cloud metadata is), unspecified or multicast:
// no address of a database that somebody else runs. Errors: kInvalidArgument: no address.
Result<bool> IsSpecialAddress(const std::string& address);

// All addresses of a name, or the address itself, as getaddrinfo gives them. Errors: kInvalidArgument: a list, a path
// or anything else that is neither name nor address; kNotFound: there is no such name; kUnavailable: the resolver does
// not answer; kDeadlineExceeded.
Result<std::vector<std::string>> ResolveHost(const std::string& host, Deadline deadline);

}  // namespace pgtier::postgres
