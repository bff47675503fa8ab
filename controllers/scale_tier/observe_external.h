// What an external Postgres says of itself. Nothing is written there: lag is how long a standby takes to replay up to
// where the primary was when it was asked, which needs neither a heartbeat row nor a superuser.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

#include "controllers/scale_tier/external.h"
#include "controllers/scale_tier/seen.h"
#include "lib/kube/client.h"

namespace pgtier::controllers::scale_tier {

// Fills seen.credentials->external, seen.primary and seen.instances (the primary first, then the standbys, named by
// their hosts). Errors: those of reading Secrets, other than that one is missing or not fit for use, which is a fact.
// `longest_lag` bounds how long a standby is waited for.
Status AskExternal(kube::Client& client, const crds::ScaleTierPolicy& policy, const HostCheck& check,
                   Duration longest_lag, Seen& seen, Deadline deadline, const std::stop_token& stop);

// What the Secrets of an external Postgres hold; `trouble`: why they can't be used.
struct ExternalSecrets {
  ExternalAccess access;
  std::optional<Trouble> trouble;
};
// Errors: the apiserver's.
Result<ExternalSecrets> ReadExternalSecrets(kube::Client& client, const std::string& namespace_,
                                            const crds::ExternalPostgres& external, Deadline deadline,
                                            const std::stop_token& stop);

// The part of it that asks the servers, with the Secrets' content known; the servers are listed in seen.instances.
void AskExternalServers(const crds::ExternalPostgres& external, const ExternalAccess& access, const HostCheck& check,
                        Duration longest_lag, Seen& seen, Deadline deadline, const std::stop_token& stop);

}  // namespace pgtier::controllers::scale_tier
