// Partitions: which migration is made when, what is kept up, and what the condition says.
#include "controllers/shadow_table/partitions.h"

#include <gmock/gmock.h>

#include "controllers/shadow_table/resources.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;
using shadow::PartitionStage;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kCustomers[] = "public.customers_history";
constexpr char kTrades[] = "public.trades_log";

Json Asking(const Json& partitioning = {{"rows", 1000}}) { return {{"spec", {{"partitioning", partitioning}}}}; }

// At rest in triggers, with two histories of that many rows.
Scene AtRest(const Json& changes, int64_t customers, int64_t trades) {
  Scene scene(TwoTables(changes));
  scene.Settle();
  for (auto [name, rows] : {std::pair{kCustomers, customers}, {kTrades, trades}}) {
    PartitionSeen table;
    table.table = name;
    table.state.stage = PartitionStage::kPlain;
    table.state.rows = rows;
    scene.seen.partitions.push_back(table);
  }
  return scene;
}

void Say(Scene& scene, const std::string& migration, const std::string& type, const std::string& message = "") {
  Json& object = scene.seen.objects.at({std::string(kSqlMigrations.plural), migration});
  object["status"]["conditions"] = Json::array({{{"type", type}, {"status", "True"}, {"message", message}}});
}

void MakeParts(Scene& scene, size_t table, Duration until) {
  scene.seen.partitions[table].state.stage = PartitionStage::kPartitioned;
  scene.seen.partitions[table].state.upper = scene.now + until;
}

constexpr Duration kWeek = std::chrono::hours(24 * 7);

TEST(ShadowPartitions, OneMigrationAtATimeForHistoriesThatHaveGrown) {
  Scene scene = AtRest(Asking(), 999, 999);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "BelowThreshold");
  for (auto& table : scene.seen.partitions) table.state.rows = 1000;
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-customers-history"));
  scene.now += std::chrono::minutes(5);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "Partitioning");
  EXPECT_THAT(scene.ConditionOf("Partitioned").message,
              HasSubstr("SqlMigration audit-partition-customers-history partitions it"));
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
  Say(scene, "audit-partition-customers-history", "Complete");
  MakeParts(scene, 0, 5 * kWeek);
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-trades-log"));
  MakeParts(scene, 1, 4 * kWeek);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").status, "True");
  EXPECT_EQ(scene.ConditionOf("Partitioned").message,
            "2 of 2 tables in partitions of 7d, made until " + FormatTime(scene.now + 4 * kWeek) +
                ", kept for ever; engine Native: the server has no TimescaleDB");
}

TEST(ShadowPartitions, TheMigrationIsTheSpecs) {
  Scene scene = AtRest(Asking({{"rows", 5}, {"interval", "1d"}, {"ahead", 9}, {"column", "at"}}), 5, 0);
  scene.Pass();
  const Json* object = scene.seen.Object(kSqlMigrations, "audit-partition-customers-history");
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(object->at("spec"), Json::parse(R"({"databaseRef": {"name": "kyoyu"}, "steps": [{"name": "partition",
    "partitionHistory": {"policy": "audit", "table": "public.customers_history", "column": "at", "interval": "1d",
                         "engine": "Native", "ahead": 9}}]})"));
  EXPECT_EQ(object->at("metadata").at("ownerReferences").at(0).at("uid"), "u1");
  // Of a table of that name that was here before.
  Say(scene, "audit-partition-customers-history", "Complete");
  EXPECT_THAT(scene.Pass(), ElementsAre("delete SqlMigration audit-partition-customers-history"));
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-customers-history"));
}

TEST(ShadowPartitions, NamesFitAndAreNobodyElses) {
  std::string name = PartitionMigration("a-policy-of-a-rather-long-name", "public.customers_history");
  EXPECT_EQ(name.size(), 40U);
  EXPECT_NE(name, PartitionMigration("a-policy-of-a-rather-long-name", "public.customers_historia"));
  EXPECT_NE(PartitionMigration("a", "other.h"), PartitionMigration("a", "public.h"));
  EXPECT_NE(PartitionMigration("a", "public.\"H\""), PartitionMigration("a", "public.h"));
  EXPECT_EQ(SplitMigration("a", "public.h"), "a-split-h");
}

TEST(ShadowPartitions, ObservingMakesNothing) {
  Scene scene = AtRest(Asking(), 5000, 0);
  Json object = TwoTables(Asking());
  object["spec"]["mode"] = "Observe";
  scene.Edit(object);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "WouldPartition");
}

TEST(ShadowPartitions, WhatStandsInTheWayIsSaidAndTheRestGoesOn) {
  Scene scene = AtRest(Asking(), 5000, 5000);
  scene.seen.partitions[0].findings = {{"KeyWithoutColumn", "k", "k is unique without at_utc", "drop it"}};
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-trades-log"));
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "KeyWithoutColumn");
  EXPECT_EQ(scene.ConditionOf("Partitioned").message,
            "public.customers_history: KeyWithoutColumn: k is unique without at_utc; drop it");
  scene.seen.partitions[0].findings.clear();
  Say(scene, "audit-partition-trades-log", "Stalled", "RowsOutside: in the future");
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "MigrationFailed");
}

TEST(ShadowPartitions, AreKeptAheadAndDroppedWhereAskedFor) {
  Scene scene = AtRest(Asking({{"retain", "90d"}}), 0, 0);
  MakeParts(scene, 0, 5 * kWeek);
  MakeParts(scene, 1, 5 * kWeek);
  scene.seen.partitions[0].needs_ahead = true;
  scene.seen.partitions[1].expired = {"public.trades_log_p20260101"};
  EXPECT_THAT(scene.Pass(),
              ElementsAre("partitions ahead of public.customers_history", "drop old partitions of public.trades_log"));
  scene.seen.partitions[0].needs_ahead = false;
  scene.seen.partitions[1].expired.clear();
  scene.seen.partitions[1].state.old_part_past = true;
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-split-trades-log"));
  EXPECT_THAT(scene.Pass(), IsEmpty());
  // Nobody says for how long: nothing goes, nothing is split.
  scene.Edit(TwoTables(Asking()));
  scene.seen.partitions[1].expired = {"public.trades_log_p20260101"};
  scene.seen.partitions[0].state.old_part_past = true;
  EXPECT_THAT(scene.Pass(), IsEmpty());
}

TEST(ShadowPartitions, RunningOutIsAnAlarm) {
  Scene scene = AtRest(Asking(), 0, 0);
  MakeParts(scene, 0, std::chrono::hours(24));
  MakeParts(scene, 1, 5 * kWeek);
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Degraded").reason, "PartitionsRunOut");
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "PartitionsRunOut");
  EXPECT_EQ(scene.ConditionOf("Ready").status, "True");
}

TEST(ShadowPartitions, ABoundThatNobodyFinishesIsTakenBack) {
  Scene scene = AtRest(Asking(), 0, 0);
  scene.seen.partitions[0].state.stage = PartitionStage::kMarked;
  scene.Pass();
  scene.seen.partitions[0].bound_near = true;
  EXPECT_THAT(scene.Pass(), Contains("forget the bound of public.customers_history"));
  scene.policy.meta.deleting = true;
  std::vector<std::string> done = scene.Pass();
  ASSERT_GE(done.size(), 3U);
  EXPECT_EQ(done[0], "delete SqlMigration audit-partition-customers-history");
  EXPECT_EQ(done[1], "forget the bound of public.customers_history");
}

TEST(ShadowPartitions, WhatIsNotAskedForAnyMoreIsTakenBack) {
  Scene scene = AtRest(Asking(), 5000, 5000);
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-customers-history"));
  scene.seen.partitions[0].state.stage = PartitionStage::kCopying;
  MakeParts(scene, 1, 2 * kWeek);
  scene.seen.partitions[1].needs_ahead = true;
  scene.policy.spec.partitioning.reset();
  // While the database does not answer it is not forgotten.
  Seen unseen;
  std::swap(unseen, scene.seen);
  unseen.objects.swap(scene.seen.objects);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "Partitioning");
  unseen.objects.swap(scene.seen.objects);
  std::swap(unseen, scene.seen);
  EXPECT_THAT(scene.Pass(), ElementsAre("delete SqlMigration audit-partition-customers-history",
                                        "forget the bound of public.customers_history"));
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "TakenBack");
  EXPECT_THAT(scene.ConditionOf("Partitioned").message, HasSubstr("customers_history"));
  scene.seen.partitions[0].state.stage = PartitionStage::kPlain;
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "");
}

// A hypertable that pgtier made, of that many chunks.
void MakeChunks(Scene& scene, size_t table, int chunks) {
  shadow::PartitionState& state = scene.seen.partitions[table].state;
  state.stage = PartitionStage::kHypertable;
  state.managed = true;
  state.chunk = kWeek;
  state.parts = chunks;
}

std::string EngineOf(const Scene& scene, const std::string& migration) {
  const Json* object = scene.seen.Object(kSqlMigrations, migration);
  return object == nullptr ? "" : object->at("spec").at("steps").at(0).at("partitionHistory").at("engine");
}

TEST(ShadowPartitions, AreHypertablesWhereTheDatabaseHasTimescale) {
  Scene scene = AtRest(Asking(), 5000, 5000);
  scene.seen.timescale.version = "2.19.3";
  scene.seen.partitions[1].history = false;
  scene.seen.partitions[1].hypertable_findings = {{"NotAHistory", "t", "its rows have no number", "take Native"}};
  scene.Pass();
  EXPECT_EQ(EngineOf(scene, "audit-partition-customers-history"), "Hypertable");
  EXPECT_THAT(scene.ConditionOf("Partitioned").message, HasSubstr("engine Hypertable: TimescaleDB 2.19.3"));
  // What was begun goes on.
  scene.seen.partitions[0].state.stage = PartitionStage::kCopying;
  scene.seen.partitions[0].state.rows = 0;
  EXPECT_THAT(scene.Pass(), IsEmpty());
  MakeChunks(scene, 0, 37);
  scene.seen.partitions[0].state.unfinished = true;
  EXPECT_THAT(scene.Pass(), IsEmpty());
  scene.seen.partitions[0].state.unfinished = false;
  Say(scene, "audit-partition-customers-history", "Complete");
  // A table that can't become one gets native partitions, and it is said why.
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-trades-log"));
  EXPECT_EQ(EngineOf(scene, "audit-partition-trades-log"), "Native");
  scene.now += std::chrono::minutes(5);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_THAT(scene.ConditionOf("Partitioned").message,
              HasSubstr("natively, for NotAHistory: its rows have no number"));
  MakeParts(scene, 1, 4 * kWeek);
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Partitioned").message,
            "1 of 2 tables in partitions of 7d, made until " + FormatTime(scene.now + 4 * kWeek) +
                "; 1 of 2 tables in chunks of 7d, 37 of them, kept for ever; engine Hypertable: TimescaleDB 2.19.3");
}

TEST(ShadowPartitions, HypertablesThatAreAskedForNeedTimescale) {
  Scene scene = AtRest(Asking({{"engine", "Hypertable"}, {"rows", 1000}}), 999, 999);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_THAT(scene.ConditionOf("Partitioned").message, HasSubstr("which this database has not: CREATE EXTENSION"));
  scene.seen.partitions[0].state.rows = 1000;
  scene.seen.partitions[0].hypertable_findings = {{"NoTimescaleDB", "d", "there is no extension", "create it"}};
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Partitioned").reason, "NoTimescaleDB");
  EXPECT_EQ(scene.ConditionOf("Partitioned").message,
            "public.customers_history: NoTimescaleDB: there is no extension; create it");
  scene.seen.timescale.version = "2.19.3";
  scene.seen.partitions[0].hypertable_findings.clear();
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-partition-customers-history"));
  EXPECT_EQ(EngineOf(scene, "audit-partition-customers-history"), "Hypertable");
  EXPECT_EQ(scene.ConditionOf("NotAvailable").status, "False");
  // A policy that goes takes back what was begun.
  scene.seen.partitions[0].state.stage = PartitionStage::kCopying;
  scene.policy.meta.deleting = true;
  std::vector<std::string> done = scene.Pass();
  ASSERT_GE(done.size(), 2U);
  EXPECT_EQ(done[0], "delete SqlMigration audit-partition-customers-history");
  EXPECT_EQ(done[1], "forget the bound of public.customers_history");
  // Also what it was before, where nobody has dropped that yet.
  MakeChunks(scene, 0, 37);
  EXPECT_THAT(scene.Pass(), ::testing::Not(Contains("forget the bound of public.customers_history")));
  scene.seen.partitions[0].state.unfinished = true;
  EXPECT_THAT(scene.Pass(), Contains("forget the bound of public.customers_history"));
}

TEST(ShadowPartitions, OldChunksAreDroppedWhereAskedForAndOthersTablesLeftAlone) {
  Scene scene = AtRest(Asking({{"retain", "90d"}}), 0, 0);
  scene.seen.timescale.version = "2.19.3";
  MakeChunks(scene, 0, 37);
  scene.seen.partitions[0].expired = {"_timescaledb_internal._hyper_1_1_chunk"};
  scene.seen.partitions[1].state.stage = PartitionStage::kHypertable;
  EXPECT_THAT(scene.Pass(), ElementsAre("drop old partitions of public.customers_history"));
  EXPECT_THAT(scene.ConditionOf("Partitioned").message,
              AllOf(HasSubstr("kept for 90d"), HasSubstr("public.trades_log: a hypertable that pgtier did not make")));
}

TEST(ShadowPartitions, OldChunksAreCompressedWhereTheBuildCan) {
  Scene scene = AtRest(Asking({{"compression", {{"rows", 5000}, {"olderThan", "30d"}}}}), 0, 0);
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Compressed").reason, "NoTimescaleDB");
  scene.seen.timescale.version = "2.19.3";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Compressed").status, "False");
  EXPECT_EQ(scene.ConditionOf("Compressed").reason, "CompressionNotInThisBuild");
  EXPECT_THAT(scene.ConditionOf("Compressed").message, HasSubstr("set timescaledb.license = timescale"));
  scene.seen.timescale.compresses = true;
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Compressed").reason, "BelowThreshold");
  MakeParts(scene, 1, 4 * kWeek);
  scene.seen.partitions[1].state.rows = 5000;
  scene.Pass();
  EXPECT_EQ(scene.ConditionOf("Compressed").reason, "NotAHypertable");
  scene.seen.partitions[1].state.rows = 10;
  MakeChunks(scene, 0, 37);
  scene.seen.partitions[0].state.rows = 5000;
  scene.seen.partitions[0].to_compress = {{"_timescaledb_internal._hyper_1_1_chunk", "20260101t0000-16421"},
                                          {"_timescaledb_internal._hyper_1_2_chunk", "20260108t0000-16427"}};
  EXPECT_THAT(scene.Pass(), ElementsAre("apply SqlMigration audit-compress-customers-history"));
  const Json* migration = scene.seen.Object(kSqlMigrations, "audit-compress-customers-history");
  const std::string call = "SELECT pgtier.shadow_chunk_compress('public.customers_history', '_timescaledb_internal.";
  EXPECT_EQ(migration->at("spec").at("steps"),
            Json::array({{{"name", "enable-20260101t0000-16421"},
                          {"sql", "SELECT pgtier.shadow_compression_enable('public.customers_history')"}},
                         {{"name", "chunk-20260101t0000-16421"}, {"sql", call + "_hyper_1_1_chunk')"}},
                         {{"name", "chunk-20260108t0000-16427"}, {"sql", call + "_hyper_1_2_chunk')"}}}));
  EXPECT_EQ(scene.ConditionOf("Compressed").reason, "Compressing");
  EXPECT_THAT(scene.Pass(), IsEmpty());
  // The next ones are another migration's, of the same name.
  Say(scene, "audit-compress-customers-history", "Complete");
  EXPECT_THAT(scene.Pass(), ElementsAre("delete SqlMigration audit-compress-customers-history"));
  scene.seen.partitions[0].to_compress.clear();
  scene.seen.partitions[0].state.compressed = 30;
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_EQ(scene.ConditionOf("Compressed").message, "30 of 37 chunks are compressed, all that are older than 30d");
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table
