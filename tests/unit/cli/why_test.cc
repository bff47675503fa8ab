#include "cli/why.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/cli/sample.h"

namespace pgtier::cli {
namespace {

using Json = nlohmann::json;

std::string Shown(const Json& object) {
  WhyReport report = Explain(Decode(object), SampleNow());
  return Render(report, {}, SampleNow());
}

TEST(Why, ShowsEachTriggerOfEachTierAndEachGate) { EXPECT_EQ(Shown(SampleObject()), Golden("why.txt")); }

TEST(Why, JsonHoldsTheSame) {
  Json report = ToJson(Explain(Decode(SampleObject()), SampleNow()));
  EXPECT_EQ(report["tier"], "single-node");
  EXPECT_EQ(report["tiers"].size(), 3U);
  EXPECT_EQ(report["tiers"][1]["standing"], "Next");
  Json pool = report["tiers"][1]["triggers"][1];
  EXPECT_EQ(pool,
            Json::parse(R"json({"name": "pool-utilisation", "source": "pooler", "state": "Breached", "value": "87%",
      "threshold": "> 80%", "forSeconds": 600.0, "soFarSeconds": 240.0, "breachedSince": "2026-11-20T17:06:00Z",
      "observedAt": "2026-11-20T17:09:55Z", "missing": "6m more of it (fires at 17:16:00Z if it holds)"})json"));
  EXPECT_EQ(report["tiers"][1]["triggers"][2]["unknownReason"], "NoData: the query gave no sample");
  EXPECT_EQ(report["gates"][0], Json::parse(R"({"name": "pause", "open": true, "message": "not paused"})"));
}

TEST(Why, SaysWhichGatesAreShut) {
  Json object = SampleObject();
  object["metadata"]["annotations"]["pgtier.dev/paused"] = "true";
  object["spec"]["mode"] = "Observe";
  object["spec"]["pin"] = "single-node";
  object["spec"]["transitions"]["maintenanceWindows"] = Json::array({"Daily 17:00-18:00 UTC"});
  object["status"]["tier"] = "read-replicas";
  object["status"]["history"][0]["at"] = "2026-11-20T16:00:00Z";
  std::map<std::string, bool> open;
  for (const GateReport& gate : Explain(Decode(object), SampleNow()).gates) open[gate.name] = gate.open;
  EXPECT_EQ(open, (std::map<std::string, bool>{{"approval", false},
                                               {"available", false},
                                               {"cooldown", true},
                                               {"maintenance-window", true},
                                               {"mode", false},
                                               {"pause", false},
                                               {"pin", false}}));
}

TEST(Why, AnObservationByAnotherThresholdSaysNothing) {
  Json object = SampleObject();
  object["status"]["tiers"][1]["observations"][1]["threshold"] = "70%";
  TriggerReport pool = Explain(Decode(object), SampleNow()).tiers[1].triggers[1];
  EXPECT_EQ(pool.state, "Unknown");
  EXPECT_EQ(pool.value, "");
  EXPECT_EQ(pool.missing, "a reading: the operator has not read it yet");
}

TEST(Why, ADemandIsReadFromTheSpec) {
  Json object = SampleObject();
  object["spec"]["demands"] = Json::array({"isolated-reads"});
  TriggerReport demand = Explain(Decode(object), SampleNow()).tiers[1].triggers[3];
  EXPECT_EQ(demand.state, "On");
  EXPECT_EQ(demand.missing, "");
}

TEST(Why, ANewPolicyAndAnEditThatWasNotSeenAreSaid) {
  Json object = SampleObject();
  object["metadata"]["generation"] = 5;
  EXPECT_THAT(Shown(object), testing::HasSubstr("has not seen the last edit"));
  object.erase("status");
  EXPECT_THAT(Shown(object), testing::StartsWith("kyoyu in data: no tier yet\n"));
}

TEST(Why, AnObjectThatBreaksTheSchemaIsStillShown) {
  Json object = SampleObject();
  object["spec"]["tiers"][1]["enterWhen"]["any"][0]["above"] = "50m";
  EXPECT_THAT(Shown(object), testing::HasSubstr("cannot be read: spec.tiers[1].enterWhen.any[0].above"));
}

}  // namespace
}  // namespace pgtier::cli
