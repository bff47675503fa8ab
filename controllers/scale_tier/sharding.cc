#include "controllers/scale_tier/sharding.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "sql/scale_tier.h"

namespace pgtier::controllers::scale_tier {
namespace {

constexpr size_t kShownFindings = 10;  // Of one condition's message.

std::string TablesAsJson(const crds::CitusSharding& sharding) {
  nlohmann::json tables = nlohmann::json::array();
  for (const crds::DistributedTable& table : sharding.tables) {
    nlohmann::json entry{{"name", table.name}, {"column", table.column}};
    if (!table.colocate_with.empty()) entry["colocateWith"] = table.colocate_with;
    tables.push_back(std::move(entry));
  }
  return tables.dump();
}

}  // namespace

Result<std::vector<Finding>> PreflightCitus(const postgres::ConnectOptions& server, const crds::CitusSharding& sharding,
                                            Deadline deadline, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection connection, postgres::Connection::Open(server, deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows,
                          connection.Query(sql::kScaleTierCitusPreflight, {TablesAsJson(sharding)}, deadline));
  std::vector<Finding> findings;
  for (const postgres::Row& row : rows) {
    Finding finding;
    PGTIER_ASSIGN_OR_RETURN(finding.code, row.Get<std::string>("code"));
    PGTIER_ASSIGN_OR_RETURN(finding.message, row.Get<std::string>("message"));
    PGTIER_ASSIGN_OR_RETURN(finding.cure, row.Get<std::string>("cure"));
    PGTIER_ASSIGN_OR_RETURN(finding.blocks, row.Get<bool>("blocks"));
    findings.push_back(std::move(finding));
  }
  return findings;
}

std::string InWords(const std::vector<Finding>& findings, size_t limit) {
  std::string text;
  for (size_t i = 0; i < std::min(limit, findings.size()); ++i) {
    const Finding& finding = findings[i];
    text += (text.empty() ? "" : "; ") + finding.code + ": " + finding.message + " (" + finding.cure + ")";
  }
  if (findings.size() > limit) text += "; and " + std::to_string(findings.size() - limit) + " more";
  return text;
}

void FillPreflight(const std::string& tier, const Result<std::vector<Finding>>& preflight, Resolved& resolved) {
  std::optional<size_t> index = core::FindTier(resolved.ladder, tier);
  if (!index.has_value()) return;
  core::Gate& gate = resolved.ladder.tiers[*index].blocked;
  if (!gate.reason.empty()) return;
  if (!preflight.has_value()) {
    gate = {"PreflightUnknown", "the catalogue could not be read: " + preflight.error().message};
    return;
  }
  std::vector<Finding> blocking;
  std::copy_if(preflight->begin(), preflight->end(), std::back_inserter(blocking),
               [](const Finding& finding) { return finding.blocks; });
  if (blocking.empty()) return;
  gate = {"PreflightFailed", InWords(blocking, kShownFindings)};
}

std::vector<crds::PlanStep> ShardingSteps(const crds::CitusSharding& sharding) {
  std::vector<crds::PlanStep> steps;
  steps.push_back({"create the extension citus and start " + std::to_string(sharding.workers) + " workers", true});
  for (const crds::DistributedTable& table : sharding.tables) {
    steps.push_back({"distribute " + table.name + " by " + table.column +
                         (table.colocate_with.empty() ? "" : ", co-located with " + table.colocate_with) +
                         ", and verify its rows",
                     false});
  }
  return steps;
}

}  // namespace pgtier::controllers::scale_tier
