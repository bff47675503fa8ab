#include "controllers/shadow_table/observe.h"

#include <algorithm>

#include "controllers/ladder/memory.h"
#include "controllers/ladder/objects.h"
#include "controllers/ladder/readings.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/report.h"
#include "controllers/shadow_table/resources.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;

// An answer takes milliseconds; a server that is stopped or cut off must not hold up the pass.
constexpr Duration kPatience = std::chrono::seconds(5);
// A bound that a migration has left standing is taken back this long before it refuses rows.
constexpr Duration kBoundMargin = std::chrono::hours(12);

int NumberAt(const Json& object, std::initializer_list<std::string_view> path) {
  const Json& value = kube::At(object, path);
  return value.is_number_integer() ? value.get<int>() : 0;
}

WorkerSeen FindWorker(const std::string& deployment, shadow::Tier tier, const Seen& seen) {
  WorkerSeen worker;
  const Json* live = seen.Object(kube::kDeployments, deployment);
  worker.exists = live != nullptr;
  if (live != nullptr) {
    worker.wanted = NumberAt(*live, {"spec", "replicas"});
    int ready = NumberAt(*live, {"status", "readyReplicas"});
    int updated = NumberAt(*live, {"status", "updatedReplicas"});
    worker.ready = std::min(ready, updated);
    worker.settled = NumberAt(*live, {"status", "observedGeneration"}) >= NumberAt(*live, {"metadata", "generation"}) &&
                     NumberAt(*live, {"status", "replicas"}) == updated;
  }
  for (const auto& [key, pod] : seen.objects) {
    if (key.first != kube::kPods.plural) continue;
    if (kube::StringAt(pod, {"metadata", "labels", kWorkerLabel}) != shadow::TierName(tier)) continue;
    // It still moves rows until it has ended.
    worker.exists = true;
    if (worker.trouble.empty() && !IsReady(pod)) worker.trouble = TroubleOf(pod);
  }
  return worker;
}

// Of a connection or a statement that failed.
void NoteTrouble(const Error& error, Seen& seen) {
  seen.error = error.message;
  DatabaseTrouble trouble = ExplainTrouble(error);
  seen.reason = trouble.reason;
  seen.needs_person = trouble.needs_person;
}

// What is known of the partitions of histories, and of the auditEvents table.
Status LookAtPartitions(postgres::Connection& connection, const Resolved& resolved, bool ending, Seen& seen,
                        Deadline deadline) {
  const Partitioning wanted = resolved.partitioning.value_or(Partitioning());
  std::vector<std::string> names;
  for (const shadow::TableState& table : seen.state->tables) names.push_back(table.history);
  if (!resolved.audit_events.empty()) names.push_back(resolved.audit_events);
  PGTIER_ASSIGN_OR_RETURN(auto states, shadow::InspectPartitions(connection, wanted.each, names, deadline));
  PGTIER_ASSIGN_OR_RETURN(seen.timescale, shadow::InspectTimescale(connection, deadline));
  const WallTime now = SystemClock().Now();
  for (size_t i = 0; i < names.size(); ++i) {
    PartitionSeen table;
    table.table = names[i];
    table.history = i < seen.state->tables.size();
    table.state = states[i];
    shadow::PartitionSpec spec = wanted.each;
    spec.table = table.table;
    bool plain = table.state.stage == shadow::PartitionStage::kPlain;
    bool parted = table.state.stage == shadow::PartitionStage::kPartitioned;
    table.needs_ahead = parted && shadow::NeedsAhead(table.state, spec, now);
    table.bound_near = table.state.stage == shadow::PartitionStage::kMarked && table.state.upper.has_value() &&
                       *table.state.upper < now + kBoundMargin;
    if (!ending && ((plain && table.state.rows >= wanted.rows) || table.state.stage == shadow::PartitionStage::kOther ||
                    table.state.stage == shadow::PartitionStage::kMissing)) {
      PGTIER_ASSIGN_OR_RETURN(table.findings, shadow::PartitionFindings(connection, spec, deadline));
      if (plain && spec.engine != shadow::PartitionEngine::kNative) {
        PGTIER_ASSIGN_OR_RETURN(table.hypertable_findings, shadow::HypertableFindings(connection, spec, deadline));
      }
    }
    bool chunked = table.state.stage == shadow::PartitionStage::kHypertable && table.state.managed;
    if (chunked && seen.timescale.compresses && wanted.compression.has_value() &&
        table.state.rows >= wanted.compression->rows) {
      PGTIER_ASSIGN_OR_RETURN(table.to_compress,
                              shadow::ChunksToCompress(connection, spec, wanted.compression->older_than, deadline));
    }
    if ((parted || chunked) && wanted.retain.has_value()) {
      PGTIER_ASSIGN_OR_RETURN(table.expired, shadow::Expired(connection, spec, *wanted.retain, deadline));
    }
    seen.partitions.push_back(std::move(table));
  }
  return {};
}

Status AskDatabase(const crds::ShadowTablePolicy& policy, const Resolved& resolved, Seen& seen, Deadline deadline,
                   const std::stop_token& stop) {
  Deadline patience = deadline.AtMost(kPatience);
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection connection,
                          postgres::Connection::Open(seen.database.admin, patience, stop));
  shadow::Spec spec = resolved.spec;
  PGTIER_ASSIGN_OR_RETURN(shadow::State state, shadow::Inspect(connection, spec, patience));
  if (state.checkpoint.has_value()) seen.held_slot = state.checkpoint->slot;
  if (!seen.held_slot.empty() && seen.held_slot != spec.slot) {
    spec.slot = seen.held_slot;
    PGTIER_ASSIGN_OR_RETURN(state, shadow::Inspect(connection, spec, patience));
  }
  seen.state = std::move(state);
  // A policy that goes, or asks for none any more, may have asked for them before.
  const bool ending = policy.meta.deleting || !resolved.partitioning.has_value();
  const bool had = policy.meta.deleting || crds::FindCondition(policy.status.conditions, "Partitioned") != nullptr;
  if ((had || resolved.partitioning.has_value()) && IsInstalled(*seen.state, spec)) {
    // Whatever is wrong with them, the tables' changes are kept.
    Status looked = LookAtPartitions(connection, resolved, ending, seen, patience);
    if (!looked.has_value()) seen.partitions_error = looked.error().message;
  }
  if (policy.meta.deleting) return {};
  if (!resolved.audit_events.empty()) {
    std::string reader = seen.database.monitor.has_value() ? seen.database.monitor->user : "";
    PGTIER_ASSIGN_OR_RETURN(seen.audit_events,
                            shadow::InspectAuditEvents(connection, resolved.audit_events, reader, patience));
  }
  auto preflight = [&](shadow::Tier tier) {
    std::string name(shadow::TierName(tier));
    seen.preflights.emplace(name, shadow::Preflight(connection, spec, tier, patience));
  };
  if (!IsInstalled(*seen.state, spec)) {
    preflight(shadow::Tier::kTriggers);
    return {};
  }
  std::optional<size_t> current = core::FindTier(resolved.ladder, RunningTier(policy.status, resolved, seen));
  if (!current.has_value() || *current + 1 >= resolved.ladder.tiers.size()) return {};
  const core::Tier& next = resolved.ladder.tiers[*current + 1];
  Result<shadow::Tier> tier = shadow::ParseTier(next.name);
  if (tier.has_value() && next.blocked.reason.empty()) preflight(*tier);
  return {};
}

}  // namespace

Result<Seen> Observer::Observe(const crds::ShadowTablePolicy& policy, const Resolved& resolved, Deadline deadline,
                               const std::stop_token& stop) {
  Seen seen;
  const kube::ObjectKey key{policy.meta.namespace_, policy.meta.name};
  PGTIER_ASSIGN_OR_RETURN(seen.objects,
                          ReadOwned(*client_, children_, kOwned, kShadowPolicyLabel, key, deadline, stop));
  seen.worker = FindWorker(NotifyWorker(policy.meta.name), shadow::Tier::kNotify, seen);
  seen.cdc = FindWorker(CdcWorker(policy.meta.name), shadow::Tier::kCdc, seen);
  PGTIER_ASSIGN_OR_RETURN(seen.database,
                          finder_.Find(key.namespace_, policy.spec.database_name, policy.spec.connection_secret,
                                       policy.status.database, deadline, stop));
  if (seen.database.reason.empty()) {
    Status asked = AskDatabase(policy, resolved, seen, deadline, stop);
    if (!asked.has_value()) NoteTrouble(asked.error(), seen);
  } else {
    seen.reason = seen.database.reason;
    seen.error = seen.database.error;
    seen.needs_person = seen.database.needs_person;
  }
  if (policy.meta.deleting) return seen;
  ReadingSources sources{client_,
                         prometheus_,
                         [&](Deadline) -> Result<postgres::ConnectOptions> {
                           if (seen.database.monitor.has_value()) return *seen.database.monitor;
                           if (!seen.database.no_monitor.empty()) {
                             return MakeError(Code::kFailedPrecondition, seen.database.no_monitor);
                           }
                           return MakeError(Code::kUnavailable, "PostgresUnreachable: " + seen.error);
                         },
                         {}};
  seen.readings = ReadTriggers(policy.meta, policy.spec, RulesIn(policy.spec.tiers), resolved.ladder, sources,
                               deadline.AtMost(kReadingsBudget), stop);
  return seen;
}

}  // namespace pgtier::controllers::shadow_table
