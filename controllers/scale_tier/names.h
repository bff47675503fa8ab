// Names of what pgtier makes for a policy. Everything carries the label pgtier.dev/policy.
#pragma once

#include <algorithm>
#include <string>

#include "controllers/ladder/names.h"

namespace pgtier::controllers::scale_tier {

inline constexpr char kPolicyLabel[] = "pgtier.dev/policy";
// On pods of others than the policy that may reach its instances: which policy's.
inline constexpr char kDatabaseLabel[] = "pgtier.dev/database";
inline constexpr char kInstanceLabel[] = "pgtier.dev/instance";
inline constexpr char kEndpointLabel[] = "pgtier.dev/endpoint";   // on poolers: which of those below
inline constexpr char kConfigAnnotation[] = "pgtier.dev/config";  // on pods: makes the kubelet sync their volumes
inline constexpr char kDrainingAnnotation[] = "pgtier.dev/draining-since";  // on Deployments of a former pooler
inline constexpr char kPromoteAnnotation[] = "pgtier.dev/promote";          // on policies: <instance>/<id>
inline constexpr char kPromotionAnnotation[] =
    "pgtier.dev/promotion";                                   // on Service <policy>-primary: how far it has come
inline constexpr char kTermAnnotation[] = "pgtier.dev/term";  // on that Service: how many promotions there were
// On a policy: any new value asks once for a new authority and new certificates. On the authority's Secret: the value
// that was carried out.
inline constexpr char kRotateCertificatesAnnotation[] = "pgtier.dev/rotate-certificates";

inline constexpr int kPostgresPort = 5432;

// Instances are kyoyu-1, kyoyu-2, …: a StatefulSet of one pod and a Service each, so that a promotion renames nothing.
inline std::string InstanceName(const std::string& policy, int ordinal) {
  return policy + "-" + std::to_string(ordinal);
}
inline std::string PodName(const std::string& instance) { return instance + "-0"; }
inline std::string VolumeClaimName(const std::string& instance) { return "data-" + PodName(instance); }

// The physical slot of an instance: names of slots take a-z, 0-9 and _ (PostgreSQL, 26.2.6).
inline std::string SlotName(const std::string& instance) {
  std::string slot = "pgtier_" + instance;
  std::replace(slot.begin(), slot.end(), '-', '_');
  return slot;
}

inline std::string PrimaryService(const std::string& policy) { return policy + "-primary"; }
inline std::string PostgresConfig(const std::string& policy) { return policy + "-postgres"; }
inline std::string PoolersNetworkPolicy(const std::string& policy) { return policy + "-poolers"; }
inline std::string PoolerName(const std::string& policy, const std::string& endpoint) {
  return policy + "-pooler-" + endpoint;
}

// Poolers, one Deployment each, by the value of their label. PgCat's are named apart from PgBouncer's, for while one
// engine follows the other both run.
inline constexpr char kPgBouncerWrites[] = "rw";
inline constexpr char kPgBouncerReads[] = "ro";
inline constexpr char kPgCatSplit[] = "pgcat";
inline constexpr char kPgCatWrites[] = "pgcat-rw";
inline constexpr char kPgCatReads[] = "pgcat-ro";
inline bool IsPgCat(const std::string& pooler) { return pooler.starts_with(kPgCatSplit); }

// The Services of a policy and the pooler that each leads to.
struct Endpoint {
  const char* suffix;
  const char* pgbouncer;
  const char* pgcat;
};
inline constexpr Endpoint kEndpoints[] = {{"", kPgBouncerWrites, kPgCatSplit},
                                          {"-rw", kPgBouncerWrites, kPgCatWrites},
                                          {"-ro", kPgBouncerReads, kPgCatReads}};

// With rollout Selected, the database by whose name selected users reach replicas: <database>_replicas.
inline constexpr char kReplicasSuffix[] = "_replicas";

// What the application needs to connect; it may mount this.
inline std::string AppSecret(const std::string& policy) { return policy + "-app"; }
// Passwords of pgtier's own roles.
inline std::string InternalSecret(const std::string& policy) { return policy + "-internal"; }
inline constexpr char kSuperuserKey[] = "superuser";  // in it: the superuser's

// The policy's authority with its private key; mounted nowhere.
inline std::string AuthoritySecret(const std::string& policy) { return policy + "-ca"; }
// Certificates, each with its key and what to trust (tls.crt, tls.key, ca.crt). Mounted at kTlsFolder.
inline std::string PostgresTlsSecret(const std::string& policy) { return policy + "-postgres-tls"; }
inline std::string PoolerTlsSecret(const std::string& policy) { return policy + "-pooler-tls"; }
inline constexpr char kTlsFolder[] = "/etc/pgtier/tls";
inline constexpr char kTlsVolume[] = "tls";  // A pod that has it speaks TLS.

// On a policy: any new value asks once for new passwords. On Secret <policy>-internal: the value that was carried out,
// how often that was, and when applications were told (passwords.h).
inline constexpr char kRotatePasswordsAnnotation[] = "pgtier.dev/rotate-passwords";
inline constexpr char kPasswordNumberAnnotation[] = "pgtier.dev/password-number";
inline constexpr char kPasswordsToldAnnotation[] = "pgtier.dev/passwords-told";
inline constexpr char kPasswordsFormerAnnotation[] = "pgtier.dev/passwords-former";  // "valid" | "ended"

inline constexpr char kSuperuser[] = "postgres";
inline constexpr char kReplicationRole[] = "pgtier_replication";
inline constexpr char kPoolerRole[] = "pgtier_pooler";
// Who logs in instead after every other rotation of passwords, with the same rights.
inline constexpr char kAlternateAppRole[] = "pgtier_app";
inline constexpr char kAlternatePoolerRole[] = "pgtier_pooler_2";
inline constexpr char kMonitorRole[] = "pgtier_monitor";
inline constexpr char kPoolerAdmin[] = "pgtier_admin";  // of PgBouncer's console only, no role in Postgres

}  // namespace pgtier::controllers::scale_tier
