// Passwords of a managed Postgres, exchanged on request without a query that fails (docs/decisions/0032). Pure but for
// the random characters: what was drawn is kept in Secret <policy>-internal, which the plan applies before anybody is
// told.
#pragma once

#include <string>

#include "controllers/scale_tier/resolve.h"
#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::controllers::scale_tier {

// As whom applications log in after `number` rotations: as the role that owns the database, or as one that acts as it.
std::string AppRole(const std::string& database, int64_t number);
// As whom poolers look up the passwords of applications.
std::string PoolerRole(int64_t number);

// Of everything that InstallOnPrimary reads: another schema, extension or password runs it again.
std::string BootstrapHash(const crds::ManagedPostgres& managed, const Credentials& credentials);

// How long the passwords of before stay valid once applications were told the new ones.
Duration PasswordGrace(const crds::ManagedPostgres& managed);

// Why a request is not carried out, for people; empty: nothing keeps it.
std::string WhyNoRotation(const crds::ScaleTierPolicy& policy, const Resolved& resolved);

// `known`, one step further: drawn anew where that is asked for and no rotation runs; told once the primary and every
// standby that serves know the new passwords; those of before ended when their grace is over and no pooler needs them.
// Otherwise what went in.
Result<Credentials> RotatePasswords(const Credentials& known, const crds::ScaleTierPolicy& policy,
                                    const Resolved& resolved, const Seen& seen, WallTime now);

}  // namespace pgtier::controllers::scale_tier
