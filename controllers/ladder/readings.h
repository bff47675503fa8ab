// What triggers read: from Prometheus, other JSON, the database, the policy's own demands, and what the caller knows.
#pragma once

#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "core/ladder.h"
#include "crds/ladder.h"
#include "lib/kube/client.h"
#include "lib/observe/prometheus.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers {

struct ReadingSources {
  kube::Client* client;
  observe::Prometheus* prometheus;
  // How `sql` triggers ask the database. Errors begin with the reason of a reading: "PostgresUnreachable: …".
  std::function<Result<postgres::ConnectOptions>(Deadline deadline)> database;
  // Readings of the sources pooler and status, which only some controllers have.
  std::function<core::Reading(const crds::TriggerSpec& trigger, const core::Trigger& rule)> own;
};

// One budget for all queries of a pass: a source that hangs must not keep a lagging replica in routing.
inline constexpr Duration kReadingsBudget = std::chrono::seconds(5);

// A reading for every trigger of `tiers`, which are those of `ladder` as they were written. A source that cannot be
// read is Unknown, and why.
std::map<core::TriggerKey, core::Reading> ReadTriggers(const crds::Meta& policy, const crds::LadderSpec& spec,
                                                       const std::vector<const crds::TierRule*>& tiers,
                                                       const core::Ladder& ladder, const ReadingSources& sources,
                                                       Deadline deadline, const std::stop_token& stop);

// One number that is no trigger's, from spec.metrics.prometheus.
core::Reading ReadPrometheus(const crds::Meta& policy, const crds::LadderSpec& spec, const std::string& query,
                             const ReadingSources& sources, Deadline deadline, const std::stop_token& stop);

// Of a source that this release, or this kind of policy, does not read.
core::Reading NotRead(const core::Trigger& rule);

// A Secret that a policy names. It is read only when its owner labelled it pgtier.dev/use=`use` (http | postgres); else
// whoever may write policies could have any Secret of the namespace sent somewhere. Errors begin with the reason of a
// reading: "SecretNotLabelled: …".
Result<nlohmann::json> GetUserSecret(kube::Client& client, const std::string& namespace_, const std::string& name,
                                     const char* use, Deadline deadline, const std::stop_token& stop);

// The text under a key of it; empty for an empty name.
Result<std::string> ReadUserSecret(kube::Client& client, const std::string& namespace_, const std::string& name,
                                   const char* use, const char* key, Deadline deadline, const std::stop_token& stop);

}  // namespace pgtier::controllers
