#include "controllers/shadow_table/resolve.h"

#include <algorithm>
#include <cctype>

#include "lib/base/sha256.h"

namespace pgtier::controllers::shadow_table {
namespace {

constexpr size_t kMaxSlotName = 56;  // with "pgtier_" before it still a name that the server does not cut off
constexpr size_t kSlotHash = 8;
constexpr double kMaxRetainedWal = 10.0 * 1024 * 1024 * 1024;
constexpr Duration kShortestPeriod = std::chrono::hours(1);
constexpr char kDefaultChannel[] = "pgtier_shadow";

// The schema fixes the names, so a tier is known by its own.
constexpr char kNotify[] = "notify";
constexpr char kCdc[] = "cdc";

void FindGaps(const crds::ShadowTablePolicySpec& spec, bool workers, std::vector<Unavailable>& found) {
  for (size_t i = 0; i < spec.tiers.size(); ++i) {
    const crds::ShadowTierSpec& tier = spec.tiers[i];
    std::string path = "spec.tiers[" + std::to_string(i) + "]";
    if (!workers && (tier.name == kNotify || tier.name == kCdc)) {
      found.push_back({path + ": tier " + tier.name + " (the operator was told no image of its worker: --worker-image)",
                       tier.name, false});
    }
  }
  if (spec.partitioning.has_value()) {
    const crds::Partitioning& wanted = *spec.partitioning;
    if (wanted.interval.has_value() && *wanted.interval < kShortestPeriod) {
      found.push_back({"spec.partitioning.interval of less than 1h", "", false});
    }
  }
}

// "public." is what a name without a schema means.
std::string WithSchema(const std::string& name) {
  return name.find('.') == std::string::npos ? "public." + name : name;
}

void FindRefusals(const crds::ShadowTablePolicySpec& spec, std::vector<Refusal>& found) {
  for (const crds::ShadowTable& table : spec.tables) {
    if (spec.audit_events_table.empty() || WithSchema(table.name) != WithSchema(spec.audit_events_table)) continue;
    found.push_back(
        {"auditEvents.table: " + table.name +
             " is one of spec.tables too; only the application writes its events, so no history is kept of them",
         ""});
  }
  for (const crds::ShadowTierSpec& tier : spec.tiers) {
    int min = tier.workers_min.value_or(1);
    if (tier.workers_max.value_or(min) >= min) continue;
    found.push_back({"workers.max of tier " + tier.name + ": " + std::to_string(*tier.workers_max) +
                         " is less than workers.min, " + std::to_string(min),
                     tier.name});
  }
}

Workers ResolveWorkers(const crds::ShadowTablePolicySpec& spec) {
  Workers workers;
  for (const crds::ShadowTierSpec& tier : spec.tiers) {
    if (tier.name != kNotify) continue;
    workers.min = std::max(tier.workers_min.value_or(1), 1);
    workers.max = std::max(tier.workers_max.value_or(workers.min), workers.min);
    workers.payload = tier.delivery == "Payload";
    workers.queue_alert = tier.queue_alert.value_or(workers.queue_alert);
  }
  return workers;
}

// A name of the schema is as it is stored, and SQL folds what is not quoted. The schema lets no quote into a name.
std::string AsSqlWrites(const std::string& name) {
  if (std::none_of(name.begin(), name.end(), [](unsigned char c) { return std::isupper(c) != 0; })) return name;
  size_t dot = name.find('.');
  if (dot == std::string::npos) return "\"" + name + "\"";
  return "\"" + name.substr(0, dot) + "\".\"" + name.substr(dot + 1) + "\"";
}

// PostgreSQL lets lower case letters, digits and underscores into a slot's name. Slots are the server's, so the
// namespace is in it. What would be the name of another policy too (a-b/c and a/b-c), or would be cut off, ends in a
// hash. A slot that the database has for the policy is kept whatever it is called (Seen::held_slot).
std::string SlotOf(const crds::Meta& policy) {
  std::string name = "pgtier_" + policy.namespace_ + "_" + policy.name;
  const bool unique = name.find_first_of("-.") == std::string::npos;
  std::replace(name.begin(), name.end(), '-', '_');
  std::replace(name.begin(), name.end(), '.', '_');
  if (unique && name.size() <= kMaxSlotName) return name;
  return name.substr(0, kMaxSlotName - kSlotHash - 1) + "_" +
         Sha256Hex(policy.namespace_ + "/" + policy.name).substr(0, kSlotHash);
}

shadow::Spec ResolveSpec(const crds::ShadowTablePolicy& policy) {
  shadow::Spec spec;
  spec.policy = policy.meta.namespace_ + "/" + policy.meta.name;
  spec.actor_setting = policy.spec.actor_setting;
  spec.channel = policy.spec.channel.empty() ? kDefaultChannel : policy.spec.channel;
  for (const crds::ShadowTable& table : policy.spec.tables) {
    spec.tables.push_back({AsSqlWrites(table.name), AsSqlWrites(table.shadow)});
  }
  for (const crds::ShadowTierSpec& tier : policy.spec.tiers) {
    if (tier.name == kCdc) spec.slot = tier.slot.value_or(SlotOf(policy.meta));
  }
  return spec;
}

// Nothing where it can't be had as it is written: FindGaps says so.
std::optional<Partitioning> ResolvePartitioning(const crds::ShadowTablePolicySpec& spec) {
  if (!spec.partitioning.has_value()) return std::nullopt;
  const crds::Partitioning& written = *spec.partitioning;
  Partitioning partitioning;
  partitioning.rows = written.rows.value_or(partitioning.rows);
  if (!written.column.empty()) partitioning.each.column = written.column;
  partitioning.each.interval = written.interval.value_or(partitioning.each.interval);
  if (partitioning.each.interval < kShortestPeriod) return std::nullopt;
  partitioning.each.interval = std::chrono::floor<std::chrono::seconds>(partitioning.each.interval);
  partitioning.each.ahead = written.ahead.value_or(partitioning.each.ahead);
  partitioning.retain = written.retain;
  partitioning.each.engine = shadow::ParseEngine(written.engine);
  if (written.compression) {
    Compression& compression = partitioning.compression.emplace();
    compression.rows = written.compression_rows.value_or(compression.rows);
    compression.older_than = written.compression_older_than.value_or(compression.older_than);
  }
  return partitioning;
}

}  // namespace

Resolved Resolve(const crds::ShadowTablePolicy& policy, bool workers) {
  const crds::ShadowTablePolicySpec& spec = policy.spec;
  Resolved resolved;
  resolved.interval = ResolveInterval(spec);
  resolved.spec = ResolveSpec(policy);
  resolved.workers = ResolveWorkers(spec);
  if (!spec.audit_events_table.empty()) resolved.audit_events = AsSqlWrites(spec.audit_events_table);
  // Also of a policy whose cdc was taken out of the spec: its slot may be there still.
  resolved.max_retained_wal = kMaxRetainedWal;
  resolved.partitioning = ResolvePartitioning(spec);
  for (const crds::ShadowTierSpec& tier : spec.tiers) {
    if (tier.name == kCdc) resolved.max_retained_wal = tier.max_retained_wal.value_or(kMaxRetainedWal);
  }
  FindGaps(spec, workers, resolved.unavailable);
  FindRefusals(spec, resolved.refusals);
  resolved.ladder = ResolveLadder(spec);
  for (const crds::ShadowTierSpec& written : spec.tiers) {
    core::Tier tier = ResolveRung(written, resolved.interval, resolved.ladder.down);
    tier.approval_required = written.approval == "Required";
    tier.blocked = resolved.BlockedBy(written.name);
    resolved.ladder.tiers.push_back(std::move(tier));
  }
  return resolved;
}

}  // namespace pgtier::controllers::shadow_table
