// The commands that look, at a ShadowTablePolicy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/plan_report.h"
#include "cli/why.h"
#include "crds/shadow_table_policy_codec.h"
#include "tests/unit/cli/sample.h"

namespace pgtier::cli {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

// The example policy data/kyoyu-audit, in tier notify, with rows in its queue.
Json AuditObject() {
  Json policy = tests::LoadYaml("manifests/examples/kyoyu-audit.yaml");
  policy["metadata"]["generation"] = 2;
  policy["status"] = Json::parse(R"({
    "observedGeneration": 2, "tier": "notify", "tierSince": "2026-11-20T15:00:00Z", "nextTier": "cdc", "epoch": 7,
    "history": [{"from": "triggers", "to": "notify", "at": "2026-11-20T15:00:00Z", "reason": "insert-p99 61ms > 50ms for 7d"}],
    "summary": {"closest": "audit-rows 84M/100M", "queue": "1200", "lag": "2.3s", "tables": "5/6", "workers": "1/2"},
    "database": "kyoyu-primary.data.svc:5432/kyoyu",
    "auditEvents": {"table": "public.customer_audit_events", "exists": true, "rows": "84000000"},
    "tables": [
      {"name": "public.customers", "shadow": "public.customers_history", "installed": true},
      {"name": "public.trades", "shadow": "public.trades_history", "installed": false,
       "finding": "UnloggedTable: it is unlogged"}],
    "plan": {"hash": "3f9c2a7711d0e5b8", "from": "notify", "to": "cdc", "steps": [
      {"name": "make publication, replica identities FULL and slot", "reversible": true}]},
    "conditions": [
      {"type": "Ready", "status": "True", "reason": "InsertP99AboveThreshold", "message": ""},
      {"type": "Degraded", "status": "True", "reason": "QueueAboveAlert", "message": "1200 rows wait in the queue"},
      {"type": "MetricsAvailable", "status": "True", "reason": "AllRead", "message": ""}],
    "tiers": [
      {"name": "triggers"},
      {"name": "notify", "enteredAt": "2026-11-20T15:00:00Z", "message": "insert-p99 61ms > 50ms for 7d", "observations": [
        {"name": "insert-p99", "state": "Breached", "observed": "61ms", "threshold": "50ms", "for": "1w", "source": "http",
         "observedAt": "2026-11-20T17:09:50Z", "breachedSince": "2026-11-12T16:30:00Z"}]},
      {"name": "cdc", "observations": [
        {"name": "audit-rows", "state": "Calm", "observed": "84000000", "threshold": "100000000", "source": "sql",
         "observedAt": "2026-11-20T17:09:50Z"},
        {"name": "active-customers", "state": "Unknown", "threshold": "10000", "source": "sql",
         "reason": "GrantMissing: pgtier_monitor may not read customers"}]}]})");
  return policy;
}

crds::ShadowTablePolicy DecodeAudit(const Json& object) { return *crds::DecodeShadowTablePolicy(object); }

TEST(WhyShadow, ShowsTriggersQueueTablesAndGates) {
  EXPECT_EQ(Render(Explain(DecodeAudit(AuditObject()), SampleNow()), {}, SampleNow()), Golden("why_shadow.txt"));
}

TEST(WhyShadow, JsonHoldsTheSame) {
  Json report = ToJson(Explain(DecodeAudit(AuditObject()), SampleNow()));
  EXPECT_EQ(report["kind"], "ShadowTablePolicy");
  EXPECT_EQ(report["queue"], "1200");
  EXPECT_EQ(report["lag"], "2.3s");
  EXPECT_EQ(report["queueAlert"], 1000);
  EXPECT_EQ(report["epoch"], 7);
  EXPECT_EQ(report["database"], "kyoyu-primary.data.svc:5432/kyoyu");
  EXPECT_EQ(report["auditEvents"]["rows"], "84000000");
  EXPECT_FALSE(report.contains("slot"));
  EXPECT_EQ(report["tables"][1]["finding"], "UnloggedTable: it is unlogged");
  EXPECT_EQ(report["tiers"][2]["triggers"][0]["missing"], "a reading > 100000000");
  EXPECT_EQ(report["tiers"][2]["triggers"][1]["unknownReason"], "GrantMissing: pgtier_monitor may not read customers");
}

TEST(WhyShadow, InCdcTheSlotAndTheLogThatItKeepsAreShown) {
  Json object = AuditObject();
  object["status"]["tier"] = "cdc";
  object["status"].erase("nextTier");
  object["status"]["summary"]["lag"] = "12MiB";
  object["status"]["slot"] = {{"name", "pgtier_audit"}, {"active", false}, {"walStatus", "extended"}};
  std::string text = Render(Explain(DecodeAudit(object), SampleNow()), {}, SampleNow());
  EXPECT_THAT(text, HasSubstr("the slot keeps 12MiB of log"));
  EXPECT_THAT(text, HasSubstr("Slot pgtier_audit is read by nobody, wal_status extended\n"));
}

TEST(WhyShadow, WhatToTypeNamesTheKind) {
  Json object = AuditObject();
  object["metadata"]["annotations"]["pgtier.dev/paused"] = "true";
  object["spec"]["tiers"][2]["approval"] = "Required";
  object["spec"]["tiers"][2]["enterWhen"] = Json::parse(R"({"any": [{"name": "by-hand", "demand": {}}]})");
  std::string text = Render(Explain(DecodeAudit(object), SampleNow()), {}, SampleNow());
  EXPECT_THAT(text, HasSubstr("kubectl pgtier resume shadowtables/kyoyu-audit"));
  EXPECT_THAT(text, HasSubstr("kubectl pgtier approve shadowtables/kyoyu-audit 3f9c2a7711d0e5b8"));
  EXPECT_THAT(text, HasSubstr("kubectl pgtier demand shadowtables/kyoyu-audit by-hand"));
}

TEST(PlanShadow, ComparesWhoWritesTheHistories) {
  Json object = AuditObject();
  object["spec"]["tiers"][2]["approval"] = "Required";
  PlanReport report = DescribePlan(DecodeAudit(object), ReadPlan(object));
  EXPECT_EQ(Render(report, {}), Golden("plan_shadow.txt"));
  EXPECT_EQ(ToJson(report)["settings"][0]["name"], "histories written by");
}

TEST(PlanShadow, OfTheLastTierNothingComesNext) {
  Json object = AuditObject();
  object["status"]["tier"] = "cdc";
  PlanReport report = DescribePlan(DecodeAudit(object), {});
  EXPECT_EQ(report.next, "");
  EXPECT_THAT(Render(report, {}), HasSubstr("tier cdc runs; it is the last one"));
}

}  // namespace
}  // namespace pgtier::cli
