// The step partitionHistory of a SqlMigration: a plain table becomes one with a partition a period, while rows arrive;
// what it was becomes the first partition. Called again when that one takes no more rows it splits it into periods.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "migrations/step.h"
#include "shadow/partition/partition.h"

namespace pgtier::shadow {

std::unique_ptr<migrations::Step> MakePartitionStep(PartitionSpec spec);

// From `partitionHistory:` of a SqlMigration: {table, column, interval, engine, ahead}; column at_utc, interval 1w,
// engine Auto and ahead 4 where absent. Errors: kInvalidArgument.
Result<std::unique_ptr<migrations::Step>> MakePartitionHistoryStep(const nlohmann::json& spec);

}  // namespace pgtier::shadow
