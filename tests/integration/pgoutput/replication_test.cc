// The replication connection against a real server: what it says of itself, refusals, a peer that stops.
#include "lib/postgres/replication.h"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "lib/postgres/catalogue.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using testing::Soon;

Deadline In(int milliseconds) { return Deadline::After(std::chrono::milliseconds(milliseconds)); }

class ReplicationConnectionTest : public testing::WithServer {
 protected:
  static LogicalStart Start(const std::string& slot) {
    return {slot, {}, {{"proto_version", "1"}, {"publication_names", "\"it's\"\"\""}, {"messages", "true"}}};
  }
};

TEST_F(ReplicationConnectionTest, SaysWhoItIsAndStreams) {
  auto sql = Connect();
  ASSERT_TRUE(sql.Execute("CREATE PUBLICATION \"it's\"\"\" FOR ALL TABLES", Soon()).has_value());
  ASSERT_TRUE(sql.Execute("SELECT pg_create_logical_replication_slot('reads', 'pgoutput')", Soon()).has_value());
  auto connection = ReplicationConnection::Open(server().Options(), Soon());
  ASSERT_TRUE(connection.has_value()) << connection.error().message;
  auto identity = connection->IdentifySystem(Soon());
  ASSERT_TRUE(identity.has_value()) << identity.error().message;
  EXPECT_EQ(identity->system_identifier, Identity(sql, Soon())->system_identifier);
  EXPECT_EQ(identity->timeline, 1);
  EXPECT_EQ(identity->database, "postgres");
  EXPECT_GT(identity->flushed.value, 0U);

  auto none = connection->Start(Start("none"), Soon());
  EXPECT_EQ(none.error().code, Code::kNotFound) << none.error().message;
  auto started = connection->Start(Start("reads"), Soon());
  ASSERT_TRUE(started.has_value()) << started.error().message;

  auto second = ReplicationConnection::Open(server().Options(), Soon());
  auto busy = second->Start(Start("reads"), Soon());
  ASSERT_FALSE(busy.has_value());
  EXPECT_EQ(busy.error().code, Code::kFailedPrecondition) << busy.error().message;

  ASSERT_TRUE(sql.Execute("SELECT pg_logical_emit_message(true, 'p', 'hello')", Soon()).has_value());
  Lsn written = *CurrentLsn(sql, Soon());
  std::string kinds;
  bool passed = false;
  for (Deadline deadline = Soon(); !passed && !deadline.Expired();) {
    auto piece = connection->Read(In(100));
    ASSERT_TRUE(piece.has_value()) << piece.error().message;
    if (!piece->has_value()) {
      ASSERT_TRUE(connection->Report({}, {}, true, Soon()).has_value());
    } else if ((*piece)->keepalive) {
      passed = (*piece)->end >= written;
    } else {
      kinds += (*piece)->data.front();
    }
  }
  EXPECT_TRUE(passed);
  EXPECT_EQ(kinds, "BMC");

  // What is reported as kept is not sent again.
  ASSERT_TRUE(connection->Report(written, written, true, Soon()).has_value());
  Deadline deadline = Soon();
  bool confirmed = false;
  while (!confirmed && !deadline.Expired()) {
    auto rows =
        sql.Query("SELECT confirmed_flush_lsn >= $1::pg_lsn AS ok FROM pg_replication_slots WHERE slot_name = 'reads'",
                  {written.ToString()}, Soon());
    confirmed = *(*rows)[0].Get<bool>("ok");
  }
  EXPECT_TRUE(confirmed);

  // A walsender that was stopped says nothing, but the socket stays open: only the last byte's age shows it.
  kill(connection->BackendPid(), SIGSTOP);
  Result<std::optional<WalPiece>> drained = connection->Read(In(300));  // what was on its way
  while (drained.has_value() && drained->has_value()) drained = connection->Read(In(300));
  ASSERT_TRUE(drained.has_value()) << drained.error().message;
  MonoTime before = connection->last_byte();
  ASSERT_TRUE(connection->Report(written, written, true, Soon()).has_value());
  auto silence = connection->Read(In(300));
  EXPECT_TRUE(silence.has_value() && !silence->has_value());
  EXPECT_EQ(connection->last_byte(), before);
  kill(connection->BackendPid(), SIGCONT);

  ASSERT_TRUE(sql.Query("SELECT pg_terminate_backend($1::integer)", {std::to_string(connection->BackendPid())}, Soon())
                  .has_value());
  Result<std::optional<WalPiece>> last = std::optional<WalPiece>();
  while (last.has_value()) last = connection->Read(Soon());
  EXPECT_EQ(last.error().code, Code::kUnavailable) << last.error().message;
  ASSERT_TRUE(sql.Execute("DROP PUBLICATION \"it's\"\"\"", Soon()).has_value());
}

TEST_F(ReplicationConnectionTest, StopsWhenAsked) {
  std::stop_source stop;
  auto connection = ReplicationConnection::Open(server().Options(), Soon(), stop.get_token());
  ASSERT_TRUE(connection.has_value());
  auto sql = Connect();
  ASSERT_TRUE(sql.Execute("SELECT pg_create_logical_replication_slot('stops', 'pgoutput')", Soon()).has_value());
  auto started = connection->Start(Start("stops"), Soon());
  ASSERT_TRUE(started.has_value()) << started.error().message;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    stop.request_stop();
  });
  Result<std::optional<WalPiece>> last = std::optional<WalPiece>();
  for (Deadline deadline = Soon(); last.has_value() && !deadline.Expired();) last = connection->Read(Soon());
  ASSERT_FALSE(last.has_value());
  EXPECT_EQ(last.error().code, Code::kCancelled) << last.error().message;
}

TEST_F(ReplicationConnectionTest, RefusesWhatCantBeQuoted) {
  auto connection = ReplicationConnection::Open(server().Options(), Soon());
  ASSERT_TRUE(connection.has_value());
  EXPECT_EQ(connection->Start({"a\\b", {}, {}}, Soon()).error().code, Code::kInvalidArgument);
  EXPECT_EQ(connection->Start({"a", {}, {{"x", "y\\"}}}, Soon()).error().code, Code::kInvalidArgument);
  auto refused = connection->Start({"a\" PHYSICAL", {}, {{"x", "y') --"}}}, Soon());
  EXPECT_FALSE(refused.has_value());
  EXPECT_TRUE(connection->IdentifySystem(Soon()).has_value()) << "the connection lives on";
}

}  // namespace
}  // namespace pgtier::postgres
