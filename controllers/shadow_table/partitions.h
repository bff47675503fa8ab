// Partitions of a policy's histories: what is to be done about them, and what is said of them. Pure.
#pragma once

#include <string>
#include <vector>

#include "controllers/ladder/conditions.h"
#include "controllers/shadow_table/plan.h"
#include "controllers/shadow_table/report.h"

namespace pgtier::controllers::shadow_table {

// The SqlMigration that partitions a table (as SQL writes it): "audit-partition-customers-history", at most 40
// characters.
std::string PartitionMigration(const std::string& policy, const std::string& table);

// The one that splits what the table was before.
std::string SplitMigration(const std::string& policy, const std::string& table);

// The one that compresses chunks.
std::string CompressMigration(const std::string& policy, const std::string& table);

// A field of one of a migration's conditions; empty: it has none of that type.
std::string MigrationCondition(const nlohmann::json& migration, const std::string& type, const char* field);

// The SqlMigration of that name, rendered: with these steps, or the one that partitions `table` (as SQL writes it).
nlohmann::json RenderMigration(const crds::ShadowTablePolicy& policy, const std::string& name,
                               const nlohmann::json& steps);
nlohmann::json RenderPartitionMigration(const crds::ShadowTablePolicy& policy, const Resolved& resolved,
                                        const std::string& name, const std::string& table,
                                        shadow::PartitionEngine engine);

// Adds to the plan what the partitions need: one migration at a time for tables that have grown beyond the policy's
// rows, partitions ahead, old ones dropped where the policy says for how long they are kept.
void PlanPartitions(const PlanContext& context, const Seen& seen, Plan& plan);
// Adds, as PlanPartitions does, what compresses old chunks of large hypertables, one migration at a time for each.
void PlanCompression(const PlanContext& context, const Seen& seen, Plan& plan);
// Of a policy that is deleted: bounds that nobody would lift any more.
void PlanPartitionsEnd(const Seen& seen, Plan& plan);

// Whether rows of one of the tables will find no partition within a period; the words for condition Degraded, or empty.
std::string PartitionsRunOut(const Outcome& outcome);
// Condition Partitioned of a policy that asks for no partitions (any more), while something of them is under way.
std::optional<Saying> SayPartitionsEnd(const Outcome& outcome);
// The same of one that does.
Saying SayPartitioned(const Outcome& outcome);
// Condition Compressed. Only for a policy that asks for compression.
Saying SayCompressed(const Outcome& outcome);

}  // namespace pgtier::controllers::shadow_table
