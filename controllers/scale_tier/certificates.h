// The policy's own authority and the certificates that it gives to Postgres and to poolers: drawn, renewed in time, and
// handed over from one authority to the next without anybody being refused (docs/decisions/0031). Pure but for
// the random numbers.
#pragma once

#include <string>
#include <vector>

#include "controllers/scale_tier/resolve.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/pki/authority.h"

namespace pgtier::controllers::scale_tier {

// A server's certificate with what goes beside it.
struct ServerCertificate {
  pki::Identity identity;   // The certificate, then the chain to former authorities.
  std::string trust;        // The authorities as they were handed out with it.
  std::string fingerprint;  // SHA-256 of the certificate.
};

struct Certificates {
  pki::Identity authority;
  std::string former;   // Authorities before it that are still trusted.
  std::string cross;    // From the present authority to former ones, for clients that know only these.
  std::string request;  // The rotation on request that was carried out last.
  ServerCertificate postgres;
  ServerCertificate pooler;

  // What to trust, a bundle; empty: nothing was made yet.
  [[nodiscard]] std::string Trust() const {
    return authority.certificate.empty() ? postgres.trust : authority.certificate + former;
  }
};

struct CertificateNeeds {
  std::string owner;  // "data/kyoyu", for the authority's name
  std::vector<std::string> postgres_names;
  std::vector<std::string> pooler_names;
  std::string request;  // The annotation's value.
};

// What a policy needs: every name under which its Services are reached. `last_ordinal`: of the instances that exist.
CertificateNeeds NeedsOf(const crds::ScaleTierPolicy& policy, const Resolved& resolved, int last_ordinal);

// `known` with whatever is missing, damaged, due (two thirds of its life are over) or asked for renewed. The authority
// lives for three years and is trusted for thirty days after it was followed by another; servers' certificates live for
// ninety days. Without anything due, what comes out is what went in.
Result<Certificates> Renew(const Certificates& known, const CertificateNeeds& needs, WallTime now);

}  // namespace pgtier::controllers::scale_tier
