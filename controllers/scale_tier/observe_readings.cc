#include "controllers/scale_tier/observe_readings.h"

#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "controllers/scale_tier/report.h"
#include "lib/base/base64.h"
#include "lib/kube/json.h"
#include "lib/observe/http_json.h"
#include "lib/observe/pooler_reading.h"
#include "lib/observe/sql_reading.h"

namespace pgtier::controllers::scale_tier {
namespace {

using core::Reading;

// One budget for all queries of a pass: a source that hangs must not keep a lagging replica in routing.
constexpr Duration kBudget = std::chrono::seconds(5);
// One statement's share of it.
constexpr Duration kSqlPatience = std::chrono::seconds(3);

// Reads the triggers of one policy; lives for one pass.
class Reader {
 public:
  Reader(const crds::ScaleTierPolicy& policy, kube::Client& client, observe::Prometheus& prometheus,
         const HostCheck& check, const Seen& seen, Deadline deadline, const std::stop_token& stop)
      : policy_(policy),
        client_(client),
        prometheus_(prometheus),
        check_(check),
        seen_(seen),
        deadline_(deadline.AtMost(kBudget)),
        stop_(stop) {}

  Reading Read(const crds::TriggerSpec& trigger, const core::Trigger& rule) {
    switch (trigger.source) {
      case crds::Source::kPrometheus:
        return AskPrometheus(trigger.query);
      case crds::Source::kPooler:
        return ReadPooler(trigger.pooler_metric, rule);
      case crds::Source::kDemand: {
        const std::vector<std::string>& demands = policy_.spec.demands;
        bool demanded = std::find(demands.begin(), demands.end(), rule.name) != demands.end();
        return Reading::Of(demanded ? 1 : 0);
      }
      case crds::Source::kSql:
        return AskPostgres(trigger.sql);
      case crds::Source::kHttp:
        return AskHttp(trigger.http);
      case crds::Source::kStatus:
        break;  // Derived from what has been read (scaling.h).
    }
    return Reading::Unknown(std::string(core::kSuppressed) + ": not derived yet");
  }

  Reading AskPrometheus(const std::string& query) {
    if (!server_.has_value()) {
      const crds::ScaleTierPolicySpec& spec = policy_.spec;
      server_ = PeerOf(spec.prometheus_url, spec.prometheus_token_secret, spec.prometheus_ca_secret);
    }
    if (!server_->has_value()) return Reading::Unknown(server_->error().message);
    return prometheus_.Query(**server_, query, deadline_, stop_);
  }

 private:
  Result<std::string> Secret(const std::string& name, const char* key) {
    return ReadUserSecret(client_, policy_.meta.namespace_, name, "http", key, deadline_, stop_);
  }

  // Whom to ask, with what its Secrets hold; they are read once a pass and only for who needs them.
  Result<observe::Peer> PeerOf(const std::string& url, const std::string& token_secret, const std::string& ca_secret) {
    observe::Peer peer{url, "", ""};
    PGTIER_ASSIGN_OR_RETURN(peer.token, Secret(token_secret, "token"));
    PGTIER_ASSIGN_OR_RETURN(peer.ca_pem, Secret(ca_secret, "ca.crt"));
    return peer;
  }

  Reading AskHttp(const crds::HttpSource& source) {
    Result<observe::Peer> peer = PeerOf(source.url, source.token_secret, source.ca_secret);
    if (!peer.has_value()) return Reading::Unknown(peer.error().message);
    observe::HttpQuestion question{*peer, source.json_path, source.timestamp_path, source.scale.value_or(1),
                                   source.max_age};
    return observe::ReadHttpJson(prometheus_.outbound(), question, SystemClock().Now(), deadline_, stop_);
  }

  Reading AskPostgres(const crds::SqlSource& source) {
    Result<postgres::ConnectOptions> server = MonitorConnection(seen_, policy_, check_, deadline_);
    if (!server.has_value()) return Reading::Unknown(server.error().message);
    observe::SqlQuestion question{source.query, source.rows_of, source.count == "Exact"};
    return observe::ReadSql(*server, question, kSqlPatience, deadline_, stop_);
  }

  Reading ReadPooler(const std::string& metric, const core::Trigger& rule) {
    std::vector<poolers::Utilisation> pods;
    int silent = 0;
    for (const PoolerPodSeen& pod : seen_.poolers) {
      if (pod.answered) pods.push_back(pod.utilisation);
      if (pod.ready && !pod.answered) ++silent;
    }
    return observe::ReadPoolers(metric, pods, silent, rule);
  }

  const crds::ScaleTierPolicy& policy_;
  kube::Client& client_;
  observe::Prometheus& prometheus_;
  const HostCheck& check_;
  const Seen& seen_;
  const Deadline deadline_;
  const std::stop_token& stop_;
  std::optional<Result<observe::Peer>> server_;  // Of spec.metrics.prometheus, once it was asked for.
};

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
  return ConnectTo(PeerOf(*primary, *seen.credentials), kMonitorRole, seen.credentials->monitor,
                   policy.spec.managed->database);
}

Result<std::string> ReadUserSecret(kube::Client& client, const std::string& namespace_, const std::string& name,
                                   const char* use, const char* key, Deadline deadline, const std::stop_token& stop) {
  if (name.empty()) return std::string();
  Result<nlohmann::json> secret = client.Get(kube::kSecrets, {namespace_, name}, deadline, stop);
  if (!secret.has_value()) {
    if (secret.error().code != Code::kNotFound) return secret.error().WithContext("SecretUnreadable");
    return MakeError(Code::kNotFound, "SecretNotFound: there is no Secret " + name + " in this namespace");
  }
  if (kube::StringAt(*secret, {"metadata", "labels", kUseLabel}) != use) {
    return MakeError(Code::kPermissionDenied,
                     "SecretNotLabelled: Secret " + name + " lacks the label " + kUseLabel + "=" + use);
  }
  std::string text = DecodeBase64(kube::StringAt(*secret, {"data", key})).value_or("");
  if (text.empty()) {
    return MakeError(Code::kFailedPrecondition, "SecretIncomplete: Secret " + name + " has no key " + key);
  }
  // A token that was made by `echo` ends in a line break, which no header may hold.
  while (std::string(key) == "token" && !text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

void ReadTriggers(const crds::ScaleTierPolicy& policy, const Resolved& resolved, kube::Client& client,
                  observe::Prometheus& prometheus, const HostCheck& check, Seen& seen, Deadline deadline,
                  const std::stop_token& stop) {
  Reader reader(policy, client, prometheus, check, seen, deadline, stop);
  for (size_t i = 0; i < policy.spec.tiers.size(); ++i) {
    const crds::TierSpec& tier = policy.spec.tiers[i];
    for (size_t j = 0; j < tier.triggers.size(); ++j) {
      seen.readings[{tier.name, tier.triggers[j].rule.name}] =
          reader.Read(tier.triggers[j], resolved.ladder.tiers[i].triggers[j]);
    }
  }
  const TierSettings* running = resolved.Find(RunningTier(policy.status, resolved, seen));
  if (running == nullptr || running->replicas == 0 || running->cpu_query.empty()) return;
  seen.replica_cpu = reader.AskPrometheus(running->cpu_query);
}

}  // namespace pgtier::controllers::scale_tier
