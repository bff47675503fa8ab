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

// Something stands half done in the database.
bool IsBegun(const PartitionSeen& table) {
  const shadow::PartitionState& state = table.state;
  return state.stage == PartitionStage::kMarked || state.stage == PartitionStage::kCopying ||
         (state.stage == PartitionStage::kHypertable && state.managed && state.unfinished);
}

// A migration has something to do: to begin, or to bring to its end what was begun.
bool IsDue(const PartitionSeen& table, const Partitioning& wanted) {
  return IsBegun(table) || (table.state.stage == PartitionStage::kPlain && table.state.rows >= wanted.rows);
}

// Of a table that is due. What was begun goes on as it was, unless the other engine is asked for by its name.
shadow::EngineChoice ChoiceFor(const PartitionSeen& table, const Partitioning& wanted,
                               const shadow::TimescaleState& timescale) {
  using shadow::PartitionEngine;
  if (table.state.stage == PartitionStage::kHypertable) return {PartitionEngine::kHypertable, ""};
  if (wanted.each.engine == PartitionEngine::kAuto && table.state.stage != PartitionStage::kPlain) {
    bool copying = table.state.stage == PartitionStage::kCopying;
    return {copying ? PartitionEngine::kHypertable : PartitionEngine::kNative, ""};
  }
  return shadow::ChooseEngine(wanted.each.engine, timescale, table.hypertable_findings);
}

std::vector<shadow::Finding> InTheWay(const PartitionSeen& table, const Partitioning& wanted,
                                      const shadow::TimescaleState& timescale) {
  std::vector<shadow::Finding> found = table.findings;
  if (ChoiceFor(table, wanted, timescale).engine == shadow::PartitionEngine::kHypertable) {
    found.insert(found.end(), table.hypertable_findings.begin(), table.hypertable_findings.end());
  }
  return found;
}

shadow::PartitionSpec SpecFor(const PartitionSeen& table, const Partitioning& wanted) {
  shadow::PartitionSpec spec = wanted.each;
  spec.table = table.table;
  return spec;
}

const Json* MigrationOf(const crds::ShadowTablePolicy& policy, const Seen& seen, const PartitionSeen& table) {
  return seen.Object(kSqlMigrations, PartitionMigration(policy.meta.name, table.table));
}

bool IsComplete(const Json& migration) { return MigrationCondition(migration, "Complete", "status") == "True"; }

// Of a policy that asks for no partitions any more: the migration that is under way; null: none.
const Json* Unwanted(const crds::ShadowTablePolicy& policy, const Seen& seen, const PartitionSeen& table) {
  const Json* migration = MigrationOf(policy, seen, table);
  return migration == nullptr || IsComplete(*migration) ? nullptr : migration;
}

// What nobody finishes would cost each row that comes, or refuse rows one day. What has partitions keeps them, and a
// past that is being split, or chunks that are compressed, are brought to their end.
void TakeBack(const crds::ShadowTablePolicy& policy, const Seen& seen, Plan& plan) {
  for (const PartitionSeen& table : seen.partitions) {
    // It first: it would begin anew.
    if (const Json* migration = Unwanted(policy, seen, table);
        migration != nullptr && !kube::At(*migration, {"metadata"}).contains("deletionTimestamp")) {
      plan.actions.emplace_back(
          DeleteObject{kSqlMigrations, kube::KeyOf(*migration).name, kube::StringAt(*migration, {"metadata", "uid"})});
    }
    if (!IsBegun(table)) continue;
    shadow::PartitionSpec spec;
    spec.table = table.table;
    plan.actions.emplace_back(ForgetPartitionBound{spec});
  }
}

std::string InWords(int64_t rows) { return "about " + std::to_string(rows) + " rows"; }

// Why this engine and no other.
std::string EngineInWords(const Partitioning& wanted, const shadow::TimescaleState& timescale) {
  shadow::EngineChoice choice = shadow::ChooseEngine(wanted.each.engine, timescale, {});
  bool hypertable = choice.engine == shadow::PartitionEngine::kHypertable;
  std::string text = hypertable ? "engine Hypertable" : "engine Native";
  if (!choice.why.empty()) return text + ": " + choice.why;
  if (!hypertable) return text;
  return text + (timescale.version.empty() ? ", which this database has not: CREATE EXTENSION timescaledb"
                                           : ": TimescaleDB " + timescale.version);
}

ApplyObject Migration(const PlanContext& context, const std::string& name, const std::string& table,
                      shadow::PartitionEngine engine) {
  return {kSqlMigrations, RenderPartitionMigration(context.policy, context.resolved, name, table, engine)};
}

}  // namespace

std::string PartitionMigration(const std::string& policy, const std::string& table) {
  return MigrationName(policy, "-partition-", table);
}

std::string SplitMigration(const std::string& policy, const std::string& table) {
  return MigrationName(policy, "-split-", table);
}

std::string CompressMigration(const std::string& policy, const std::string& table) {
  return MigrationName(policy, "-compress-", table);
}

std::string MigrationCondition(const Json& migration, const std::string& type, const char* field) {
  return kube::StringAt(kube::ConditionAt(migration, type), {field});
}

Json RenderPartitionMigration(const crds::ShadowTablePolicy& policy, const Resolved& resolved, const std::string& name,
                              const std::string& table, shadow::PartitionEngine engine) {
  const Partitioning& wanted = *resolved.partitioning;
  bool hypertable = engine == shadow::PartitionEngine::kHypertable;
  return RenderMigration(policy, name,
                         Json::array({{{"name", "partition"},
                                       {"partitionHistory",
                                        {{"policy", policy.meta.name},
                                         {"table", Plain(table)},
                                         {"column", wanted.each.column},
                                         {"interval", FormatDuration(wanted.each.interval)},
                                         {"engine", hypertable ? "Hypertable" : "Native"},
                                         {"ahead", wanted.each.ahead}}}}}));
}

Json RenderMigration(const crds::ShadowTablePolicy& policy, const std::string& name, const Json& steps) {
  Json spec{{"steps", steps}};
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
  if (!context.resolved.partitioning.has_value()) return TakeBack(context.policy, seen, plan);
  if (!seen.partitions_error.empty()) return;
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
        plan.actions.emplace_back(Migration(context, split, table.table, shadow::PartitionEngine::kNative));
        busy = true;
      }
      continue;
    }
    if (table.state.stage == PartitionStage::kHypertable && wanted.retain.has_value() && !table.expired.empty()) {
      plan.actions.emplace_back(DropExpiredPartitions{spec, *wanted.retain});
    }
    if (table.bound_near) {
      plan.actions.emplace_back(ForgetPartitionBound{spec});
    }
    if (!IsDue(table, wanted) || !InTheWay(table, wanted, seen.timescale).empty()) continue;
    const Json* migration = MigrationOf(context.policy, seen, table);
    if (migration != nullptr && IsComplete(*migration)) {
      // Of a table of that name that was here before.
      plan.actions.emplace_back(
          DeleteObject{kSqlMigrations, kube::KeyOf(*migration).name, kube::StringAt(*migration, {"metadata", "uid"})});
    } else if (migration == nullptr && !busy) {
      plan.actions.emplace_back(Migration(context, PartitionMigration(context.policy.meta.name, table.table),
                                          table.table, ChoiceFor(table, wanted, seen.timescale).engine));
      busy = true;
    }
  }
  PlanCompression(context, seen, plan);
}

void PlanPartitionsEnd(const Seen& seen, Plan& plan) {
  // They would go with the policy; but none may begin anew what is taken back here.
  for (const auto& [key, object] : seen.objects) {
    if (key.first != kSqlMigrations.plural || kube::At(object, {"metadata"}).contains("deletionTimestamp")) continue;
    plan.actions.emplace_back(DeleteObject{kSqlMigrations, key.second, kube::StringAt(object, {"metadata", "uid"})});
  }
  for (const PartitionSeen& table : seen.partitions) {
    if (!IsBegun(table)) continue;
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

namespace {

// What stands, of all tables together.
struct Tally {
  int native = 0, hypertables = 0, chunks = 0;
  std::optional<WallTime> until;      // Up to when all native ones have partitions.
  Duration chunk = Duration::zero();  // Of the first hypertable.
  std::vector<std::string> others;    // Hypertables that pgtier did not make.

  void Add(const PartitionSeen& table) {
    const shadow::PartitionState& state = table.state;
    if (state.stage == PartitionStage::kPartitioned) {
      ++native;
      if (state.upper.has_value() && (!until.has_value() || *state.upper < *until)) until = state.upper;
    } else if (state.stage == PartitionStage::kHypertable && state.managed) {
      if (hypertables++ == 0) chunk = state.chunk;
      chunks += state.parts;
    } else if (state.stage == PartitionStage::kHypertable) {
      others.push_back(Plain(table.table));
    }
  }

  [[nodiscard]] std::string InWords(size_t tables, const Partitioning& wanted) const {
    std::string of = " of " + std::to_string(tables) + " tables ";
    std::string text;
    if (native > 0 || hypertables == 0) {
      text = std::to_string(native) + of + "in partitions of " + FormatDuration(wanted.each.interval);
      if (until.has_value()) text += ", made until " + FormatTime(*until);
    }
    if (hypertables > 0) {
      text += (text.empty() ? "" : "; ") + std::to_string(hypertables) + of + "in chunks of " + FormatDuration(chunk) +
              ", " + std::to_string(chunks) + " of them";
    }
    return text + (wanted.retain.has_value() ? ", kept for " + FormatDuration(*wanted.retain) : ", kept for ever");
  }
};

}  // namespace

std::optional<Saying> SayPartitionsEnd(const Outcome& outcome) {
  const Seen& seen = outcome.seen;
  if (!seen.partitions_error.empty()) return Saying{kUnknown, "PartitionsUnknown", seen.partitions_error};
  // Nobody could look: it is looked at as long as it is said.
  const crds::Condition* before = crds::FindCondition(outcome.policy.status.conditions, "Partitioned");
  if (!seen.state.has_value() && before != nullptr) return Saying{before->status, before->reason, before->message};
  std::vector<std::string> begun;
  for (const PartitionSeen& table : seen.partitions) {
    if (IsBegun(table) || Unwanted(outcome.policy, seen, table) != nullptr) begun.push_back(Plain(table.table));
  }
  if (begun.empty()) return std::nullopt;
  return Saying{kFalse, "TakenBack",
                "partitioning is not asked for any more, and what was begun is taken back: " + Join(begun)};
}

Saying SayPartitioned(const Outcome& outcome) {
  const Partitioning& wanted = *outcome.resolved.partitioning;
  const Seen& seen = outcome.seen;
  std::string engine = EngineInWords(wanted, seen.timescale);
  if (!seen.partitions_error.empty()) return {kUnknown, "PartitionsUnknown", seen.partitions_error};
  if (seen.partitions.empty()) {
    return {kUnknown, "NotInstalled", "nobody has looked yet: the policy's tables are not installed"};
  }
  Tally tally;
  std::vector<std::string> ways, moves;
  std::string reason;
  auto failed = [&](const Json* migration) {
    if (migration == nullptr || MigrationCondition(*migration, "Stalled", "status") != "True") return false;
    if (reason.empty()) reason = "MigrationFailed";
    ways.push_back("SqlMigration " + kube::KeyOf(*migration).name + ": " +
                   MigrationCondition(*migration, "Stalled", "message"));
    return true;
  };
  for (const PartitionSeen& table : seen.partitions) {
    std::string name = Plain(table.table);
    tally.Add(table);
    if (table.state.stage == PartitionStage::kPartitioned) {
      failed(seen.Object(kSqlMigrations, SplitMigration(outcome.policy.meta.name, table.table)));
    }
    if (auto found = InTheWay(table, wanted, seen.timescale); !found.empty()) {
      if (reason.empty()) reason = found.front().code;
      ways.push_back(name + ": " + found.front().code + ": " + found.front().message + "; " + found.front().cure +
                     (found.size() > 1 ? " (and " + std::to_string(found.size() - 1) + " more)" : ""));
      continue;
    }
    if (!IsDue(table, wanted)) continue;
    const Json* migration = MigrationOf(outcome.policy, seen, table);
    shadow::EngineChoice choice = ChoiceFor(table, wanted, seen.timescale);
    std::string grown = name + " has " + InWords(table.state.rows);
    // Why this table gets none, where the others get hypertables.
    std::string though = choice.engine == shadow::PartitionEngine::kNative && !table.hypertable_findings.empty() &&
                                 !seen.timescale.version.empty() && !choice.why.empty()
                             ? " natively, for " + choice.why
                             : "";
    if (outcome.resolved.ladder.observe_only) {
      moves.push_back(grown + " and would be partitioned" + though);
    } else if (!failed(migration)) {
      moves.push_back(migration == nullptr
                          ? grown + " and is next"
                          : grown + ": SqlMigration " + kube::KeyOf(*migration).name + " partitions it" + though);
    }
  }
  if (!ways.empty()) return {kFalse, reason, Join(ways)};
  if (std::string out = PartitionsRunOut(outcome); !out.empty()) return {kFalse, "PartitionsRunOut", out};
  if (!moves.empty()) {
    return {kFalse, outcome.resolved.ladder.observe_only ? "WouldPartition" : "Partitioning",
            Join(moves) + "; " + engine};
  }
  std::string others =
      tally.others.empty()
          ? ""
          : "; " + Join(tally.others) + ": a hypertable that pgtier did not make, left to TimescaleDB's policies";
  if (tally.native + tally.hypertables == 0) {
    return {kTrue, "BelowThreshold", "no table has " + std::to_string(wanted.rows) + " rows yet, " + engine + others};
  }
  return {kTrue, "AsSpecified", tally.InWords(seen.partitions.size(), wanted) + "; " + engine + others};
}

}  // namespace pgtier::controllers::shadow_table
