#include "controllers/scale_tier/observe_external.h"

#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/base/base64.h"
#include "lib/kube/json.h"
#include "lib/postgres/catalogue.h"
#include "lib/postgres/sqlstate.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

// A server that is stopped or cut off must not hold up the pass.
constexpr Duration kServerPatience = std::chrono::seconds(3);
// How long a standby is waited for to replay up to a position, at most, and how often it is asked.
constexpr Duration kLongestWait = std::chrono::seconds(2);
constexpr Duration kPoll = std::chrono::milliseconds(20);

// Reads the policy's Secrets; the first that is not fit for use is kept as trouble.
class SecretReader {
 public:
  SecretReader(kube::Client& client, std::string space, Deadline deadline, const std::stop_token& stop)
      : client_(client), namespace_(std::move(space)), deadline_(deadline), stop_(stop) {}

  // The texts under these keys. Nothing where there is trouble. Errors: the apiserver's.
  Result<std::vector<std::string>> Read(const std::string& field, const std::string& name,
                                        const std::vector<const char*>& keys) {
    std::vector<std::string> texts(keys.size());
    Result<Json> secret = client_.Get(kube::kSecrets, {namespace_, name}, deadline_, stop_);
    if (!secret.has_value()) {
      if (secret.error().code != Code::kNotFound) return secret.error();
      Keep("SecretNotFound", field + ": there is no Secret " + name + " in this namespace: create it");
      return texts;
    }
    if (kube::StringAt(*secret, {"metadata", "labels", kUseLabel}) != "postgres") {
      Keep("SecretNotLabelled", field + ": Secret " + name + " lacks the label " + kUseLabel +
                                    "=postgres, by which its owner agrees to its use: kubectl label secret " + name +
                                    " " + kUseLabel + "=postgres");
      return texts;
    }
    // Who may write policies, but not read Secrets, would have passwords of a managed database sent to a host of
    // theirs.
    if (!kube::StringAt(*secret, {"metadata", "labels", kPolicyLabel}).empty()) {
      Keep("SecretOfAnotherPolicy",
           field + ": Secret " + name + " was made by pgtier for a managed Postgres: make one for this server's login");
      return texts;
    }
    versions_ += kube::UidOf(*secret) + "/" + kube::StringAt(*secret, {"metadata", "resourceVersion"}) + "\n";
    for (size_t i = 0; i < keys.size(); ++i) {
      texts[i] = DecodeBase64(kube::StringAt(*secret, {"data", keys[i]})).value_or("");
      if (texts[i].empty()) {
        Keep("SecretIncomplete", field + ": Secret " + name + " has no key " + keys[i] + ": add it");
      }
    }
    return texts;
  }

  Result<Login> ReadLogin(const std::string& field, const std::string& name) {
    PGTIER_ASSIGN_OR_RETURN(std::vector<std::string> texts, Read(field, name, {"username", "password"}));
    return Login{texts[0], texts[1]};
  }

  [[nodiscard]] const std::optional<Trouble>& trouble() const { return trouble_; }
  [[nodiscard]] const std::string& versions() const { return versions_; }

 private:
  void Keep(const char* reason, const std::string& message) {
    if (!trouble_.has_value()) trouble_ = Trouble{reason, "spec.postgres.external." + message};
  }

  kube::Client& client_;
  std::string namespace_;
  Deadline deadline_;
  const std::stop_token& stop_;
  std::optional<Trouble> trouble_;
  std::string versions_;
};

Result<ExternalAccess> ReadAccess(SecretReader& reader, const crds::ExternalPostgres& external) {
  ExternalAccess access;
  PGTIER_ASSIGN_OR_RETURN(access.admin, reader.ReadLogin("adminSecret", external.admin_secret));
  access.monitor = access.app = access.admin;
  if (!external.monitor_secret.empty()) {
    PGTIER_ASSIGN_OR_RETURN(access.monitor, reader.ReadLogin("monitorSecret", external.monitor_secret));
    access.own_monitor = true;
  }
  if (!external.app_secret.empty()) {
    PGTIER_ASSIGN_OR_RETURN(access.app, reader.ReadLogin("appSecret", external.app_secret));
  }
  if (!external.ca_secret.empty()) {
    PGTIER_ASSIGN_OR_RETURN(std::vector<std::string> ca, reader.Read("caSecret", external.ca_secret, {"ca.crt"}));
    access.ca_pem = ca.front();
  }
  access.versions = reader.versions();
  return access;
}

void NotePrimary(const Trouble& trouble, PrimarySeen& primary) {
  primary.answered = false;
  primary.reason = trouble.reason;
  primary.error = trouble.message;
  primary.needs_person = trouble.needs_person;
}

// One of the servers, for as long as it is asked.
class Server {
 public:
  Server(const crds::ExternalPostgres& external, const ExternalAccess& access, const HostCheck& check, std::string host,
         int port, Deadline deadline, const std::stop_token& stop)
      : external_(external),
        access_(access),
        check_(check),
        host_(std::move(host)),
        port_(port),
        deadline_(deadline),
        stop_(stop) {}

  Status Open() {
    PGTIER_ASSIGN_OR_RETURN(std::string address, check_(host_, deadline_));
    postgres::ConnectOptions options = ConnectToExternal(external_, access_, access_.monitor, host_, address, port_);
    options.options += " -c default_transaction_read_only=on";
    PGTIER_ASSIGN_OR_RETURN(postgres::Connection opened, postgres::Connection::Open(options, deadline_, stop_));
    connection_ = std::move(opened);
    return {};
  }

  [[nodiscard]] Trouble Explain(const Error& error) const {
    const std::string& secret = access_.own_monitor ? external_.monitor_secret : external_.admin_secret;
    return ExplainExternal(error, external_, host_, access_.monitor, secret);
  }

  // Who it is; empty where it is not to be known (not every service lets a monitor ask).
  Result<std::string> Identifier() {
    Result<postgres::ServerIdentity> identity = postgres::Identity(*connection_, deadline_);
    if (identity.has_value()) return identity->system_identifier;
    if (postgres::SqlStateOf(identity.error()).empty()) return identity.error();
    return std::string();
  }

  [[nodiscard]] postgres::Connection& connection() { return *connection_; }
  [[nodiscard]] const std::string& host() const { return host_; }
  [[nodiscard]] Deadline deadline() const { return deadline_; }

 private:
  const crds::ExternalPostgres& external_;
  const ExternalAccess& access_;
  const HostCheck& check_;
  std::string host_;
  int port_;
  Deadline deadline_;
  const std::stop_token& stop_;
  std::optional<postgres::Connection> connection_;
};

Status AskState(postgres::Connection& connection, PrimarySeen& primary, Deadline deadline) {
  Result<postgres::Rows> rows = connection.Query("SELECT epoch, tier, installed FROM pgtier.state", deadline);
  if (!rows.has_value()) {
    // The schema may be missing, or not be this role's to read yet: Bootstrap mends both.
    if (rows.error().code == Code::kNotFound || rows.error().code == Code::kPermissionDenied) return {};
    return rows.error();
  }
  PGTIER_ASSIGN_OR_RETURN(postgres::Row row, rows->Single());
  PGTIER_ASSIGN_OR_RETURN(primary.epoch, row.Get<int64_t>("epoch"));
  PGTIER_ASSIGN_OR_RETURN(primary.tier, row.Get<std::string>("tier"));
  PGTIER_ASSIGN_OR_RETURN(primary.installed, row.Get<std::string>("installed"));
  return {};
}

// False where it is a standby: then it is no server to write to.
Result<bool> AskPrimary(Server& server, PrimarySeen& primary) {
  PGTIER_RETURN_IF_ERROR(server.Open());
  PGTIER_ASSIGN_OR_RETURN(bool standby, postgres::IsInRecovery(server.connection(), server.deadline()));
  if (standby) return false;
  PGTIER_ASSIGN_OR_RETURN(primary.system_identifier, server.Identifier());
  PGTIER_RETURN_IF_ERROR(AskState(server.connection(), primary, server.deadline()));
  PGTIER_ASSIGN_OR_RETURN(primary.wal, postgres::CurrentLsn(server.connection(), server.deadline()));
  return true;
}

// How far a standby has replayed, and how old the last commit is that it replayed.
struct Replayed {
  postgres::Lsn lsn;
  std::optional<Duration> age;
};

Result<Replayed> AskReplayed(postgres::Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      postgres::Rows rows,
      connection.Query("SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text AS lsn, (extract(epoch FROM "
                       "clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint::text AS age",
                       deadline));
  PGTIER_ASSIGN_OR_RETURN(postgres::Row row, rows.Single());
  Replayed replayed;
  PGTIER_ASSIGN_OR_RETURN(std::string lsn, row.Get<std::string>("lsn"));
  PGTIER_ASSIGN_OR_RETURN(replayed.lsn, postgres::Lsn::Parse(lsn));
  if (std::optional<std::string_view> age = row.Text("age")) {
    replayed.age = std::chrono::milliseconds(std::stoll(std::string(*age)));
  }
  return replayed;
}

// Whether it is a standby of that primary; else why not, in words.
Result<std::string> Misfit(Server& server, const PrimarySeen& primary) {
  PGTIER_ASSIGN_OR_RETURN(bool in_recovery, postgres::IsInRecovery(server.connection(), server.deadline()));
  if (!in_recovery) return std::string("NotAStandby: it takes writes itself; take it out of replicas");
  PGTIER_ASSIGN_OR_RETURN(std::string identifier, server.Identifier());
  if (!identifier.empty() && !primary.system_identifier.empty() && identifier != primary.system_identifier) {
    return std::string("NotItsStandby: it is a copy of another server than the primary; take it out of replicas");
  }
  return std::string();
}

// A standby while its lag is measured.
struct Follower {
  Server server;
  InstanceSeen* seen;
  bool pending = true;

  void Fail(const Error& error) {
    Trouble trouble = server.Explain(error);
    seen->trouble = trouble.reason + ": " + trouble.message;
    pending = false;
  }
};

// Asks once whether it has replayed what the primary had written at `since`. The time that this took is its lag; the
// age of its last commit is taken only when it is still behind at the `limit`, for on an idle server that age grows by
// itself.
Status LookAtLag(Follower& follower, const PrimarySeen& primary, MonoTime since, Duration limit) {
  PGTIER_ASSIGN_OR_RETURN(Replayed replayed, AskReplayed(follower.server.connection(), follower.server.deadline()));
  InstanceSeen& standby = *follower.seen;
  standby.replayed = replayed.lsn;
  Duration waited = std::chrono::steady_clock::now() - since;
  standby.lag = waited;
  if (replayed.lsn < primary.wal) {
    if (waited <= limit) return {};
    standby.lag = std::max(waited, replayed.age.value_or(waited));
  }
  standby.pod_ready = standby.streaming = true;
  follower.pending = false;
  return {};
}

// All in turn, so that one which lags makes no other look late.
void MeasureLags(std::vector<Follower>& followers, const PrimarySeen& primary, Duration limit,
                 const std::stop_token& stop) {
  MonoTime since = std::chrono::steady_clock::now();
  while (true) {
    bool pending = false;
    for (Follower& follower : followers) {
      if (!follower.pending) continue;
      Status looked = LookAtLag(follower, primary, since, limit);
      if (!looked.has_value()) follower.Fail(looked.error());
      pending = pending || follower.pending;
    }
    if (!pending || !SleepFor(kPoll, stop)) return;
  }
}

void ListServers(const crds::ExternalPostgres& external, Seen& seen) {
  InstanceSeen first;
  first.name = external.host;
  first.ordinal = seen.primary_ordinal;
  seen.instances.push_back(first);
  for (const crds::ExternalReplica& replica : external.replicas) {
    InstanceSeen standby;
    standby.name = replica.host;
    standby.ordinal = static_cast<int>(seen.instances.size()) + 1;
    seen.instances.push_back(standby);
  }
}

}  // namespace

void AskExternalServers(const crds::ExternalPostgres& external, const ExternalAccess& access, const HostCheck& check,
                        Duration longest_lag, Seen& seen, Deadline deadline, const std::stop_token& stop) {
  PrimarySeen& primary = seen.primary;
  Server server(external, access, check, external.host, external.port, deadline.AtMost(kServerPatience), stop);
  Result<bool> writable = AskPrimary(server, primary);
  if (!writable.has_value()) return NotePrimary(server.Explain(writable.error()), primary);
  if (!*writable) {
    return NotePrimary({"NotAPrimary", external.host + " is a standby: write the primary's host into "
                                                       "spec.postgres.external.host; standbys belong into replicas"},
                       primary);
  }
  primary.answered = true;
  seen.instances.front().pod_ready = true;

  // All are connected to before the position is taken: making a connection is no lag.
  std::vector<Follower> followers;
  for (size_t i = 0; i < external.replicas.size(); ++i) {
    const crds::ExternalReplica& replica = external.replicas[i];
    followers.push_back({Server(external, access, check, replica.host, replica.port.value_or(kPostgresPort),
                                deadline.AtMost(kServerPatience), stop),
                         &seen.instances[i + 1]});
    Follower& follower = followers.back();
    Status opened = follower.server.Open();
    Result<std::string> misfit = opened.has_value() ? Misfit(follower.server, primary) : opened.error();
    if (!misfit.has_value()) {
      follower.Fail(misfit.error());
    } else if (!misfit->empty()) {
      follower.seen->trouble = *misfit;
      follower.pending = false;
    }
  }
  if (followers.empty()) return;
  Result<postgres::Lsn> wal = postgres::CurrentLsn(server.connection(), deadline.AtMost(kServerPatience));
  if (!wal.has_value()) return NotePrimary(server.Explain(wal.error()), primary);
  primary.wal = *wal;
  MeasureLags(followers, primary, std::min(longest_lag, kLongestWait), stop);
}

Result<ExternalSecrets> ReadExternalSecrets(kube::Client& client, const std::string& namespace_,
                                            const crds::ExternalPostgres& external, Deadline deadline,
                                            const std::stop_token& stop) {
  SecretReader reader(client, namespace_, deadline, stop);
  PGTIER_ASSIGN_OR_RETURN(ExternalAccess access, ReadAccess(reader, external));
  return ExternalSecrets{std::move(access), reader.trouble()};
}

Status AskExternal(kube::Client& client, const crds::ScaleTierPolicy& policy, const HostCheck& check,
                   Duration longest_lag, Seen& seen, Deadline deadline, const std::stop_token& stop) {
  const crds::ExternalPostgres& external = *policy.spec.external;
  ListServers(external, seen);
  PGTIER_ASSIGN_OR_RETURN(ExternalSecrets secrets,
                          ReadExternalSecrets(client, policy.meta.namespace_, external, deadline, stop));
  if (secrets.trouble.has_value()) {
    NotePrimary(*secrets.trouble, seen.primary);
    return {};
  }
  if (!seen.credentials.has_value()) seen.credentials.emplace();
  seen.credentials->external = secrets.access;
  AskExternalServers(external, secrets.access, check, longest_lag, seen, deadline, stop);
  return {};
}

}  // namespace pgtier::controllers::scale_tier
