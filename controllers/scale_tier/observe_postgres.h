// What instances and poolers say of themselves, over their own protocol.
#pragma once

#include <stop_token>

#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/clock.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers::scale_tier {

// Fills seen.primary, and of each instance what it and the primary say of it.
void AskInstances(Seen& seen, const std::string& database, Deadline deadline, const std::stop_token& stop);
// Fills what each ready pooler pod says.
// The promotion as noted on the Service of a managed policy; while one runs or is to begin, where each instance's WAL
// ends.
void ObservePromotion(const crds::ScaleTierPolicy& policy, Seen& seen, Deadline deadline, const std::stop_token& stop);

void AskPoolers(Seen& seen, Deadline deadline, const std::stop_token& stop);

// How to reach a role of an instance at its pod's address.
postgres::ConnectOptions ConnectTo(const std::string& ip, const std::string& role, const std::string& password,
                                   const std::string& database);
// The console of a pooler pod.
postgres::ConnectOptions ConnectToConsole(const std::string& ip, const Credentials& credentials);

}  // namespace pgtier::controllers::scale_tier
