#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "lib/postgres/catalogue.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using testing::Soon;

class ReplicationTest : public testing::WithServer {};

bool Eventually(const std::function<bool()>& holds) {
  Deadline deadline = Soon();
  while (!deadline.Expired()) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

TEST_F(ReplicationTest, StandbyIsSeenWithSlotStateAndLag) {
  testing::PostgresOptions options;
  options.application_name = "kyoyu-replica-0";
  options.slot = "kyoyu_replica_0";
  auto standby = testing::LocalPostgres::StartStandby(server(), options);
  ASSERT_TRUE(standby.has_value()) << standby.error().message;
  auto primary = Connect();
  auto replica = *(*standby)->Connect();
  EXPECT_TRUE(*IsInRecovery(replica, Soon()));
  EXPECT_EQ(Identity(replica, Soon())->system_identifier, Identity(primary, Soon())->system_identifier);

  auto listed = [&]() -> std::optional<Replica> {
    auto replicas = Replicas(primary, Soon());
    if (!replicas.has_value() || replicas->size() != 1) return std::nullopt;
    return replicas->front();
  };
  ASSERT_TRUE(Eventually([&] { return listed().has_value() && listed()->state == "streaming"; }));
  EXPECT_EQ(listed()->application_name, "kyoyu-replica-0");
  EXPECT_EQ(listed()->client_address, "127.0.0.1");
  EXPECT_EQ(listed()->sync_state, "async");
  EXPECT_EQ(Identity(replica, Soon())->timeline, 1);
  auto slots = ReplicationSlots(primary, Soon());
  ASSERT_EQ(slots->size(), 1U);
  EXPECT_TRUE(slots->front().active);
  EXPECT_TRUE(slots->front().active_pid.has_value());
  EXPECT_EQ(DropSlot(primary, "kyoyu_replica_0", Soon()).error().code, Code::kFailedPrecondition);

  ASSERT_TRUE(primary.Execute("CREATE TABLE replicated AS SELECT generate_series(1, 1000) AS v", Soon()).has_value());
  Lsn written = *CurrentLsn(primary, Soon());
  EXPECT_TRUE(Eventually([&] { return *CurrentLsn(replica, Soon()) >= written; }));
  EXPECT_TRUE(Eventually([&] { return listed().has_value() && listed()->replay >= written; }));

  // Replay held back on the standby: the lag that the primary sees grows with time.
  ASSERT_TRUE(replica.Query("SELECT pg_wal_replay_pause()", Soon()).has_value());
  auto lagging = [&] {
    std::ignore = primary.Execute("INSERT INTO replicated VALUES (0)", Soon());
    auto seen = listed();
    return seen.has_value() && seen->replay_lag.has_value() && *seen->replay_lag > std::chrono::milliseconds(300);
  };
  EXPECT_TRUE(Eventually(lagging));
  EXPECT_GT(BytesBehind(*listed()->replay, *CurrentLsn(primary, Soon())), 0U);
  ASSERT_TRUE(replica.Query("SELECT pg_wal_replay_resume()", Soon()).has_value());
  Lsn newest = *CurrentLsn(primary, Soon());
  EXPECT_TRUE(Eventually([&] { return listed().has_value() && listed()->replay >= newest; }));

  EXPECT_EQ(replica.Execute("INSERT INTO replicated VALUES (1)", Soon()).error().code, Code::kFailedPrecondition);

  ASSERT_TRUE((*standby)->Stop().has_value());
  EXPECT_TRUE(Eventually([&] { return Replicas(primary, Soon())->empty(); }));
  EXPECT_TRUE(*DropSlot(primary, "kyoyu_replica_0", Soon()));
}

TEST_F(ReplicationTest, PromotionRaisesTheTimelineAtOnce) {
  auto standby = testing::LocalPostgres::StartStandby(server(), {});
  ASSERT_TRUE(standby.has_value()) << standby.error().message;
  auto replica = *(*standby)->Connect();
  auto promoted = replica.Query("SELECT pg_promote(true, 20)", Soon());
  ASSERT_TRUE(promoted.has_value()) << promoted.error().message;
  EXPECT_FALSE(*IsInRecovery(replica, Soon()));
  EXPECT_EQ(Identity(replica, Soon())->timeline, 2);
}

}  // namespace
}  // namespace pgtier::postgres
