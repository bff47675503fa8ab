// What the proof of a promotion rests on, on real servers.
#include "lib/postgres/promotion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "lib/postgres/catalogue.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using testing::Soon;

bool HoldsSoon(const std::function<bool()>& holds) {
  for (Deadline deadline = Soon(); !deadline.Expired();) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

class PromotionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::string why = testing::WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    auto primary = testing::LocalPostgres::Start();
    ASSERT_TRUE(primary.has_value()) << primary.error().message;
    primary_ = *std::move(primary);
    testing::PostgresOptions options;
    options.application_name = "kyoyu-2";
    options.slot = "pgtier_kyoyu_2";
    auto standby = testing::LocalPostgres::StartStandby(*primary_, options);
    ASSERT_TRUE(standby.has_value()) << standby.error().message;
    standby_ = *std::move(standby);
    Run(*primary_, "CREATE TABLE ledger (n bigint)");
  }

  static void Run(const testing::LocalPostgres& server, const std::string& sql) {
    auto connection = server.Connect();
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    auto done = connection->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }
  static int64_t Rows(const testing::LocalPostgres& server) {
    auto connection = server.Connect();
    if (!connection.has_value()) return -1;
    auto rows = connection->Query("SELECT count(*) AS n FROM ledger", Soon());
    return rows.has_value() ? *rows->Single()->Get<int64_t>("n") : -1;
  }
  static WalPosition Position(const testing::LocalPostgres& server) {
    auto connection = server.Connect();
    EXPECT_TRUE(connection.has_value());
    auto position = ReadWalPosition(*connection, Soon());
    EXPECT_TRUE(position.has_value()) << position.error().message;
    return position.has_value() ? *position : WalPosition{};
  }
  bool Streams() {
    auto connection = primary_->Connect();
    if (!connection.has_value()) return false;
    auto replicas = Replicas(*connection, Soon());
    return replicas.has_value() && replicas->size() == 1 && replicas->front().state == "streaming" &&
           replicas->front().flush >= *CurrentLsn(*connection, Soon());
  }
  // A standby has flushed the primary's last record a moment before it has replayed it.
  bool HasReplayedAll() {
    return HoldsSoon([&] {
      WalPosition position = Position(*standby_);
      return position.replayed >= position.received;
    });
  }

  std::unique_ptr<testing::LocalPostgres> primary_, standby_;
};

TEST_F(PromotionTest, AStandbyKnowsThatItHoldsAllThatACleanlyStoppedPrimaryWrote) {
  // Of other lengths each time, so that the last record falls elsewhere in its page.
  for (int i = 1; i <= 5; ++i) {
    Run(*primary_, "INSERT INTO ledger SELECT generate_series(1, " + std::to_string(37 * i * i) + ")");
    ASSERT_TRUE(HoldsSoon([&] { return Streams(); }));
    Run(*standby_, "CHECKPOINT");
    EXPECT_FALSE(EndsInShutdown(Position(*standby_))) << "the primary runs";
    int64_t rows = Rows(*primary_);
    ASSERT_TRUE(primary_->Stop().has_value());
    ASSERT_TRUE(HasReplayedAll());
    Run(*standby_, "CHECKPOINT");
    WalPosition ended = Position(*standby_);
    EXPECT_TRUE(EndsInShutdown(ended)) << ended.checkpoint.ToString() << " " << ended.redo.ToString() << " "
                                       << ended.replayed.ToString() << " " << ended.received.ToString();
    EXPECT_EQ(Rows(*standby_), rows);
    ASSERT_TRUE(primary_->Restart().has_value());
  }
}

TEST_F(PromotionTest, APrimaryThatWasKilledProvesNothing) {
  ASSERT_TRUE(HoldsSoon([&] { return Streams(); }));
  primary_->Signal(SIGQUIT);  // Immediate shutdown: no checkpoint.
  Run(*standby_, "CHECKPOINT");
  EXPECT_FALSE(EndsInShutdown(Position(*standby_)));
}

TEST_F(PromotionTest, AFencedPrimaryComesBackAsAStandbyOfItsHeir) {
  ASSERT_TRUE(HoldsSoon([&] { return Streams(); }));
  {
    auto connection = *primary_->Connect();
    ASSERT_TRUE(PlantStandbySignal(connection, Soon()).has_value());
    ASSERT_TRUE(PlantStandbySignal(connection, Soon()).has_value()) << "twice is as once";
    EXPECT_FALSE(*IsInRecovery(connection, Soon())) << "it goes on as it is";
    Run(*primary_, "INSERT INTO ledger VALUES (1)");
    Run(*primary_, "CREATE ROLE follower LOGIN REPLICATION PASSWORD 'follower'");
    Run(*primary_, "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 user=follower password=follower port=" +
                       std::to_string(standby_->port()) + " application_name=kyoyu-1'");
  }
  ASSERT_TRUE(primary_->Stop().has_value());
  ASSERT_TRUE(HasReplayedAll());
  Run(*standby_, "CHECKPOINT");
  ASSERT_TRUE(EndsInShutdown(Position(*standby_)));
  {
    auto connection = *standby_->Connect();
    // Before the end of recovery already: who follows may ask for WAL at once.
    ASSERT_TRUE(EnsurePhysicalSlot(connection, "pgtier_kyoyu_1", Soon()).has_value());
    ASSERT_TRUE(Promote(connection, Soon()).has_value());
    ASSERT_TRUE(Promote(connection, Soon()).has_value()) << "twice is as once";
  }
  EXPECT_FALSE(Position(*standby_).in_recovery);
  Run(*standby_, "INSERT INTO ledger VALUES (2)");

  ASSERT_TRUE(primary_->Restart().has_value());
  WalPosition back = Position(*primary_);
  EXPECT_TRUE(back.in_recovery) << "a fenced primary came up writable";
  EXPECT_EQ(back.system_identifier, Position(*standby_).system_identifier);
  EXPECT_TRUE(HoldsSoon([&] { return Rows(*primary_) == 2; })) << primary_->Log();
  EXPECT_TRUE(HoldsSoon([&] { return Position(*primary_).timeline == 2; }));
}

TEST_F(PromotionTest, AFencedPrimaryCanBeGivenItsRoleBack) {
  {
    auto connection = *primary_->Connect();
    ASSERT_TRUE(PlantStandbySignal(connection, Soon()).has_value());
  }
  ASSERT_TRUE(primary_->Restart().has_value());
  auto connection = *primary_->Connect();
  ASSERT_TRUE(*IsInRecovery(connection, Soon()));
  ASSERT_TRUE(Promote(connection, Soon()).has_value());
  Run(*primary_, "INSERT INTO ledger VALUES (1)");
}

}  // namespace
}  // namespace pgtier::postgres
