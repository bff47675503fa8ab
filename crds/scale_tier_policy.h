// ScaleTierPolicy as C++ types: what crds/scaletierpolicies.yaml describes, decoded. Absent optional fields stay absent
// here; the documented defaults are applied where a tier is resolved (controllers/scale_tier/resolve.h).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "crds/ladder.h"
#include "lib/base/clock.h"

namespace pgtier::crds {

// Quantities of Kubernetes as written, for passing on: "100Gi", "500m".
using ResourceList = std::map<std::string, std::string>;

struct Toleration {
  std::string key, operator_, value, effect;
  std::optional<int64_t> seconds;
};

struct ManagedPostgres {
  std::string image;
  std::string database;
  std::string storage_size;
  std::string storage_class_name;
  ResourceList requests;
  ResourceList limits;
  std::map<std::string, std::string> parameters;
  std::optional<Duration> password_grace;  // How long former passwords stay valid.
  std::vector<std::string> extensions;
  std::map<std::string, std::string> node_selector;
  std::vector<Toleration> tolerations;
  std::string priority_class_name;
  std::vector<std::string> image_pull_secrets;
};

// A standby that exists already.
struct ExternalReplica {
  std::string host;
  std::optional<int> port;
  int weight = 1;  // Its share of reads with strategy Weighted.
};

// A Postgres that pgtier does not run.
struct ExternalPostgres {
  std::string host;
  int port = 5432;
  std::string database;
  std::string ssl_mode = "verify-full";  // disable | require | verify-ca | verify-full
  std::string ca_secret;                 // Names of Secrets; empty where absent.
  std::string admin_secret;
  std::string monitor_secret;
  std::string app_secret;
  std::vector<ExternalReplica> replicas;
};

struct Pooler {
  std::optional<std::string> engine;  // PgBouncer | PgCat
  std::optional<std::string> image;
  std::optional<int> instances;
  std::optional<std::string> pool_mode;  // Session | Transaction | Statement
  std::optional<int> max_client_conn;
  std::optional<int> default_pool_size;
  std::optional<int> min_pool_size;
  std::optional<int> reserve_pool_size;
  std::optional<Duration> server_idle_timeout;
};

struct ReadReplicas {
  std::optional<int> min;
  std::optional<int> max;
  std::optional<Duration> max_lag;
  std::optional<Duration> drain_timeout;
  std::optional<Duration> grow_after;
  std::optional<Duration> shrink_after;
  std::optional<std::string> cpu_query;  // PromQL.
};

struct Routing {
  std::optional<std::string> strategy;  // RoundRobin | Random | LeastConnections | Weighted
  std::optional<std::string> rollout;   // Disabled | Standby | Selected | Full
  std::vector<std::string> selected_users;
  std::map<std::string, int> weights;  // By instance, for Weighted.
};

struct DistributedTable {
  std::string name, column;
  std::string colocate_with;  // Another table's name, or empty.
};

struct CitusSharding {
  int workers = 0;
  std::vector<DistributedTable> tables;
};

struct TierSpec : TierRule {
  Pooler pooler;
  bool has_read_replicas = false;
  ReadReplicas read_replicas;
  Routing routing;
  std::map<std::string, Duration> materialized_views;  // By name: the time between two refreshes.
  bool sharding = false;
  std::optional<CitusSharding> citus;  // Nothing: not sharded, or to an external target.
};

struct ScaleTierPolicySpec : LadderSpec {
  std::optional<ManagedPostgres> managed;
  std::optional<ExternalPostgres> external;
  std::string endpoint_name;
  std::string endpoint_clients;  // Namespace | Any, or empty.
  Pooler pooler;
  bool has_read_replicas = false;
  ReadReplicas read_replicas;
  Routing routing;
  std::vector<TierSpec> tiers;
};

struct ReplicaStatus {
  std::string name;
  std::string lag;
  bool healthy = false;
  bool routed = false;
};

struct Summary {
  std::string closest, replicas, pooler, lag, endpoint;
};

struct PromotionStatus {
  std::string request, phase, from, to, message;

  bool operator==(const PromotionStatus&) const = default;
};

// A rotation that an annotation asked for and that is done.
struct Rotation {
  std::string request;  // The annotation's value.
  std::optional<WallTime> at;
  std::optional<WallTime> former_until = {};  // Of passwords: when those of before end; nothing: they have.
};

struct Rotations {
  Rotation certificates;
  Rotation passwords;
};

// How many replicas the load asks for, in a tier whose readReplicas.max is above min.
struct ScalingStatus {
  int replicas = 0;     // As many as are to run; 0: nothing is remembered.
  int needed = 0;       // ReplicasNeeded, as last measured.
  std::string phase;    // Steady | Growing | Shrinking
  std::string message;  // Why the last change was made.
  std::optional<WallTime> changed_at;
  std::optional<WallTime> grow_since, shrink_since;  // Start of the open windows.
  std::optional<WallTime> observed_at;               // The last reading, where a window is open.
};

struct ScaleTierPolicyStatus : LadderStatus {
  int64_t closed_clients = 0;  // Idle ones of former poolers, since the policy was made.
  std::string system_identifier;
  std::string primary;
  PromotionStatus promotion;  // An empty phase: there was none.
  std::string image;
  Rotations rotations;
  Summary summary;
  std::vector<ReplicaStatus> replicas;
  ScalingStatus scaling;
};

struct ScaleTierPolicy {
  Meta meta;
  ScaleTierPolicySpec spec;
  ScaleTierPolicyStatus status;
  // What in the stored object could not be read, by field path: an object older than a rule of the schema. Such a
  // policy is reported as Stalled, and can still be deleted.
  std::vector<std::string> problems;
};

}  // namespace pgtier::crds
