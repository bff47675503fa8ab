// What a managed server holds beside the application's data: roles, the database, extensions and pgtier's schema.
#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "controllers/scale_tier/observe_postgres.h"
#include "controllers/scale_tier/plan.h"
#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers::scale_tier {

// The advisory lock of every pgtier operator that acts on a server: a lease is no fence, this is. ("pgtier" in ASCII.)
inline constexpr int64_t kActLock = 0x706774696572;

// A superuser's connection to the database `postgres` of the server at `peer` that holds the lock of those who act
// there: a lease is no fence. Errors: kAborted: another pgtier holds it.
Result<postgres::Connection> OpenToAct(const Peer& peer, const Credentials& credentials, Deadline deadline,
                                       const std::stop_token& stop);

// Makes all of it on the server at `peer`, under an advisory lock, and records `hash` as installed at its end. May find
// any part of it done. Passwords are set to those of the Secrets: they are the truth.
Status InstallOnPrimary(const Peer& peer, const crds::ManagedPostgres& managed, const Credentials& credentials,
                        const std::string& hash, Deadline deadline, const std::stop_token& stop);

// Makes the list of materialized views that the database refreshes what `views` says: name and time between two.
Status SetViewsOnPrimary(const Peer& peer, const crds::ManagedPostgres& managed, const Credentials& credentials,
                         const std::map<std::string, Duration>& views, Deadline deadline, const std::stop_token& stop);

// Records the tier and moves the epoch from `epoch` on. Errors: kAborted: the epoch is another one; somebody else
// leads now.
Status RecordTierOnPrimary(const Peer& peer, const crds::ManagedPostgres& managed, const Credentials& credentials,
                           const std::string& tier, int64_t epoch, Deadline deadline, const std::stop_token& stop);

// The same on a connection to the database, with the lock held.
Status RecordTierIn(postgres::Connection& database, const std::string& tier, int64_t epoch, Deadline deadline);

// Makes the primary at `peer` come up as a standby from its next start on, and gives where it writes then. A crash in
// between is noticed: all is done on one connection. Errors: kFailedPrecondition: it is a standby.
Result<postgres::Lsn> Demote(const Peer& peer, const Credentials& credentials, Deadline deadline,
                             const std::stop_token& stop);

// Proves, promotes and moves the epoch, as the action says; all of it may have been done before.
// Errors: kFailedPrecondition: NotProven().
Status PromoteServer(const PromoteInstance& action, const Peer& peer, const std::string& database,
                     const Credentials& credentials, Deadline deadline, const std::stop_token& stop);

}  // namespace pgtier::controllers::scale_tier
