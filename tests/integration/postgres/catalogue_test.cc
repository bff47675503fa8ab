#include "lib/postgres/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using testing::Soon;

class CatalogueTest : public testing::WithServer {};

TEST_F(CatalogueTest, ReadsVersionAndSettings) {
  auto connection = Connect();
  EXPECT_GE(connection.ServerVersion(), 170000);
  EXPECT_EQ(*Setting(connection, "shared_buffers", Soon()), "32MB");
  EXPECT_EQ(Setting(connection, "no.such", Soon()).error().code, Code::kNotFound);
  auto some = Settings(connection, {"wal_level", "no.such", "fsync"}, Soon());
  ASSERT_EQ(some->size(), 2U);
  EXPECT_EQ((*some)[0].name, "fsync");
  EXPECT_EQ((*some)[1].value, "logical");
  EXPECT_FALSE((*some)[1].pending_restart);
  EXPECT_GT(Settings(connection, {}, Soon())->size(), 300U);
}

TEST_F(CatalogueTest, ShowsAPendingRestart) {
  auto connection = Connect();
  auto change = [&](const std::string& sql) {
    ASSERT_TRUE(connection.Query(sql, Soon()).has_value());
    ASSERT_TRUE(connection.Query("SELECT pg_reload_conf()", Soon()).has_value());
  };
  change("ALTER SYSTEM SET max_connections = 123");
  Deadline deadline = Soon();
  bool pending = false;
  while (!pending && !deadline.Expired()) {
    pending = Settings(connection, {"max_connections"}, Soon())->front().pending_restart;
  }
  EXPECT_TRUE(pending);
  change("ALTER SYSTEM RESET max_connections");
}

TEST_F(CatalogueTest, PrimaryKnowsItself) {
  auto connection = Connect();
  EXPECT_FALSE(*IsInRecovery(connection, Soon()));
  Lsn before = *CurrentLsn(connection, Soon());
  ASSERT_TRUE(connection.Execute("SELECT pg_logical_emit_message(true, 'x', 'y')", Soon()).has_value());
  EXPECT_GT(*CurrentLsn(connection, Soon()), before);
  auto identity = Identity(connection, Soon());
  ASSERT_TRUE(identity.has_value()) << identity.error().message;
  EXPECT_EQ(identity->timeline, 1);
  EXPECT_GT(identity->system_identifier.size(), 10U);
}

TEST_F(CatalogueTest, SlotsAreMadeAndDroppedOnce) {
  auto connection = Connect();
  EXPECT_TRUE(*EnsurePhysicalSlot(connection, "replica_1", Soon()));
  EXPECT_FALSE(*EnsurePhysicalSlot(connection, "replica_1", Soon()));
  ASSERT_TRUE(
      connection.Query("SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')", Soon()).has_value());
  EXPECT_EQ(EnsurePhysicalSlot(connection, "decoding", Soon()).error().code, Code::kAlreadyExists);
  EXPECT_EQ(EnsurePhysicalSlot(connection, "Bad Name", Soon()).error().code, Code::kInvalidArgument);
  auto slots = ReplicationSlots(connection, Soon());
  ASSERT_EQ(slots->size(), 2U);
  EXPECT_FALSE((*slots)[0].physical);
  const ReplicationSlot& slot = (*slots)[1];
  EXPECT_EQ(slot.name, "replica_1");
  EXPECT_TRUE(slot.physical);
  EXPECT_FALSE(slot.active);
  EXPECT_FALSE(slot.active_pid.has_value());
  EXPECT_TRUE(slot.restart_lsn.has_value());
  EXPECT_EQ(slot.wal_status, "reserved");
  EXPECT_TRUE(*DropSlot(connection, "replica_1", Soon()));
  EXPECT_FALSE(*DropSlot(connection, "replica_1", Soon()));
  EXPECT_TRUE(*DropSlot(connection, "decoding", Soon()));
}

TEST_F(CatalogueTest, AdvisoryLocksExclude) {
  auto first = Connect();
  auto second = Connect();
  constexpr int64_t kKey = -4242;
  EXPECT_TRUE(*TryAdvisoryLock(first, kKey, Soon()));
  EXPECT_FALSE(*TryAdvisoryLock(second, kKey, Soon()));
  EXPECT_FALSE(*ReleaseAdvisoryLock(second, kKey, Soon()));
  EXPECT_TRUE(*ReleaseAdvisoryLock(first, kKey, Soon()));
  EXPECT_TRUE(*TryAdvisoryLock(second, kKey, Soon()));
}

}  // namespace
}  // namespace pgtier::postgres
