// Whose code runs while a history is copied into a hypertable, and who waits when that is taken back.
#include "tests/integration/shadow/partition_runs.h"
#include "tests/integration/shadow/shadow_fixture.h"
#include "tests/integration/shadow/with_timescale.h"

namespace pgtier::testing {
namespace {

using shadow::PartitionStage;

class HypertableTrustTest : public WithTimescale<WithDatabase> {
 protected:
  void SetUp() override {
    WithTimescale<WithDatabase>::SetUp();
    if (IsSkipped()) return;
    // Roles outlive a test's database.
    Run("DO $$ BEGIN CREATE ROLE shop; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    Run("CREATE EXTENSION timescaledb; CREATE TABLE t (id bigint PRIMARY KEY)");
    Install(SpecOf({"t"}));
    Run("INSERT INTO t SELECT generate_series(1, 100)");
    Run("GRANT ALL ON SCHEMA public TO shop, pgtier_shadow");
    for (const std::string owner : {"shop", "pgtier_shadow"}) {
      Run("CREATE FUNCTION " + owner +
          "_fits(bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
          " ALTER FUNCTION " +
          owner + "_fits OWNER TO " + owner);
    }
    Run("CREATE DOMAIN number AS bigint; ALTER DOMAIN number OWNER TO shop");
  }
  std::string Advance() {
    auto progress = step_->Advance(
        admin(), state_, [](const auto&, const auto&, Deadline) { return Status(); }, Soon());
    return progress.has_value() ? "" : progress.error().message;
  }
  PartitionStage Stage() {
    auto state = shadow::InspectPartitions(admin(), PartsOf("t_history"), Soon());
    return state.has_value() ? state->stage : PartitionStage::kMissing;
  }
  std::unique_ptr<migrations::Step> step_ = shadow::MakePartitionStep(PartsOf("t_history"));
  migrations::StepState state_;
};

// What the history got since it was looked at: by whoever acts as its owner.
TEST_F(HypertableTrustTest, ACheckOfTheHistorysOwnerDoesNotRunAsWhoCopies) {
  for (const char* made : {"ADD CONSTRAINT c CHECK (pgtier_shadow_fits(id))",
                           "ADD COLUMN c boolean GENERATED ALWAYS AS "
                           "(pgtier_shadow_fits(id)) STORED"}) {
    Run("SET ROLE pgtier_shadow; ALTER TABLE t_history " + std::string(made) + "; RESET ROLE");
    EXPECT_EQ(Advance().substr(0, 16), "HistoryRunsCode:") << made;
    EXPECT_EQ(Stage(), PartitionStage::kPlain);
    Run(std::string("SET ROLE pgtier_shadow; ALTER TABLE t_history DROP ") +
        (std::string(made).starts_with("ADD CONSTRAINT") ? "CONSTRAINT" : "COLUMN") + " c; RESET ROLE");
  }
  while (Stage() != PartitionStage::kHypertable) ASSERT_EQ(Advance(), "");
}

// Columns' types have owners of their own, who may change them at any time.
TEST_F(HypertableTrustTest, ATypeThatGetsCodeMeanwhileStopsTheCopy) {
  Run("ALTER TABLE t_history ADD COLUMN n number");
  ASSERT_EQ(Advance(), "");
  ASSERT_EQ(Stage(), PartitionStage::kCopying);
  Run("SET ROLE shop; ALTER DOMAIN number ADD CONSTRAINT c CHECK (VALUE IS NULL OR shop_fits(VALUE)); RESET ROLE");
  EXPECT_EQ(Advance().substr(0, 16), "HistoryRunsCode:");
  Run("ALTER DOMAIN number DROP CONSTRAINT c");
  while (Stage() != PartitionStage::kHypertable) ASSERT_EQ(Advance(), "");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "100\n");
}

// The copy is read for long where it is compared.
TEST_F(HypertableTrustTest, NobodyWaitsForWhatIsTakenBackWhileItsCopyIsRead) {
  ASSERT_EQ(Advance(), "");
  ASSERT_EQ(Stage(), PartitionStage::kCopying);
  auto reader = Open();
  Run(reader, "BEGIN; SELECT count(*) FROM t_history_chunked");
  std::jthread forgetting([&] {
    auto taken = shadow::ForgetPartitioning(admin(), PartsOf("t_history"), Deadline::After(std::chrono::seconds(3)));
    EXPECT_FALSE(taken.has_value());
  });
  auto writer = Open();
  Run(writer, "SET lock_timeout = '2500ms'");
  for (int i = 101; i < 120; ++i) {
    Run(writer, "INSERT INTO t VALUES (" + std::to_string(i) + ")");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  forgetting.join();
  EXPECT_EQ(Stage(), PartitionStage::kCopying);
  Run(reader, "COMMIT");
  EXPECT_TRUE(shadow::ForgetPartitioning(admin(), PartsOf("t_history"), Soon()).has_value());
  EXPECT_EQ(Stage(), PartitionStage::kPlain);
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "119\n");
}

}  // namespace
}  // namespace pgtier::testing
