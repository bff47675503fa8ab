// The steps that every migration may have, made from their definitions.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "migrations/config.h"
#include "migrations/step.h"

namespace pgtier::migrations {

// Takes the object under the step's kind, as {"table": …} of a backfill. Errors: kInvalidArgument.
using MakeStep = std::function<Result<std::unique_ptr<Step>>(const StepConfig& step)>;

// {sql: <one statement>, transaction: true}
Result<std::unique_ptr<Step>> MakeSql(const StepConfig& step);
// {table, name, columns: […] or definition: "USING brin (at)", unique}
Result<std::unique_ptr<Step>> MakeCreateIndex(const StepConfig& step);
// {table, key: […], set, where, batchRows, pause}
Result<std::unique_ptr<Step>> MakeBackfill(const StepConfig& step);
// {query, expect}
Result<std::unique_ptr<Step>> MakeVerify(const StepConfig& step);

// Those four by kind; a program adds what it has beside them.
std::map<std::string, MakeStep> BuiltInSteps();

// The lock that a statement takes, as far as its first words tell; empty: they don't.
std::string LockOfStatement(std::string_view sql);

// An index that CREATE INDEX CONCURRENTLY makes: built again where an earlier try left it INVALID.
struct ConcurrentIndex {
  std::string name;       // as it is stored
  std::string table;      // as SQL writes it
  std::string statement;  // CREATE INDEX CONCURRENTLY …
};
// `statement` as one, where it is one that names its index.
std::optional<ConcurrentIndex> ParseConcurrentIndex(const std::string& statement);
// Makes it. Waits for transactions as long as they take: it holds nobody up meanwhile.
Result<Progress> BuildIndex(postgres::Connection& connection, const ConcurrentIndex& index, Deadline deadline);
// What BuildIndex would do, a line each.
Result<std::vector<std::string>> PlanIndex(postgres::Connection& connection, const ConcurrentIndex& index,
                                           Deadline deadline);

// "schema"."table" of a table named as schema.table or table (then of public), as it is stored. Errors:
// kInvalidArgument.
Result<std::string> QuoteTable(const postgres::Connection& connection, const std::string& table);

}  // namespace pgtier::migrations
