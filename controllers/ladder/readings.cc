#include "controllers/ladder/readings.h"

#include <algorithm>

#include "controllers/ladder/names.h"
#include "controllers/ladder/objects.h"
#include "lib/kube/json.h"
#include "lib/observe/http_json.h"
#include "lib/observe/sql_reading.h"

namespace pgtier::controllers {
namespace {

using core::Reading;

// One statement's share of it.
constexpr Duration kSqlPatience = std::chrono::seconds(3);

// Reads the triggers of one policy; lives for one pass.
class Reader {
 public:
  Reader(const crds::Meta& policy, const crds::LadderSpec& spec, const ReadingSources& sources, Deadline deadline,
         const std::stop_token& stop)
      : policy_(policy), spec_(spec), sources_(sources), deadline_(deadline), stop_(stop) {}

  Reading Read(const crds::TriggerSpec& trigger, const core::Trigger& rule) {
    switch (trigger.source) {
      case crds::Source::kPrometheus:
        return AskPrometheus(trigger.query);
      case crds::Source::kDemand: {
        const std::vector<std::string>& demands = spec_.demands;
        bool demanded = std::find(demands.begin(), demands.end(), rule.name) != demands.end();
        return Reading::Of(demanded ? 1 : 0);
      }
      case crds::Source::kSql:
        return AskPostgres(trigger.sql);
      case crds::Source::kHttp:
        return AskHttp(trigger.http);
      case crds::Source::kPooler:
      case crds::Source::kStatus:
        break;
    }
    return sources_.own ? sources_.own(trigger, rule) : NotRead(rule);
  }

  Reading AskPrometheus(const std::string& query) {
    if (!server_.has_value()) {
      server_ = PeerOf(spec_.prometheus_url, spec_.prometheus_token_secret, spec_.prometheus_ca_secret);
    }
    if (!server_->has_value()) return Reading::Unknown(server_->error().message);
    return sources_.prometheus->Query(**server_, query, deadline_, stop_);
  }

 private:
  Result<std::string> Secret(const std::string& name, const char* key) {
    return ReadUserSecret(*sources_.client, policy_.namespace_, name, "http", key, deadline_, stop_);
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
    return observe::ReadHttpJson(sources_.prometheus->outbound(), question, SystemClock().Now(), deadline_, stop_);
  }

  Reading AskPostgres(const crds::SqlSource& source) {
    Result<postgres::ConnectOptions> server = sources_.database(deadline_);
    if (!server.has_value()) return Reading::Unknown(server.error().message);
    observe::SqlQuestion question{source.query, source.rows_of, source.count == "Exact"};
    return observe::ReadSql(*server, question, kSqlPatience, deadline_, stop_);
  }

  const crds::Meta& policy_;
  const crds::LadderSpec& spec_;
  const ReadingSources& sources_;
  const Deadline deadline_;
  const std::stop_token& stop_;
  std::optional<Result<observe::Peer>> server_;  // Of spec.metrics.prometheus, once it was asked for.
};

}  // namespace

core::Reading NotRead(const core::Trigger& rule) {
  return Reading::Unknown(std::string(core::kNotAvailable) + ": this release does not read " + rule.source);
}

Result<nlohmann::json> GetUserSecret(kube::Client& client, const std::string& namespace_, const std::string& name,
                                     const char* use, Deadline deadline, const std::stop_token& stop) {
  Result<nlohmann::json> secret = client.Get(kube::kSecrets, {namespace_, name}, deadline, stop);
  if (!secret.has_value()) {
    if (secret.error().code != Code::kNotFound) return secret.error().WithContext("SecretUnreadable");
    return MakeError(Code::kNotFound, "SecretNotFound: there is no Secret " + name + " in this namespace");
  }
  if (kube::StringAt(*secret, {"metadata", "labels", kUseLabel}) != use) {
    return MakeError(Code::kPermissionDenied,
                     "SecretNotLabelled: Secret " + name + " lacks the label " + kUseLabel + "=" + use);
  }
  return secret;
}

Result<std::string> ReadUserSecret(kube::Client& client, const std::string& namespace_, const std::string& name,
                                   const char* use, const char* key, Deadline deadline, const std::stop_token& stop) {
  if (name.empty()) return std::string();
  PGTIER_ASSIGN_OR_RETURN(nlohmann::json secret, GetUserSecret(client, namespace_, name, use, deadline, stop));
  std::string text = SecretText(&secret, key);
  if (text.empty()) {
    return MakeError(Code::kFailedPrecondition, "SecretIncomplete: Secret " + name + " has no key " + key);
  }
  // A token that was made by `echo` ends in a line break, which no header may hold.
  while (std::string(key) == "token" && !text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

std::map<core::TriggerKey, core::Reading> ReadTriggers(const crds::Meta& policy, const crds::LadderSpec& spec,
                                                       const std::vector<const crds::TierRule*>& tiers,
                                                       const core::Ladder& ladder, const ReadingSources& sources,
                                                       Deadline deadline, const std::stop_token& stop) {
  Reader reader(policy, spec, sources, deadline, stop);
  std::map<core::TriggerKey, core::Reading> readings;
  for (size_t i = 0; i < tiers.size(); ++i) {
    const crds::TierRule& tier = *tiers[i];
    for (size_t j = 0; j < tier.triggers.size(); ++j) {
      readings[{tier.name, tier.triggers[j].rule.name}] = reader.Read(tier.triggers[j], ladder.tiers[i].triggers[j]);
    }
  }
  return readings;
}

core::Reading ReadPrometheus(const crds::Meta& policy, const crds::LadderSpec& spec, const std::string& query,
                             const ReadingSources& sources, Deadline deadline, const std::stop_token& stop) {
  return Reader(policy, spec, sources, deadline, stop).AskPrometheus(query);
}

}  // namespace pgtier::controllers
