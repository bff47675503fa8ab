#include "controllers/scale_tier/observe_postgres.h"

#include <algorithm>
#include <sstream>

#include "controllers/scale_tier/names.h"
#include "lib/kube/json.h"
#include "lib/poolers/pgbouncer_admin.h"
#include "lib/poolers/pgcat_admin.h"
#include "lib/postgres/catalogue.h"

namespace pgtier::controllers::scale_tier {
namespace {

// An answer takes milliseconds; a server that is stopped or cut off must not hold up the pass.
constexpr Duration kPatience = std::chrono::seconds(2);

// One row that says what an instance is and runs. pgtier.config is absent until pgtier's configuration is loaded. An
// error of a setting that only waits for a restart is none.
constexpr char kAskInstance[] =
    "SELECT coalesce(current_setting('pgtier.config', true), '') AS config, "
    "(SELECT count(*) > 0 FROM pg_settings WHERE pending_restart) AS restart_pending, "
    // What is no setting at all (a file that is not there, a line that can't be read) has no name.
    "(SELECT coalesce(string_agg(coalesce(f.name, concat('line ', f.sourceline, ' of ', "
    "    regexp_replace(f.sourcefile, '.*/', ''))) || ' (' || f.error || ')', ', '), '') FROM pg_file_settings f "
    "  WHERE f.error IS NOT NULL AND NOT EXISTS "
    "    (SELECT 1 FROM pg_settings s WHERE s.name = f.name AND s.pending_restart)) AS config_error, "
    // Of these a standby must not have less than its primary (PostgreSQL, 26.4.1).
    "(SELECT coalesce(bool_or(CASE WHEN f.setting ~ '^[0-9]{1,9}$' AND s.setting ~ '^[0-9]{1,9}$' "
    "    THEN f.setting::int < s.setting::int END), false) "
    "  FROM pg_file_settings f JOIN pg_settings s ON s.name = f.name WHERE s.pending_restart AND f.name IN "
    "    ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', "
    "     'max_locks_per_transaction')) AS lowers_limits, "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
    "  AND (usename NOT LIKE 'pgtier%' OR usename = 'pgtier_app') AND usename <> 'postgres') AS clients, "
    "(SELECT coalesce(string_agg(slot_name, ','), '') FROM pg_replication_slots WHERE pg_is_in_recovery() "
    "  AND slot_type = 'physical' AND NOT active AND slot_name LIKE 'pgtier\\_%') AS idle_slots, "
    "NOT pg_is_in_recovery() AS takes_writes, "
    "CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() <> 'not paused' ELSE false END AS paused, "
    "greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text AS newest";

// What a standby knows of its own lag: see sql/scale_tier/schema.sql. The next heartbeat was due a quarter of a second
// after the newest one (images/postgres/pgtier-heartbeat).
constexpr char kAskStandby[] = "SELECT streams, caught_up, age, clock_offset, quiet FROM pgtier.standby_state()";
constexpr int64_t kBeatMs = 250;

constexpr char kAskState[] = "SELECT epoch, tier, installed FROM pgtier.state";

// What of the roles and passwords has been replayed on a standby. One that does not tell knows nothing of them.
void AskInstalled(postgres::Connection& connection, InstanceSeen& instance, Deadline deadline) {
  Result<postgres::Rows> rows = connection.Query("SELECT installed FROM pgtier.state", deadline);
  if (rows.has_value() && !rows->empty()) instance.installed = (*rows)[0].Get<std::string>(0).value_or("");
}

constexpr char kAskMaterializedViews[] =
    "SELECT name, (extract(epoch FROM every) * 1000)::bigint AS every, problem, "
    "(extract(epoch FROM fresh_at) * 1000)::bigint AS fresh, (extract(epoch FROM listed_at) * 1000)::bigint AS listed "
    "FROM pgtier.materialized_views";

Status AskMaterializedViews(postgres::Connection& connection, PrimarySeen& primary, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows, connection.Query(kAskMaterializedViews, deadline));
  auto time = [](const Result<int64_t>& ms) {
    return ms.has_value() ? std::optional(WallTime(std::chrono::milliseconds(*ms))) : std::nullopt;
  };
  for (const postgres::Row& row : rows) {
    MaterializedViewSeen view;
    view.every = std::chrono::milliseconds(row.Get<int64_t>("every").value_or(0));
    view.fresh = time(row.Get<int64_t>("fresh"));
    view.listed = time(row.Get<int64_t>("listed"));
    view.problem = row.Get<std::string>("problem").value_or("");
    primary.materialized_views[row.Get<std::string>("name").value_or("")] = std::move(view);
  }
  return {};
}

Status AskInstance(postgres::Connection& connection, InstanceSeen& instance, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows, connection.Query(kAskInstance, deadline));
  PGTIER_ASSIGN_OR_RETURN(postgres::Row row, rows.Single());
  PGTIER_ASSIGN_OR_RETURN(instance.config, row.Get<std::string>("config"));
  PGTIER_ASSIGN_OR_RETURN(instance.restart_pending, row.Get<bool>("restart_pending"));
  PGTIER_ASSIGN_OR_RETURN(instance.lowers_limits, row.Get<bool>("lowers_limits"));
  PGTIER_ASSIGN_OR_RETURN(instance.config_error, row.Get<std::string>("config_error"));
  PGTIER_ASSIGN_OR_RETURN(instance.clients, row.Get<int64_t>("clients"));
  PGTIER_ASSIGN_OR_RETURN(auto idle, row.Get<std::string>("idle_slots"));
  std::stringstream names(idle);
  for (std::string name; std::getline(names, name, ',');) instance.idle_slots.push_back(name);
  PGTIER_ASSIGN_OR_RETURN(instance.takes_writes, row.Get<bool>("takes_writes"));
  PGTIER_ASSIGN_OR_RETURN(instance.replay_paused, row.Get<bool>("paused"));
  PGTIER_ASSIGN_OR_RETURN(std::optional<std::string> newest, row.Find<std::string>("newest"));
  if (newest.has_value()) {
    PGTIER_ASSIGN_OR_RETURN(instance.newest, postgres::Lsn::Parse(*newest));
  }
  instance.certificate = connection.ServerCertificate();
  instance.answered = true;
  return {};
}

Status AskStandby(postgres::Connection& connection, InstanceSeen& instance, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows, connection.Query(kAskStandby, deadline));
  PGTIER_ASSIGN_OR_RETURN(postgres::Row row, rows.Single());
  PGTIER_ASSIGN_OR_RETURN(bool streams, row.Get<bool>("streams"));
  PGTIER_ASSIGN_OR_RETURN(bool caught_up, row.Get<bool>("caught_up"));
  PGTIER_ASSIGN_OR_RETURN(int64_t lag, row.Get<int64_t>("age"));
  PGTIER_ASSIGN_OR_RETURN(std::optional<int64_t> clock_offset, row.Find<int64_t>("clock_offset"));
  PGTIER_ASSIGN_OR_RETURN(std::optional<int64_t> quiet, row.Find<int64_t>("quiet"));
  lag -= clock_offset.value_or(0) + kBeatMs;
  if (streams && caught_up && quiet.has_value()) lag = std::min(lag, *quiet);
  instance.lag = std::chrono::milliseconds(std::max<int64_t>(lag, 0));
  return {};
}

Status AskPrimary(postgres::Connection& connection, Seen& seen, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows, connection.Query(kAskState, deadline));
  PGTIER_ASSIGN_OR_RETURN(postgres::Row row, rows.Single());
  PrimarySeen& primary = seen.primary;
  PGTIER_ASSIGN_OR_RETURN(primary.epoch, row.Get<int64_t>("epoch"));
  PGTIER_ASSIGN_OR_RETURN(primary.tier, row.Get<std::string>("tier"));
  PGTIER_ASSIGN_OR_RETURN(primary.installed, row.Get<std::string>("installed"));
  PGTIER_ASSIGN_OR_RETURN(primary.wal, postgres::CurrentLsn(connection, deadline));
  PGTIER_ASSIGN_OR_RETURN(std::vector<postgres::ReplicationSlot> slots, ReplicationSlots(connection, deadline));
  for (const postgres::ReplicationSlot& slot : slots) {
    if (!slot.physical || !slot.name.starts_with("pgtier_")) continue;
    primary.slots[slot.name] = slot.active;
    if (slot.wal_status == "lost") primary.lost_slots.insert(slot.name);
  }
  PGTIER_ASSIGN_OR_RETURN(std::vector<postgres::Replica> replicas, Replicas(connection, deadline));
  for (const postgres::Replica& replica : replicas) {
    auto instance = std::find_if(seen.instances.begin(), seen.instances.end(),
                                 [&](const InstanceSeen& each) { return each.name == replica.application_name; });
    if (instance == seen.instances.end() || replica.state != "streaming") continue;
    instance->streaming = true;
    instance->replayed = replica.replay;
    instance->lag = replica.replay_lag;
  }
  bool all_stream = std::all_of(seen.instances.begin(), seen.instances.end(), [&](const InstanceSeen& each) {
    return each.streaming || each.pod_ip.empty() || each.ordinal == seen.primary_ordinal;
  });
  if (!all_stream) {
    // Where it can't be read nothing is known of it, and nobody is cloned anew for it.
    Result<postgres::Lsn> oldest = postgres::OldestWal(connection, deadline);
    if (oldest.has_value()) primary.oldest_wal = *oldest;
  }
  return {};
}

Status AskIdentity(postgres::Connection& connection, const std::string& database, PrimarySeen& primary,
                   Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(postgres::ServerIdentity identity, postgres::Identity(connection, deadline));
  primary.system_identifier = identity.system_identifier;
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows,
                          connection.Query("SELECT 1 FROM pg_database WHERE datname = $1", {database}, deadline));
  primary.lacks_database = rows.empty();
  return {};
}

// Whether the superuser may log in: tells a server without pgtier's roles yet from one with other passwords.
void AskAsSuperuser(Seen& seen, const InstanceSeen& instance, const std::string& database, Deadline deadline,
                    const std::stop_token& stop) {
  Result<postgres::Connection> connection = postgres::Connection::Open(
      ConnectTo(PeerOf(instance, *seen.credentials), seen.credentials->AsSuperuser(), "postgres"), deadline, stop);
  if (connection.has_value()) {
    Status asked = AskIdentity(*connection, database, seen.primary, deadline);
    seen.primary.answered = asked.has_value();
    if (!asked.has_value()) seen.primary.error = asked.error().message;
    return;
  }
  seen.primary.bad_password = connection.error().code == Code::kUnauthenticated;
  seen.primary.error = connection.error().message;
}

void AskPrimaryInstance(Seen& seen, InstanceSeen& instance, const std::string& database, Deadline deadline,
                        const std::stop_token& stop) {
  Result<postgres::Connection> connection = postgres::Connection::Open(
      ConnectTo(PeerOf(instance, *seen.credentials), seen.credentials->AsMonitor(), database), deadline, stop);
  if (!connection.has_value()) {
    Code code = connection.error().code;
    seen.primary.error = connection.error().message;
    // Denied: the owner has taken CONNECT from PUBLIC; Bootstrap gives pgtier's roles theirs.
    if (code == Code::kUnauthenticated || code == Code::kNotFound || code == Code::kPermissionDenied) {
      AskAsSuperuser(seen, instance, database, deadline, stop);
    }
    return;
  }
  Status asked = AskIdentity(*connection, database, seen.primary, deadline);
  Result<bool> in_recovery = postgres::IsInRecovery(*connection, deadline);
  if (asked.has_value() && !in_recovery.has_value()) asked = in_recovery.error();
  if (asked.has_value() && *in_recovery) {
    // What it says of tier and slots is of a primary before it.
    seen.primary.is_standby = true;
    seen.primary.reason = "PrimaryIsStandby";
    seen.primary.error = instance.name + " is a standby: nobody takes writes";
    return;
  }
  if (asked.has_value()) asked = AskPrimary(*connection, seen, deadline);
  if (asked.has_value()) asked = AskMaterializedViews(*connection, seen.primary, deadline);
  if (asked.has_value()) asked = AskInstance(*connection, instance, deadline);
  // pgtier's schema may be missing still, or be an older one: Bootstrap makes it.
  bool without_schema =
      !asked.has_value() && (asked.error().code == Code::kNotFound || asked.error().code == Code::kPermissionDenied);
  seen.primary.answered = asked.has_value() || without_schema;
  if (without_schema) seen.primary.installed.clear();
  if (!asked.has_value()) seen.primary.error = asked.error().message;
}

// Who instances are told that the primary is, where there is such an instance; else 0.
int ToldPrimary(const Seen& seen, const std::string& policy) {
  const nlohmann::json* config = seen.Object(kube::kConfigMaps, PostgresConfig(policy));
  if (config == nullptr) return 0;
  std::string told = DecodePrimary(kube::StringAt(*config, {"data", "primary"})).instance;
  auto found = std::find_if(seen.instances.begin(), seen.instances.end(),
                            [&](const InstanceSeen& each) { return each.name == told; });
  return found == seen.instances.end() ? 0 : found->ordinal;
}

// The one instance that says that it takes writes; 0 when more than one does: then a person must look. Where each one
// that runs says that it takes none, a promotion was broken off: then it is whom they were told of last.
int FindPrimary(const Seen& seen, const std::string& policy, const std::string& database, Deadline deadline,
                const std::stop_token& stop) {
  int found = 0;
  bool all_said = true;
  for (const InstanceSeen& instance : seen.instances) {
    if (instance.pod_ip.empty()) {
      all_said = all_said && instance.stopping && seen.Object(kube::kPods, PodName(instance.name)) == nullptr;
      continue;
    }
    Deadline patience = deadline.AtMost(kPatience);
    Result<postgres::Connection> connection = postgres::Connection::Open(
        ConnectTo(PeerOf(instance, *seen.credentials), seen.credentials->AsMonitor(), database), patience, stop);
    Result<bool> in_recovery =
        connection.has_value() ? postgres::IsInRecovery(*connection, patience) : Result<bool>(connection.error());
    all_said = all_said && in_recovery.has_value();
    if (!in_recovery.has_value() || *in_recovery) continue;
    if (found != 0) return 0;
    found = instance.ordinal;
  }
  return found == 0 && all_said ? ToldPrimary(seen, policy) : found;
}

}  // namespace

Peer PeerOf(const InstanceSeen& instance, const Credentials& credentials) {
  return {instance.pod_ip, instance.encrypted, credentials.tls.Trust()};
}

Peer PeerOf(const PoolerPodSeen& pod, const Credentials& credentials) {
  return {pod.ip, pod.encrypted, credentials.tls.Trust()};
}

postgres::ConnectOptions ConnectTo(const Peer& peer, const RoleLogin& login, const std::string& database) {
  postgres::ConnectOptions options;
  options.host = peer.address;
  if (peer.encrypted) {
    // Somebody deleted every Secret with an authority: encrypted all the same, until a new one is handed out.
    options.ssl_mode = peer.trust.empty() ? "require" : "verify-ca";
    options.ssl_root_pem = peer.trust;
  }
  options.port = kPostgresPort;
  options.user = login.role;
  options.password = login.password;
  options.other_password = login.former;
  options.database = database;
  options.application_name = "pgtier-operator";
  // A standby out of reads closes idle sessions (pgtier-heartbeat), but not this.
  // Nor do its commits wait for standbys that synchronous_standby_names asks for: it is who makes them.
  options.options =
      std::string(postgres::kOwnSettings) + " -c role=none -c idle_session_timeout=0 -c synchronous_commit=local";
  return options;
}

postgres::ConnectOptions ConnectToConsole(const Peer& peer, const Credentials& credentials) {
  postgres::ConnectOptions options = ConnectTo(peer, credentials.AsPoolerAdmin(), "pgbouncer");
  options.options.clear();  // PgBouncer takes none.
  return options;
}

void AskInstances(Seen& seen, const std::string& policy, const std::string& database, Deadline deadline,
                  const std::stop_token& stop) {
  if (!seen.credentials.has_value()) return;
  if (seen.primary_ordinal == 0) seen.primary_ordinal = FindPrimary(seen, policy, database, deadline, stop);
  auto primary = std::find_if(seen.instances.begin(), seen.instances.end(),
                              [&](const InstanceSeen& each) { return each.ordinal == seen.primary_ordinal; });
  if (primary == seen.instances.end()) return;
  if (primary->pod_ip.empty() || primary->stopping) {
    seen.primary.error = primary->stopping ? "it is being stopped" : "the pod has no address yet";
    return;
  }
  AskPrimaryInstance(seen, *primary, database, deadline.AtMost(kPatience), stop);
  for (InstanceSeen& instance : seen.instances) {
    // One that is not ready may be out of reads only, and can say how far it is behind.
    if (instance.ordinal == seen.primary_ordinal || instance.pod_ip.empty() || instance.stopping) continue;
    Deadline patience = deadline.AtMost(instance.pod_ready ? kPatience : kPatience / 2);
    Result<postgres::Connection> connection = postgres::Connection::Open(
        ConnectTo(PeerOf(instance, *seen.credentials), seen.credentials->AsMonitor(), database), patience, stop);
    Status asked = connection.has_value() ? AskInstance(*connection, instance, patience) : Status(connection.error());
    if (!asked.has_value() && instance.pod_ready) instance.trouble = asked.error().message;
    if (asked.has_value()) AskInstalled(*connection, instance, patience);
    // A server whose schema is older has no heartbeat: what the primary says of its lag stands.
    if (asked.has_value()) std::ignore = AskStandby(*connection, instance, patience);
  }
}

void AskPoolers(Seen& seen, Deadline deadline, const std::stop_token& stop) {
  if (!seen.credentials.has_value()) return;
  for (PoolerPodSeen& pod : seen.poolers) {
    if (!pod.ready) continue;
    Deadline patience = deadline.AtMost(kPatience);
    auto ask_pgcat = [&]() -> Status {
      PGTIER_ASSIGN_OR_RETURN(poolers::PgCatAdmin admin,
                              poolers::PgCatAdmin::Open(
                                  ConnectToConsole(PeerOf(pod, *seen.credentials), *seen.credentials), patience, stop));
      PGTIER_ASSIGN_OR_RETURN(pod.config, admin.ShowConfig(patience));
      PGTIER_ASSIGN_OR_RETURN(pod.databases, admin.ShowDatabases(patience));
      PGTIER_ASSIGN_OR_RETURN(std::vector<poolers::PoolStats> pools, admin.ShowPools(patience));
      PGTIER_ASSIGN_OR_RETURN(std::vector<poolers::PgCatServerStats> servers, admin.ShowServers(patience));
      PGTIER_ASSIGN_OR_RETURN(std::vector<poolers::PgCatBan> bans, admin.ShowBans(patience));
      for (const poolers::PgCatBan& ban : bans) {
        if (ban.by_admin) pod.banned.push_back(ban.host);
      }
      pod.utilisation = poolers::ComputePgCatUtilisation(pod.databases, servers, pools);
      pod.clients = poolers::CountClients(pools);
      return {};
    };
    auto ask = [&]() -> Status {
      PGTIER_ASSIGN_OR_RETURN(poolers::PgBouncerAdmin admin,
                              poolers::PgBouncerAdmin::Open(
                                  ConnectToConsole(PeerOf(pod, *seen.credentials), *seen.credentials), patience, stop));
      pod.certificate = admin.ServerCertificate();
      PGTIER_ASSIGN_OR_RETURN(pod.config, admin.ShowConfig(patience));
      PGTIER_ASSIGN_OR_RETURN(pod.databases, admin.ShowDatabases(patience));
      PGTIER_ASSIGN_OR_RETURN(std::vector<poolers::PoolStats> pools, admin.ShowPools(patience));
      pod.utilisation = poolers::ComputeUtilisation(pools, pod.databases);
      pod.clients = poolers::CountClients(pools);
      return {};
    };
    Status asked = IsPgCat(pod.endpoint) ? ask_pgcat() : ask();
    pod.answered = asked.has_value();
    if (!asked.has_value()) pod.error = asked.error().message;
  }
}

}  // namespace pgtier::controllers::scale_tier
