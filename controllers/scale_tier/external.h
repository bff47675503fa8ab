// A Postgres that exists already: how to reach it, what pgtier keeps in it, and what is wrong with it in words.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers::scale_tier {

// Gives the address that a host's name leads to, if the operator may go there. Errors: kPermissionDenied: it may not;
// else those of postgres::ResolveHost.
using HostCheck = std::function<Result<std::string>(const std::string& host, Deadline deadline)>;

// Refuses loopback, link-local and whatever `forbidden` (names or addresses, the apiserver's) leads to.
HostCheck RefuseSpecialHosts(std::vector<std::string> forbidden);

// What a person is told of an external server that does not serve.
struct Trouble {
  std::string reason;   // PascalCase, of a condition.
  std::string message;  // What was found, and what to do.
  bool needs_person = true;
};

// Of a connection or statement of `login` on `host` that failed. `secret` is the Secret that the login is from.
Trouble ExplainExternal(const Error& error, const crds::ExternalPostgres& external, const std::string& host,
                        const Login& login, const std::string& secret);

// The same as an Error, "Reason: message", for actions. Its code says whether a person must act.
Error ExternalError(const Error& error, const crds::ExternalPostgres& external, const Login& login,
                    const std::string& secret);

// A connection to `host` (at `address`) of the external Postgres, by its sslMode and CA.
postgres::ConnectOptions ConnectToExternal(const crds::ExternalPostgres& external, const ExternalAccess& access,
                                           const Login& login, const std::string& host, const std::string& address,
                                           int port);

// Makes schema pgtier as the admin, under an advisory lock, tries the application's login, and records `hash` as
// installed. May find any part of it done.
Status InstallOnExternal(const crds::ExternalPostgres& external, const ExternalAccess& access, const HostCheck& check,
                         const std::string& hash, Deadline deadline, const std::stop_token& stop);

// Records the tier and moves the epoch from `epoch` on. Errors: kAborted: the epoch is another one.
Status RecordTierOnExternal(const crds::ExternalPostgres& external, const ExternalAccess& access,
                            const HostCheck& check, const std::string& tier, int64_t epoch, Deadline deadline,
                            const std::stop_token& stop);

}  // namespace pgtier::controllers::scale_tier
