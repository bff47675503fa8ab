#include "controllers/scale_tier/postgres_config.h"

#include <algorithm>
#include <functional>

#include "controllers/scale_tier/names.h"
#include "lib/base/quantity.h"

namespace pgtier::controllers::scale_tier {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

// Bytes of a quantity in `list`, or `fallback`. Quantities here may carry any suffix that Kubernetes takes; the ones
// that ParseQuantity refuses (milli, exponents) make no sense for memory and fall back too.
double BytesOf(const crds::ResourceList& list, const std::string& name, double fallback) {
  auto found = list.find(name);
  if (found == list.end()) return fallback;
  Result<double> bytes = ParseQuantity(found->second);
  return bytes.has_value() ? *bytes : fallback;
}

std::string Megabytes(double bytes) { return std::to_string(static_cast<int64_t>(std::max(1.0, bytes / kMiB))) + "MB"; }

// Server connections that poolers may open at once: their endpoints, each with its pods, and two generations of them
// while a Deployment is rolled or one engine follows the other; besides replication, the operator and a person with
// psql.
int MaxConnections(const Resolved& resolved) {
  int most = 0;
  for (const TierSettings& tier : resolved.tiers) {
    const PoolerSettings& pooler = tier.pooler;
    // PgCat's are three, and the one that splits has the primary twice while there is no replica.
    int endpoints = pooler.engine == kPgCat ? 4 : 2;
    if (!tier.selected_users.empty()) ++endpoints;  // <database>_replicas leads to the primary while no replica serves.
    most = std::max(most, endpoints * pooler.instances * (pooler.default_pool_size + pooler.reserve_pool_size));
  }
  constexpr int kGenerations = 2;
  constexpr int kOthers = 30;
  return kGenerations * most + kOthers;
}

std::string PreloadLibraries(const crds::ManagedPostgres& managed) {
  std::string libraries = "pg_stat_statements";
  auto wants = [&](const char* name) {
    return std::find(managed.extensions.begin(), managed.extensions.end(), name) != managed.extensions.end();
  };
  if (wants("timescaledb")) libraries = "timescaledb," + libraries;  // It asks to be first.
  if (wants("pg_cron")) libraries += ",pg_cron";
  return libraries;
}

}  // namespace

std::map<std::string, std::string> PostgresSettings(const crds::ManagedPostgres& managed, const Resolved& resolved,
                                                    Duration max_lag) {
  double memory = BytesOf(managed.limits, "memory", BytesOf(managed.requests, "memory", 1024 * kMiB));
  double volume = BytesOf({{"size", managed.storage_size}}, "size", 10240 * kMiB);
  std::map<std::string, std::string> settings = {
      {"shared_buffers", Megabytes(memory / 4)},
      {"effective_cache_size", Megabytes(memory * 3 / 4)},
      {"maintenance_work_mem", Megabytes(std::min(memory / 16, 1024 * kMiB))},
      {"max_wal_size", Megabytes(std::clamp(volume / 10, 256 * kMiB, 8192 * kMiB))},
      {"min_wal_size", Megabytes(std::clamp(volume / 40, 80 * kMiB, 2048 * kMiB))},
      {"checkpoint_timeout", "15min"},
      {"random_page_cost", "1.1"},
      {"autovacuum_naptime", "10s"},
      {"max_worker_processes", "16"},
      // A slot whose standby is gone must not fill the volume.
      {"max_slot_wal_keep_size", Megabytes(std::max(volume / 5, 512 * kMiB))},
      // Without it, vacuum on the primary cancels reads on replicas.
      {"hot_standby_feedback", "on"},
      {"track_commit_timestamp", "on"},
      // After a promotion standbys ask the new primary so soon.
      {"wal_retrieve_retry_interval", "1s"},
      {"log_line_prefix", "%m [%p] %q%a %u@%d "},
      {"timescaledb.telemetry_level", "off"},
  };
  for (const auto& [name, value] : managed.parameters) {
    // An object from before the schema refused them.
    if (!name.starts_with("include") && !name.starts_with("recovery_target")) settings[name] = value;
  }
  const std::map<std::string, std::string> owned = {
      {"listen_addresses", "*"},
      {"port", "5432"},
      {"unix_socket_directories", "/run/postgresql"},
      {"max_connections", std::to_string(MaxConnections(resolved))},
      {"password_encryption", "scram-sha-256"},
      // Logical from the start: a later change restarts the server, and audit by WAL needs it.
      {"wal_level", "logical"},
      {"max_wal_senders", "20"},
      {"max_replication_slots", "20"},
      {"hot_standby", "on"},
      {"shared_preload_libraries", PreloadLibraries(managed)},
      {"cron.database_name", managed.database},
      {"logging_collector", "off"},
      // What the instance's own heartbeat reads, and the file by which it takes itself out of reads.
      {"pgtier.database", managed.database},
      {"pgtier.max_lag", std::to_string(std::chrono::ceil<std::chrono::milliseconds>(max_lag).count())},
      {"include_if_exists", "/run/postgresql/pgtier-routing.conf"},
  };
  for (const auto& [name, value] : owned) settings[name] = value;
  // A server says by this which configuration it has loaded.
  settings[kConfigSetting] = std::to_string(std::hash<std::string>{}(RenderPostgresConf(settings)));
  return settings;
}

std::string RenderPostgresConf(const std::map<std::string, std::string>& settings) {
  std::string text = "# Rendered by pgtier from the policy; changes here are undone.\n";
  for (const auto& [name, value] : settings) {
    text += name + " = '";
    for (char c : value) {
      // A line break would begin another setting.
      if (c == '\n' || c == '\r' || c == '\0') continue;
      if (c == '\'' || c == '\\') text += c;
      text += c;
    }
    text += "'\n";
  }
  return text;
}

std::string RenderPgHba(bool encrypted, const std::string& plain_role) {
  std::string hba =
      "# TYPE     DATABASE     USER                ADDRESS  METHOD\n"
      "local      all          postgres                     peer\n";
  // An instance from before there were certificates would never match hostssl.
  const char* type = encrypted ? "hostssl" : "host   ";
  hba += std::string(type) + "    replication  pgtier_replication  all      scram-sha-256\n";
  hba += "host       replication  all                 all      reject\n";
  if (encrypted && !plain_role.empty()) {
    std::string quoted = "\"" + plain_role + "\"";  // Else a database named "all" would be every one.
    auto pad = [&](size_t width) {
      return quoted + std::string(std::max(width, quoted.size() + 1) - quoted.size(), ' ');
    };
    hba += "host       " + pad(13) + pad(20) + "all      scram-sha-256\n";
  }
  hba += std::string(type) + "    all          all                 all      scram-sha-256\n";
  hba += "host       all          all                 all      reject\n";
  return hba;
}

PostgresFiles RenderPostgresFiles(const crds::ScaleTierPolicy& policy, const Resolved& resolved,
                                  const PostgresTerms& terms) {
  PostgresFiles files;
  files.hba = RenderPgHba(terms.encrypted, terms.pgcat ? policy.spec.managed->database : "");
  files.conninfo = "host=" + PrimaryService(policy.meta.name) + " port=" + std::to_string(kPostgresPort) +
                   " user=" + kReplicationRole +
                   " passfile=/tmp/pgpass dbname=postgres connect_timeout=5 keepalives_idle=5" +
                   " keepalives_interval=5 keepalives_count=3";
  if (terms.encrypted) files.conninfo += " sslmode=verify-full sslrootcert=" + std::string(kTlsFolder) + "/ca.crt";
  std::map<std::string, std::string> settings = PostgresSettings(*policy.spec.managed, resolved, terms.max_lag);
  // A standby's; a primary has no use for it.
  settings["primary_conninfo"] = files.conninfo;
  settings[kConfigSetting] = std::to_string(std::hash<std::string>{}(RenderPostgresConf(settings) + files.hba));
  files.hash = settings[kConfigSetting];
  // Comes with the certificate: a pod without one starts without TLS, and does not fail for want of the files.
  files.conf = RenderPostgresConf(settings) + "include_if_exists = '" + kTlsFolder + "/postgresql.conf'\n";
  return files;
}

}  // namespace pgtier::controllers::scale_tier
