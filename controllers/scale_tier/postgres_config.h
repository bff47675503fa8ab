// postgresql.conf and pg_hba.conf of managed instances. Pure.
#pragma once

#include <map>
#include <string>

#include "controllers/scale_tier/resolve.h"
#include "crds/scale_tier_policy.h"

namespace pgtier::controllers::scale_tier {

// A custom setting that holds the configuration's hash.
inline constexpr char kConfigSetting[] = "pgtier.config";

// Every setting of a managed instance: pgtier's own, those scaled to its memory and volume, and the policy's over them.
// `max_lag`: beyond it a standby takes itself out of reads; the tier's.
std::map<std::string, std::string> PostgresSettings(const crds::ManagedPostgres& managed, const Resolved& resolved,
                                                    Duration max_lag = std::chrono::seconds(1));

// postgresql.conf, sorted, values quoted as the file's grammar demands (PostgreSQL, 19.1.2).
std::string RenderPostgresConf(const std::map<std::string, std::string>& settings);

// pg_hba.conf: passwords by SCRAM only; the superuser from the pod network, for it is how the operator acts.
// `encrypted`: nobody from the network without TLS, but for `plain_role` in its database of the same name (empty: no
// such role).
std::string RenderPgHba(bool encrypted = true, const std::string& plain_role = "");

// What of the files is not the policy's word alone.
struct PostgresTerms {
  // Every instance speaks TLS, so all who connect may demand it. Until then they take it where it is offered.
  bool encrypted = true;
  // PgCat may connect. It trusts the authorities of the web and no other ones, so it comes without TLS, as the role
  // that owns the database.
  bool pgcat = false;
  Duration max_lag = std::chrono::seconds(1);  // See PostgresSettings.
};

// What an instance finds in /etc/pgtier/config.
struct PostgresFiles {
  std::string conf;      // postgresql.conf
  std::string hba;       // pg_hba.conf
  std::string conninfo;  // primary_conninfo: how a standby, and its base backup, reach the primary
  std::string hash;      // Of all three, as the server says it in kConfigSetting.
};
PostgresFiles RenderPostgresFiles(const crds::ScaleTierPolicy& policy, const Resolved& resolved,
                                  const PostgresTerms& terms);

}  // namespace pgtier::controllers::scale_tier
