// What one pass saw: plain values, read and not judged.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controllers/ladder/objects.h"
#include "controllers/scale_tier/certificates.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/promotion.h"
#include "controllers/scale_tier/sharding.h"
#include "core/ladder.h"
#include "lib/kube/resource.h"
#include "lib/poolers/pgbouncer_views.h"
#include "lib/postgres/lsn.h"
#include "lib/postgres/promotion.h"

namespace pgtier::controllers::scale_tier {

// A role and its password.
struct Login {
  std::string user, password;
};

// How to reach an external Postgres, from the Secrets that the policy names.
struct ExternalAccess {
  Login admin, monitor, app;
  bool own_monitor = false;  // There is a monitorSecret; else `monitor` is `admin`.
  std::string ca_pem;
  std::string versions;  // Of the Secrets: another one may hold another password.
};

// How far passwords have been exchanged for others on request (passwords.h).
struct PasswordRotation {
  int64_t number = 0;            // How often they were. Its parity says as which role applications and poolers log in.
  std::string request;           // What was carried out last, or is.
  std::optional<WallTime> told;  // When applications and poolers were given the new ones; nothing: not yet.
  bool former = false;           // Those of before are valid still.
  std::string superuser, monitor, pooler, pooler_admin, app;  // Of before.

  [[nodiscard]] bool Told() const { return number == 0 || told.has_value(); }
  // By which of them applications and poolers log in now.
  [[nodiscard]] int64_t NumberTold() const { return Told() ? number : number - 1; }
};

// How a role of pgtier's own logs in.
struct RoleLogin {
  std::string role, password;
  std::string former;  // The password before, while it may be that yet; or empty.
};

// Passwords and certificates that pgtier generated, from its Secrets.
struct Credentials {
  std::string superuser, replication, pooler, monitor, pooler_admin, app;
  Certificates tls = {};
  std::optional<ExternalAccess> external = {};  // Nothing: managed, or its Secrets could not be used.
  PasswordRotation rotation = {};

  [[nodiscard]] RoleLogin AsSuperuser() const { return {kSuperuser, superuser, rotation.superuser}; }
  [[nodiscard]] RoleLogin AsMonitor() const { return {kMonitorRole, monitor, rotation.monitor}; }
  [[nodiscard]] RoleLogin AsPoolerAdmin() const { return {kPoolerAdmin, pooler_admin, rotation.pooler_admin}; }
};

// One Postgres instance.
struct InstanceSeen {
  std::string name;
  int ordinal = 0;
  bool pod_ready = false;
  bool newly_ready = false;  // For so short a time that nodes may not lead its Service to it yet.
  std::string pod_ip;
  bool encrypted = false;          // Its pod, or where there is none its template, has a certificate: it speaks TLS.
  bool template_is_older = false;  // The pod was made before the StatefulSet's template changed last.
  std::string trouble;  // Why the pod does not run, in words: "ImagePullBackOff: …"; empty when nothing is known.
  // Its pod is older than a pod in order needs to be scheduled, so that trouble is no moment of its start.
  bool trouble_lasts = false;
  bool stopping = false;  // Nobody wants it to run: what is left of it is not asked.
  // As the instance itself says.
  bool answered = false;
  std::string certificate;       // Fingerprint of the certificate that it presents.
  std::string config;            // Hash of the configuration that it has loaded.
  std::string config_error;      // What in the mounted configuration the server refuses; empty: nothing.
  bool restart_pending = false;  // Some of it waits for a restart.
  bool lowers_limits = false;  // Of that, something of which a standby must not have less than its primary is lowered.
  int64_t clients = 0;         // Connections of others than pgtier.
  std::string installed;       // On a standby: as PrimarySeen has it, once it was replayed here.
  std::vector<std::string> idle_slots;  // On a standby: slots of ours that nobody uses there, and that keep WAL.
  bool takes_writes = false;            // It is in no recovery.
  std::optional<postgres::Lsn> newest;  // On a standby: the end of what it has received or replayed.
  bool replay_paused = false;           // On a standby: by somebody, or because a setting is lower than its primary's.
  // As the primary sees a standby.
  bool streaming = false;
  std::optional<postgres::Lsn> replayed;
  // By its own heartbeat; of a server that has none, by the primary: nothing while idle and caught up.
  std::optional<Duration> lag;

  [[nodiscard]] bool NeedsRestart() const { return restart_pending || (pod_ready && template_is_older); }
};

// The primary, as asked over SQL.
// A materialized view that the database refreshes for pgtier.
struct MaterializedViewSeen {
  Duration every{0};
  std::optional<WallTime> fresh;  // When what it shows was read; nothing: not yet since it was listed.
  std::optional<WallTime> listed;
  std::string problem;  // Why its last refresh failed; empty: it did not.
};

struct PrimarySeen {
  bool answered = false;
  std::string error;              // Why not.
  std::string reason;             // Of an external one that does not serve: why, in one word.
  bool needs_person = false;      // That does not go away by itself.
  bool is_standby = false;        // Of a managed one: it answers, is in recovery, and counts as one that does not.
  bool bad_password = false;      // The superuser's password in the Secret is refused: a person must act.
  std::string system_identifier;  // Drawn by initdb: another one is another server. Empty: not asked.
  bool lacks_database = false;    // The server answers and does not have the application's database.
  std::string installed;          // Hash of what Bootstrap last installed; empty: nothing yet.
  int64_t epoch = 0;
  std::string tier;                  // As recorded in the database.
  postgres::Lsn wal;                 // Where it writes.
  std::set<std::string> lost_slots;  // Of those, the ones whose WAL is gone.
  std::map<std::string, MaterializedViewSeen> materialized_views = {};
  std::map<std::string, bool> slots;  // Physical slots of ours, and whether they are in use.
  // Where the oldest WAL begins that it has; asked only while a standby does not stream.
  std::optional<postgres::Lsn> oldest_wal = {};
};

struct PoolerPodSeen {
  std::string pod;
  std::string ip;
  std::string endpoint;  // Which pooler, as names.h lists them; it says the engine too.
  bool ready = false;
  bool encrypted = false;   // Its pod has a certificate: it speaks TLS.
  std::string certificate;  // Fingerprint of the certificate that it presents.
  bool answered = false;
  std::string error;
  std::vector<poolers::ConfigEntry> config;
  std::vector<poolers::DatabaseStats> databases;
  std::vector<std::string> banned;  // PgCat: hosts that take nothing because pgtier said so.
  poolers::Utilisation utilisation;
  int64_t clients = 0;  // Connected to it, the console's left out.
};

struct Seen {
  bool maintenance = false;  // A maintenance window of the policy is open.
  // StorageClasses of volumes that should grow, and whether they let them; without those that could not be read.
  std::map<std::string, bool> storage_classes;
  // Live objects with the policy's label, by plural and name.
  Objects objects;
  std::optional<Credentials> credentials;  // Absent before the Secrets were made.
  std::vector<InstanceSeen> instances;     // By ordinal.
  // The instance that takes writes, as the selector of Service <policy>-primary has it (docs/decisions/0051). 0: nobody
  // can tell.
  int primary_ordinal = 1;
  PrimarySeen primary;
  Promotion promotion;  // The latest, as the Service has it; where it has none, as far as status knows it.
  bool promotion_from_status = false;  // Then this is true: the Service is to be told.
  int64_t term = 0;                    // Promotions there have been, by whatever knows of the most.
  // Where each instance's WAL ends; asked only while a promotion runs or is to begin.
  std::map<std::string, postgres::WalPosition> positions;
  std::vector<PoolerPodSeen> poolers;
  std::map<core::TriggerKey, core::Reading> readings;
  std::optional<core::Reading> replica_cpu = {};  // readReplicas.cpuQuery of the tier that runs, where it has one.
  // What stands in the way of sharding, by tier: of the next one above the tier that runs, if it is sharded.
  std::map<std::string, Result<std::vector<Finding>>> preflights = {};
  WallTime now{};  // When it was seen.

  // The primary among `instances`, or nullptr.
  [[nodiscard]] const InstanceSeen* PrimaryInstance() const {
    for (const InstanceSeen& instance : instances) {
      if (instance.ordinal == primary_ordinal) return &instance;
    }
    return nullptr;
  }

  [[nodiscard]] const nlohmann::json* Object(const kube::Resource& resource, const std::string& name) const {
    auto found = objects.find({std::string(resource.plural), name});
    return found == objects.end() ? nullptr : &found->second;
  }
};

}  // namespace pgtier::controllers::scale_tier
