// What triggers read: from Prometheus, poolers, the database, other JSON, and the policy's own demands.
#pragma once

#include <stop_token>

#include "controllers/scale_tier/external.h"
#include "controllers/scale_tier/resolve.h"
#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/kube/client.h"
#include "lib/observe/prometheus.h"

namespace pgtier::controllers::scale_tier {

// Fills seen.readings with a reading for every trigger, from what is in `seen` already (poolers, instances) and from
// sources that are asked now. A source that cannot be read is Unknown, and why.
void ReadTriggers(const crds::ScaleTierPolicy& policy, const Resolved& resolved, kube::Client& client,
                  observe::Prometheus& prometheus, const HostCheck& check, Seen& seen, Deadline deadline,
                  const std::stop_token& stop);

// How triggers ask the database: as the monitoring role on the primary, never as who acts. Errors begin with the reason
// of a reading: "PostgresUnreachable: …".
Result<postgres::ConnectOptions> MonitorConnection(const Seen& seen, const crds::ScaleTierPolicy& policy,
                                                   const HostCheck& check, Deadline deadline);

}  // namespace pgtier::controllers::scale_tier
