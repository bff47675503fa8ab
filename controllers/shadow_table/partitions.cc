#include "controllers/shadow_table/partitions.h"

#include <algorithm>

#include "controllers/ladder/rendering.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/resources.h"
#include "lib/base/sha256.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;
using shadow::PartitionStage;

constexpr size_t kMaxMigrationName = 40;  // crds/sqlmigrations.yaml
constexpr size_t kNameHash = 8;

// As the API writes names: without SQL's quotes.
std::string Plain(std::string table) {
  std::erase(table, '"');
  return table;
}

std::string MigrationName(const std::string& policy, const std::string& does, const std::string& table) {
  std::string plain = Plain(table);
  std::string name = policy + does + plain.substr(plain.find('.') + 1);
  bool changed = !plain.starts_with("public.");
  for (char& c : name) {
    bool fits = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (fits) continue;
    changed = changed || c != '_';
    c = '-';
  }
  if (!changed && name.size() <= kMaxMigrationName && name.back() != '-') return name;
  // What was cut or folded away is in the hash, so that no two tables share a name.
  return name.substr(0, kMaxMigrationName - kNameHash - 1) + "-" +
         Sha256Hex(policy + "\n" + does + "\n" + table).substr(0, kNameHash);
}

std::string ConditionOf(const Json& object, const std::string& type, const char* field) {
  const Json& conditions = kube::At(object, {"status", "conditions"});
  if (!conditions.is_array()) return "";
  for (const Json& condition : conditions) {
    if (kube::StringAt(condition, {"type"}) == type) return kube::StringAt(condition, {field});
  }
  return "";
}

bool IsDue(const PartitionSeen& table, const Partitioning& wanted) {
  bool plain = table.state.stage == PartitionStage::kPlain || table.state.stage == PartitionStage::kMarked;
  return plain && (table.state.rows >= wanted.rows || table.state.stage == PartitionStage::kMarked);
}

shadow::PartitionSpec SpecFor(const PartitionSeen& table, const Partitioning& wanted) {
  shadow::PartitionSpec spec = wanted.each;
  spec.table = table.table;
  return spec;
}

const Json* MigrationOf(const crds::ShadowTablePolicy& policy, const Seen& seen, const PartitionSeen& table) {
  return seen.Object(kSqlMigrations, PartitionMigration(policy.meta.name, table.table));
}

bool IsComplete(const Json& migration) { return ConditionOf(migration, "Complete", "status") == "True"; }

std::string InWords(int64_t rows) { return "about " + std::to_string(rows) + " rows"; }

// Why this engine and no other, and what becomes of compression.
std::string EngineInWords(const Partitioning& wanted, const shadow::TimescaleState& timescale) {
  std::string text = "engine Native";
  if (wanted.chosen) {
    text += !timescale.version.empty() ? ": hypertables are not made, for they would lock a history while they copy it"
            : timescale.available      ? ": this database has no extension timescaledb"
                                       : ": the server has no TimescaleDB";
  }
  if (wanted.compression) text += "; nothing is compressed: that needs hypertables";
  return text;
}

ApplyObject Migration(const PlanContext& context, const std::string& name, const std::string& table) {
  return {kSqlMigrations, RenderPartitionMigration(context.policy, context.resolved, name, table)};
}

}  // namespace

std::string PartitionMigration(const std::string& policy, const std::string& table) {
  return MigrationName(policy, "-partition-", table);
}

std::string SplitMigration(const std::string& policy, const std::string& table) {
  return MigrationName(policy, "-split-", table);
}

Json RenderPartitionMigration(const crds::ShadowTablePolicy& policy, const Resolved& resolved, const std::string& name,
                              const std::string& table) {
  const Partitioning& wanted = *resolved.partitioning;
  Json spec{{"steps", Json::array({{{"name", "partition"},
                                    {"partitionHistory",
                                     {{"policy", policy.meta.name},
                                      {"table", Plain(table)},
                                      {"column", wanted.each.column},
                                      {"interval", FormatDuration(wanted.each.interval)},
                                      {"engine", "Native"},
                                      {"ahead", wanted.each.ahead}}}}})}};
  if (policy.spec.database_name.empty()) {
    spec["connectionSecret"] = {{"name", policy.spec.connection_secret}};
  } else {
    spec["databaseRef"] = {{"name", policy.spec.database_name}};
  }
  return {{"apiVersion", kSqlMigrations.ApiVersion()},
          {"kind", std::string(kSqlMigrations.kind)},
          {"metadata",
           {{"name", name},
            {"namespace", policy.meta.namespace_},
            {"labels", {{"app.kubernetes.io/managed-by", "pgtier"}, {kShadowPolicyLabel, policy.meta.name}}},
            {"ownerReferences", Json::array({{{"apiVersion", kShadowTablePolicies.ApiVersion()},
                                              {"kind", std::string(kShadowTablePolicies.kind)},
                                              {"name", policy.meta.name},
                                              {"uid", policy.meta.uid}}})}}},
          {"spec", spec}};
}

void PlanPartitions(const PlanContext& context, const Seen& seen, Plan& plan) {
  if (!context.resolved.partitioning.has_value() || !seen.partitions_error.empty()) return;
  const Partitioning& wanted = *context.resolved.partitioning;
  bool busy = false;
  for (const PartitionSeen& table : seen.partitions) {
    const Json* migration = MigrationOf(context.policy, seen, table);
    busy = busy || (migration != nullptr && IsDue(table, wanted) && !IsComplete(*migration));
  }
  for (const PartitionSeen& table : seen.partitions) {
    shadow::PartitionSpec spec = SpecFor(table, wanted);
    if (table.state.stage == PartitionStage::kPartitioned) {
      if (table.needs_ahead) plan.actions.emplace_back(KeepPartitionsAhead{spec});
      if (wanted.retain.has_value() && !table.expired.empty()) {
        plan.actions.emplace_back(DropExpiredPartitions{spec, *wanted.retain});
      }
      // Only what is dropped by periods has to be in periods.
      std::string split = SplitMigration(context.policy.meta.name, table.table);
      if (wanted.retain.has_value() && table.history && table.state.old_part_past && !busy &&
          seen.Object(kSqlMigrations, split) == nullptr) {
        plan.actions.emplace_back(Migration(context, split, table.table));
        busy = true;
      }
      continue;
    }
    if (table.bound_near) {
      plan.actions.emplace_back(ForgetPartitionBound{spec});
    }
    if (!IsDue(table, wanted) || !table.findings.empty()) continue;
    const Json* migration = MigrationOf(context.policy, seen, table);
    if (migration != nullptr && IsComplete(*migration)) {
      // Of a table of that name that was here before.
      plan.actions.emplace_back(
          DeleteObject{kSqlMigrations, kube::KeyOf(*migration).name, kube::StringAt(*migration, {"metadata", "uid"})});
    } else if (migration == nullptr && !busy) {
      plan.actions.emplace_back(
          Migration(context, PartitionMigration(context.policy.meta.name, table.table), table.table));
      busy = true;
    }
  }
}

void PlanPartitionsEnd(const Seen& seen, Plan& plan) {
  // They would go with the policy; but none may begin anew what is taken back here.
  for (const auto& [key, object] : seen.objects) {
    if (key.first != kSqlMigrations.plural || kube::At(object, {"metadata"}).contains("deletionTimestamp")) continue;
    plan.actions.emplace_back(DeleteObject{kSqlMigrations, key.second, kube::StringAt(object, {"metadata", "uid"})});
  }
  for (const PartitionSeen& table : seen.partitions) {
    if (table.state.stage != PartitionStage::kMarked) continue;
    shadow::PartitionSpec spec;
    spec.table = table.table;
    plan.actions.emplace_back(ForgetPartitionBound{spec});
  }
}

std::string PartitionsRunOut(const Outcome& outcome) {
  if (!outcome.resolved.partitioning.has_value()) return "";
  for (const PartitionSeen& table : outcome.seen.partitions) {
    const shadow::PartitionState& state = table.state;
    if (state.stage != PartitionStage::kPartitioned || !state.upper.has_value()) continue;
    if (*state.upper - outcome.now >= outcome.resolved.partitioning->each.interval) continue;
    return "rows of " + Plain(table.table) + " have partitions until " + FormatTime(*state.upper) +
           " only, and are refused then: see condition Partitioned";
  }
  return "";
}

Saying SayPartitioned(const Outcome& outcome) {
  const Partitioning& wanted = *outcome.resolved.partitioning;
  const Seen& seen = outcome.seen;
  std::string engine = EngineInWords(wanted, seen.timescale);
  if (!seen.partitions_error.empty()) return {kUnknown, "PartitionsUnknown", seen.partitions_error};
  if (seen.partitions.empty()) {
    return {kUnknown, "NotInstalled", "nobody has looked yet: the policy's tables are not installed"};
  }
  int partitioned = 0;
  std::optional<WallTime> until;
  std::vector<std::string> ways, moves;
  std::string reason;
  for (const PartitionSeen& table : seen.partitions) {
    std::string name = Plain(table.table);
    const shadow::PartitionState& state = table.state;
    if (state.stage == PartitionStage::kPartitioned) {
      ++partitioned;
      if (state.upper.has_value() && (!until.has_value() || *state.upper < *until)) until = state.upper;
      const Json* split = seen.Object(kSqlMigrations, SplitMigration(outcome.policy.meta.name, table.table));
      if (split != nullptr && ConditionOf(*split, "Stalled", "status") == "True") {
        if (reason.empty()) reason = "MigrationFailed";
        ways.push_back("SqlMigration " + kube::KeyOf(*split).name + ": " + ConditionOf(*split, "Stalled", "message"));
      }
    }
    if (!table.findings.empty()) {
      const shadow::Finding& finding = table.findings.front();
      if (reason.empty()) reason = finding.code;
      ways.push_back(
          name + ": " + finding.code + ": " + finding.message + "; " + finding.cure +
          (table.findings.size() > 1 ? " (and " + std::to_string(table.findings.size() - 1) + " more)" : ""));
      continue;
    }
    if (!IsDue(table, wanted)) continue;
    const Json* migration = MigrationOf(outcome.policy, seen, table);
    std::string grown = name + " has " + InWords(state.rows);
    if (outcome.resolved.ladder.observe_only) {
      moves.push_back(grown + " and would be partitioned");
    } else if (migration != nullptr && ConditionOf(*migration, "Stalled", "status") == "True") {
      if (reason.empty()) reason = "MigrationFailed";
      ways.push_back("SqlMigration " + kube::KeyOf(*migration).name + ": " +
                     ConditionOf(*migration, "Stalled", "message"));
    } else if (migration != nullptr) {
      moves.push_back(grown + ": SqlMigration " + kube::KeyOf(*migration).name + " partitions it");
    } else {
      moves.push_back(grown + " and is next");
    }
  }
  if (!ways.empty()) return {kFalse, reason, Join(ways)};
  if (std::string out = PartitionsRunOut(outcome); !out.empty()) return {kFalse, "PartitionsRunOut", out};
  if (!moves.empty()) {
    return {kFalse, outcome.resolved.ladder.observe_only ? "WouldPartition" : "Partitioning",
            Join(moves) + "; " + engine};
  }
  std::string count = std::to_string(partitioned) + " of " + std::to_string(seen.partitions.size()) + " tables";
  if (partitioned == 0) {
    return {kTrue, "BelowThreshold", "no table has " + std::to_string(wanted.rows) + " rows yet, " + engine};
  }
  std::string text = count + " in partitions of " + FormatDuration(wanted.each.interval);
  if (until.has_value()) text += ", made until " + FormatTime(*until);
  text += wanted.retain.has_value() ? ", kept for " + FormatDuration(*wanted.retain) : ", kept for ever";
  return {kTrue, "AsSpecified", text + "; " + engine};
}

}  // namespace pgtier::controllers::shadow_table
