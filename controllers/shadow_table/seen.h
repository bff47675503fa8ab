// What one pass saw: plain values, read and not judged.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "controllers/database/database.h"
#include "core/ladder.h"
#include "lib/kube/resource.h"
#include "shadow/audit_events.h"
#include "shadow/partition/partition.h"
#include "shadow/shadow.h"

namespace pgtier::controllers::shadow_table {

// The worker's Deployment and its pods.
struct WorkerSeen {
  bool exists = false;
  int wanted = 0;        // spec.replicas
  int ready = 0;         // Pods of the present template that are ready.
  bool settled = false;  // The Deployment's controller has seen its present spec, and no pod of an older one runs.
  std::string trouble;   // Why a pod does not run, in words; empty: nothing is known.
};

// A table that gets partitions, or may come to it: a history, or the auditEvents table.
struct PartitionSeen {
  std::string table;  // As SQL writes it.
  bool history = true;
  shadow::PartitionState state;
  std::vector<shadow::Finding> findings;             // What stands in the way of one that is due,
  std::vector<shadow::Finding> hypertable_findings;  // and what beside it in the way of a hypertable.
  std::vector<std::string> expired;                  // Partitions, or chunks, that `retain` keeps no longer.
  std::vector<shadow::Chunk> to_compress;            // Old enough, and not compressed; the oldest first, some of them.
  bool needs_ahead = false;                          // Partitions are to be made.
  bool bound_near = false;                           // A bound that a migration has left would refuse rows soon.
};

struct Seen {
  // Live objects with the policy's label, by plural and name.
  std::map<std::pair<std::string, std::string>, nlohmann::json> objects;
  Database database;
  // As the database says; nothing: it could not be asked, and why stands in `error`.
  std::optional<shadow::State> state;
  std::string reason;  // In one word.
  std::string error;
  std::optional<shadow::AuditEventsState> audit_events;  // Nothing: not asked, or the policy names none.
  std::string held_slot;                                 // The slot that the database has for the policy; empty: none.
  bool needs_person = false;                             // That does not go away by itself.
  // What stands in the way of a tier, by its name: of the first where nothing is installed yet, of the next one else.
  std::map<std::string, Result<std::vector<shadow::Finding>>> preflights;
  WorkerSeen worker;  // Of tier notify.
  WorkerSeen cdc;     // Of tier cdc.
  // Nothing where the policy asks for no partitions, or is not installed.
  std::vector<PartitionSeen> partitions;
  std::string partitions_error;  // Why they could not be looked at; empty: they could.
  shadow::TimescaleState timescale;
  std::map<core::TriggerKey, core::Reading> readings;

  [[nodiscard]] const nlohmann::json* Object(const kube::Resource& resource, const std::string& name) const {
    auto found = objects.find({std::string(resource.plural), name});
    return found == objects.end() ? nullptr : &found->second;
  }
};

}  // namespace pgtier::controllers::shadow_table
