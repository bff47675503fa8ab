// Sharding by Citus, decided and planned: what in the database stands in its way, and the steps that it would take.
// This release does not carry them out.
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "controllers/scale_tier/resolve.h"
#include "crds/scale_tier_policy.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers::scale_tier {

// One thing that Citus would refuse, or that people should know before.
struct Finding {
  std::string code;  // PascalCase: "UniqueKeyLacksColumn".
  std::string message;
  std::string cure;
  bool blocks = true;  // False: it is worth knowing, and nothing fails.
};

// What the live catalogue says about distributing these tables, what blocks first; empty: nothing is in the way. One
// read-only statement, for which any role will do. Errors: those of Connection::Open and Query.
Result<std::vector<Finding>> PreflightCitus(const postgres::ConnectOptions& server, const crds::CitusSharding& sharding,
                                            Deadline deadline, const std::stop_token& stop);

// Writes into the ladder what the preflight of a tier found: a finding that blocks, or a preflight that failed, shuts
// the tier before anybody is asked to approve it.
void FillPreflight(const std::string& tier, const Result<std::vector<Finding>>& preflight, Resolved& resolved);

// "UniqueKeyLacksColumn: unique key … (add agent_id to the key …)" of each; at most `limit`, and how many more.
std::string InWords(const std::vector<Finding>& findings, size_t limit);

// What sharding would do, in its order.
std::vector<crds::PlanStep> ShardingSteps(const crds::CitusSharding& sharding);

}  // namespace pgtier::controllers::scale_tier
