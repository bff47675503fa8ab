// A certificate authority in a few calls: EC P-256 keys, SHA-256, random serial numbers (RFC 5280).
#pragma once

#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::pki {

// A certificate and its private key, both PEM. Never logged.
struct Identity {
  std::string certificate;  // May be followed by its chain.
  std::string key;
};

// A self-signed authority named CN=`name`. `name` must differ from that of an authority that it takes over from.
// Certificates are valid from an hour before `now`, for clocks differ. Errors: kInternal: OpenSSL's.
Result<Identity> MakeAuthority(const std::string& name, WallTime now, Duration life);

// `successor` (an authority's certificate) signed once more by `issuer`: whoever trusts only `issuer` follows a chain
// with this certificate in it to what the successor signs. It ends with the issuer.
Result<std::string> CrossSign(const Identity& issuer, const std::string& successor, WallTime now);

// A server's certificate for these DNS names, the first of which is its common name (cut to 64 characters), with a new
// key. It ends no later than the authority. Errors: kInvalidArgument: no name.
Result<Identity> IssueServer(const Identity& authority, const std::vector<std::string>& names, WallTime now,
                             Duration life);

}  // namespace pgtier::pki
