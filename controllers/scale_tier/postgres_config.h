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
std::string RenderPgHba();

}  // namespace pgtier::controllers::scale_tier
