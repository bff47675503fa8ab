#include "cli/plan_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/cli/sample.h"

namespace pgtier::cli {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

PlanReport Report(const Json& object) { return DescribePlan(Decode(object), ReadPlan(object)); }

Json WithPlan() {
  Json object = SampleObject();
  object["status"]["plan"] = Json::parse(R"({"hash": "3f9c2a7711d0e5b8", "steps": [
      {"name": "clone kyoyu-2 and let it catch up", "reversible": true},
      {"name": "distribute agent_events", "reversible": false}]})");
  return object;
}

TEST(PlanReport, ComparesTheTierThatRunsWithTheNext) { EXPECT_EQ(Render(Report(WithPlan()), {}), Golden("plan.txt")); }

TEST(PlanReport, JsonHoldsTheSame) {
  Json report = ToJson(Report(WithPlan()));
  EXPECT_EQ(report["hash"], "3f9c2a7711d0e5b8");
  EXPECT_EQ(report["currentTier"], "single-node");
  EXPECT_EQ(report["nextTier"], "read-replicas");
  EXPECT_EQ(report["steps"][1], Json::parse(R"({"name": "distribute agent_events", "reversible": false})"));
  EXPECT_EQ(report["approvalRequired"], false);
  Json differing = Json::array();
  for (const Json& setting : report["settings"]) {
    if (setting["differs"] == true) differing.push_back(setting);
  }
  EXPECT_EQ(differing[0], Json::parse(R"({"name": "readReplicas.min", "current": "0", "next": "2", "differs": true})"));
}

TEST(PlanReport, WithoutAPlanSaysSo) {
  EXPECT_THAT(Render(Report(SampleObject()), {}), HasSubstr("No plan is recorded"));
}

TEST(PlanReport, SaysWhatWaitsForApproval) {
  Json object = WithPlan();
  object["status"]["tier"] = "read-replicas";
  EXPECT_THAT(Render(Report(object), {}), HasSubstr("kubectl pgtier approve kyoyu 3f9c2a7711d0e5b8 -n data"));
  object["status"]["plan"]["approvedBy"] = "annotation at 2026-11-20T17:00:00Z";
  EXPECT_THAT(Render(Report(object), {}), HasSubstr("approved by annotation"));
}

TEST(PlanReport, TheLastTierHasNoNext) {
  Json object = SampleObject();
  object["status"]["tier"] = "sharded";
  PlanReport report = Report(object);
  EXPECT_EQ(report.next, "");
  EXPECT_THAT(Render(report, {}), HasSubstr("it is the last one"));
}

}  // namespace
}  // namespace pgtier::cli
