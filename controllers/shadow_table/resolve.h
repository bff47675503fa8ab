// From a policy as written to what it means: defaults applied, and what this release cannot do named field by field.
#pragma once

#include <optional>
#include <string>

#include "controllers/ladder/resolve.h"
#include "core/ladder.h"
#include "crds/shadow_table_policy.h"
#include "shadow/partition/partition.h"
#include "shadow/shadow.h"

namespace pgtier::controllers::shadow_table {

struct Workers {
  int min = 1;
  int max = 1;
  bool payload = false;        // Rows travel in notifications.
  int64_t queue_alert = 1000;  // Rows in the queue beyond which the policy is degraded, and a worker more is wanted.
};

struct Compression {
  int64_t rows = 100'000'000;                         // Of a hypertable with as many, estimated,
  Duration older_than = std::chrono::hours(24 * 90);  // chunks all of whose rows are older are compressed.
};

struct Partitioning {
  int64_t rows = 1'000'000;    // A table with as many, estimated, is partitioned.
  shadow::PartitionSpec each;  // Of every table; names none.
  std::optional<Duration> retain;
  std::optional<Compression> compression;
};

struct Resolved : Limits {
  core::Ladder ladder;
  Duration interval = std::chrono::seconds(15);
  shadow::Spec spec;
  Workers workers;
  std::string audit_events;                // The application's table of events, as SQL writes it; empty: none.
  std::optional<double> max_retained_wal;  // Bytes that the slot of cdc may keep.
  std::optional<Partitioning> partitioning;
};

// `workers`: whether this operator was told an image of pgtier-worker, without which tiers notify and cdc are not
// available.
Resolved Resolve(const crds::ShadowTablePolicy& policy, bool workers = true);

}  // namespace pgtier::controllers::shadow_table
