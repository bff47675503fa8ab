#include "controllers/scale_tier/observe_readings.h"

#include "controllers/ladder/memory.h"
#include "controllers/ladder/readings.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "controllers/scale_tier/report.h"
#include "lib/observe/pooler_reading.h"

namespace pgtier::controllers::scale_tier {
namespace {

core::Reading ReadPoolers(const Seen& seen, const std::string& metric, const core::Trigger& rule) {
  std::vector<poolers::Utilisation> pods;
  int silent = 0;
  for (const PoolerPodSeen& pod : seen.poolers) {
    if (pod.answered) pods.push_back(pod.utilisation);
    if (pod.ready && !pod.answered) ++silent;
  }
  return observe::ReadPoolers(metric, pods, silent, rule);
}

}  // namespace

Result<postgres::ConnectOptions> MonitorConnection(const Seen& seen, const crds::ScaleTierPolicy& policy,
                                                   const HostCheck& check, Deadline deadline) {
  if (const auto& external = policy.spec.external; external.has_value()) {
    if (external->monitor_secret.empty()) {
      return MakeError(Code::kFailedPrecondition,
                       "MonitorSecretMissing: sql triggers run as spec.postgres.external.monitorSecret; set it");
    }
    if (!seen.credentials.has_value() || !seen.credentials->external.has_value()) {
      return MakeError(Code::kUnavailable, "PostgresUnreachable: " + seen.primary.error);
    }
    const ExternalAccess& access = *seen.credentials->external;
    Result<std::string> address = check(external->host, deadline);
    if (!address.has_value()) return address.error().WithContext("PostgresUnreachable");
    return ConnectToExternal(*external, access, access.monitor, external->host, *address, external->port);
  }
  const InstanceSeen* primary = seen.PrimaryInstance();
  if (!policy.spec.managed.has_value() || primary == nullptr || primary->pod_ip.empty() ||
      !seen.credentials.has_value()) {
    return MakeError(Code::kUnavailable, "PostgresUnreachable: the primary does not run yet");
  }
  return ConnectTo(PeerOf(*primary, *seen.credentials), seen.credentials->AsMonitor(), policy.spec.managed->database);
}

void ReadTriggers(const crds::ScaleTierPolicy& policy, const Resolved& resolved, kube::Client& client,
                  observe::Prometheus& prometheus, const HostCheck& check, Seen& seen, Deadline deadline,
                  const std::stop_token& stop) {
  ReadingSources sources{&client, &prometheus, [&](Deadline by) { return MonitorConnection(seen, policy, check, by); },
                         [&](const crds::TriggerSpec& trigger, const core::Trigger& rule) {
                           if (trigger.source == crds::Source::kPooler) {
                             return ReadPoolers(seen, trigger.pooler_metric, rule);
                           }
                           // `status` is derived from what has been read (scaling.h).
                           return core::Reading::Unknown(std::string(core::kSuppressed) + ": not derived yet");
                         }};
  Deadline budget = deadline.AtMost(kReadingsBudget);
  seen.readings = controllers::ReadTriggers(policy.meta, policy.spec, RulesIn(policy.spec.tiers), resolved.ladder,
                                            sources, budget, stop);
  const TierSettings* running = resolved.Find(RunningTier(policy.status, resolved, seen));
  if (running == nullptr || running->replicas == 0 || running->cpu_query.empty()) return;
  seen.replica_cpu = ReadPrometheus(policy.meta, policy.spec, running->cpu_query, sources, budget, stop);
}

}  // namespace pgtier::controllers::scale_tier
