// ShadowTablePolicy as C++ types: what crds/shadowtablepolicies.yaml describes, decoded. Absent optional fields stay
// absent here; the documented defaults are applied in controllers/shadow_table/resolve.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "crds/ladder.h"

namespace pgtier::crds {

struct ShadowTable {
  std::string name;    // "public.customers"
  std::string shadow;  // Empty: <name>_history.
};

struct ShadowTierSpec : TierRule {
  std::optional<int> workers_min, workers_max;  // Of notify, with the next two.
  std::optional<std::string> delivery;          // Outbox | Payload
  std::optional<int64_t> queue_alert;           // Rows.
  std::optional<std::string> slot;              // Of cdc, with the next.
  std::optional<double> max_retained_wal;       // Bytes.
};

struct Partitioning {
  std::optional<int64_t> rows;
  std::string column;
  std::optional<Duration> interval;
  std::string engine;  // Auto | Native | Hypertable, or empty.
  std::optional<int> ahead;
  std::optional<Duration> retain;
  bool compression = false;  // Asked for; with the next two.
  std::optional<int64_t> compression_rows;
  std::optional<Duration> compression_older_than;
};

struct ShadowTablePolicySpec : LadderSpec {
  std::string database_kind;      // ScaleTierPolicy, or empty.
  std::string database_name;      // Empty: connection_secret is set.
  std::string connection_secret;  // Name of a Secret.
  std::string channel;
  std::vector<ShadowTable> tables;
  std::string audit_events_table;
  std::string actor_setting;
  std::vector<ShadowTierSpec> tiers;
  std::optional<Partitioning> partitioning;
};

struct ShadowSummary {
  std::string closest, queue, lag, tables, workers;

  bool operator==(const ShadowSummary&) const = default;
};

struct ShadowTableStatus {
  std::string name, shadow;
  bool installed = false;
  std::string finding;  // What stands in the way, in words; empty: nothing.

  bool operator==(const ShadowTableStatus&) const = default;
};

struct ShadowSlotStatus {
  std::string name, wal_status;  // An empty name: there is none.
  bool active = false;

  bool operator==(const ShadowSlotStatus&) const = default;
};

// The application's table of events.
struct AuditEventsStatus {
  std::string table;  // Empty: the policy names none.
  bool exists = false;
  std::string rows;     // In words, by the planner's statistics.
  std::string finding;  // What is wrong with it, in words; empty: nothing.

  bool operator==(const AuditEventsStatus&) const = default;
};

struct ShadowTablePolicyStatus : LadderStatus {
  std::string database;  // "kyoyu-primary.data.svc:5432/kyoyu"
  AuditEventsStatus audit_events;
  int64_t epoch = 0;
  ShadowSummary summary;
  std::vector<ShadowTableStatus> tables;
  ShadowSlotStatus slot;
};

struct ShadowTablePolicy {
  Meta meta;
  ShadowTablePolicySpec spec;
  ShadowTablePolicyStatus status;
  // As ScaleTierPolicy::problems.
  std::vector<std::string> problems;
};

}  // namespace pgtier::crds
