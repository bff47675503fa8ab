// Old chunks of large hypertables are compressed, where TimescaleDB's build can.
#include "controllers/shadow_table/partitions.h"
#include "controllers/shadow_table/resources.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::shadow_table {

using Json = nlohmann::json;
using shadow::PartitionStage;

void PlanCompression(const PlanContext& context, const Seen& seen, Plan& plan) {
  for (const PartitionSeen& table : seen.partitions) {
    if (!context.resolved.partitioning->compression.has_value() || table.to_compress.empty()) continue;
    std::string name = CompressMigration(context.policy.meta.name, table.table);
    const Json* migration = seen.Object(kSqlMigrations, name);
    if (migration == nullptr) {
      // A chunk a step, which is a transaction of its own: writers of one chunk wait, for as long as it takes.
      // Before them the table is held for a moment, which may not last as long as a chunk does.
      shadow::PartitionSpec spec;
      spec.table = table.table;
      // The database remembers steps by the migration's name, which comes again, and theirs, which may not.
      const std::string& first = table.to_compress.front().once;
      Json steps = Json::array({{{"name", "enable-" + first}, {"sql", shadow::CompressionEnabling(spec)}}});
      for (const shadow::Chunk& chunk : table.to_compress) {
        steps.push_back({{"name", "chunk-" + chunk.once}, {"sql", shadow::CompressionOf(chunk, spec)}});
      }
      plan.actions.emplace_back(ApplyObject{kSqlMigrations, RenderMigration(context.policy, name, steps)});
    } else if (MigrationCondition(*migration, "Complete", "status") == "True") {
      // There are more by now.
      plan.actions.emplace_back(DeleteObject{kSqlMigrations, name, kube::StringAt(*migration, {"metadata", "uid"})});
    }
  }
}

Saying SayCompressed(const Outcome& outcome) {
  const Compression& wanted = *outcome.resolved.partitioning->compression;
  const Seen& seen = outcome.seen;
  if (!seen.partitions_error.empty()) return {kUnknown, "PartitionsUnknown", seen.partitions_error};
  if (seen.partitions.empty()) {
    return {kUnknown, "NotInstalled", "nobody has looked yet: the policy's tables are not installed"};
  }
  const shadow::TimescaleState& timescale = seen.timescale;
  if (timescale.version.empty()) {
    return {kFalse, "NoTimescaleDB",
            "only hypertables are compressed, and this database has no extension timescaledb: create it, or take "
            "compression out of the policy"};
  }
  if (!timescale.compresses) {
    return {kFalse, "CompressionNotInThisBuild",
            "TimescaleDB " + timescale.version +
                " has no compression here: timescaledb.license is not timescale, or the build is the Apache one, as "
                "Debian's is. Install the Community build and set timescaledb.license = timescale, or take compression "
                "out of the policy"};
  }
  int large = 0, chunks = 0, compressed = 0;
  size_t waiting = 0;
  std::vector<std::string> failed, others;
  for (const PartitionSeen& table : seen.partitions) {
    const shadow::PartitionState& state = table.state;
    if (state.rows < wanted.rows) continue;
    if (state.stage != PartitionStage::kHypertable || !state.managed) {
      others.push_back(table.table);
      continue;
    }
    ++large;
    chunks += state.parts;
    compressed += state.compressed;
    waiting += table.to_compress.size();
    const Json* migration = seen.Object(kSqlMigrations, CompressMigration(outcome.policy.meta.name, table.table));
    if (migration != nullptr && MigrationCondition(*migration, "Stalled", "status") == "True") {
      failed.push_back("SqlMigration " + kube::KeyOf(*migration).name + ": " +
                       MigrationCondition(*migration, "Stalled", "message"));
    }
  }
  if (!failed.empty()) return {kFalse, "MigrationFailed", Join(failed)};
  if (!others.empty()) {
    return {kFalse, "NotAHypertable", Join(others) + ": no hypertable of pgtier's, so nothing of it is compressed"};
  }
  std::string older = " older than " + FormatDuration(wanted.older_than);
  if (waiting > 0) {
    bool observing = outcome.resolved.ladder.observe_only;
    return {kFalse, observing ? "WouldCompress" : "Compressing",
            std::to_string(waiting) + " chunks or more are" + older};
  }
  if (large == 0) return {kTrue, "BelowThreshold", "no table has " + std::to_string(wanted.rows) + " rows yet"};
  return {
      kTrue, "AsSpecified",
      std::to_string(compressed) + " of " + std::to_string(chunks) + " chunks are compressed, all that are" + older};
}

}  // namespace pgtier::controllers::shadow_table
