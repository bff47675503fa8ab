#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/postgres/sqlstate.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using testing::Soon;

class CopyInTest : public testing::WithServer {
 protected:
  Connection Table() {
    auto connection = Connect();
    auto made = connection.Execute("CREATE TEMP TABLE c (id int PRIMARY KEY, v text)", Soon());
    EXPECT_TRUE(made.has_value());
    return connection;
  }
};

TEST_F(CopyInTest, RowsArriveAsTheyWere) {
  auto connection = Table();
  std::string data;
  std::string nasty = "tab\t line\n return\r back\\ \\N";
  AppendCopyRow(data, {"1", nasty});
  AppendCopyRow(data, {"2", std::nullopt});
  AppendCopyRow(data, {"3", ""});
  auto copy = CopyIn::Begin(connection, "COPY c FROM STDIN", Soon());
  ASSERT_TRUE(copy.has_value()) << copy.error().message;
  // In pieces that end anywhere.
  ASSERT_TRUE(copy->Write(std::string_view(data).substr(0, 5), Soon()).has_value());
  ASSERT_TRUE(copy->Write(std::string_view(data).substr(5), Soon()).has_value());
  EXPECT_EQ(*copy->Finish(Soon()), 3);
  auto rows = connection.Query("SELECT v FROM c ORDER BY id", Soon());
  EXPECT_EQ(*(*rows)[0].Get<std::string>(0), nasty);
  EXPECT_FALSE((*rows)[1].Text(size_t{0}).has_value());
  EXPECT_EQ(*(*rows)[2].Text(size_t{0}), "");
}

TEST_F(CopyInTest, TakesManyRows) {
  auto connection = Table();
  auto copy = CopyIn::Begin(connection, "COPY c FROM STDIN", Soon());
  std::string data;
  for (int i = 0; i < 200'000; ++i) AppendCopyRow(data, {std::to_string(i), "some text that makes the row longer"});
  ASSERT_TRUE(copy->Write(data, Soon()).has_value());
  EXPECT_EQ(*copy->Finish(Soon()), 200'000);
}

TEST_F(CopyInTest, FinishTellsTheServersError) {
  auto connection = Table();
  auto copy = CopyIn::Begin(connection, "COPY c FROM STDIN", Soon());
  ASSERT_TRUE(copy->Write("1\ta\n1\tb\n", Soon()).has_value());
  auto finished = copy->Finish(Soon());
  ASSERT_FALSE(finished.has_value());
  EXPECT_EQ(SqlStateOf(finished.error()), "23505");
  EXPECT_TRUE(connection.Usable());
  EXPECT_EQ(copy->Write("2\tb\n", Soon()).error().code, Code::kFailedPrecondition);
  EXPECT_TRUE(connection.Query("SELECT FROM c", Soon())->empty());
}

TEST_F(CopyInTest, AbandonedCopyLeavesNothing) {
  auto connection = Table();
  {
    auto copy = CopyIn::Begin(connection, "COPY c FROM STDIN", Soon());
    ASSERT_TRUE(copy->Write("1\ta\n", Soon()).has_value());
  }
  ASSERT_TRUE(connection.Usable());
  EXPECT_TRUE(connection.Query("SELECT FROM c", Soon())->empty());
}

TEST_F(CopyInTest, RefusesWhatIsNoCopy) {
  auto connection = Table();
  EXPECT_EQ(CopyIn::Begin(connection, "SELECT 1", Soon()).error().code, Code::kInvalidArgument);
  EXPECT_EQ(CopyIn::Begin(connection, "COPY absent FROM STDIN", Soon()).error().code, Code::kNotFound);
  EXPECT_TRUE(connection.Usable());
}

TEST_F(CopyInTest, DeadlineWhileWaitingForALock) {
  auto holder = Connect();
  ASSERT_TRUE(holder.Execute("CREATE TABLE locked (v int)", Soon()).has_value());
  ASSERT_TRUE(holder.Execute("BEGIN; LOCK TABLE locked", Soon()).has_value());
  auto connection = Connect();
  auto copy = CopyIn::Begin(connection, "COPY locked FROM STDIN", Deadline::After(std::chrono::milliseconds(200)));
  EXPECT_EQ(copy.error().code, Code::kDeadlineExceeded);
  EXPECT_TRUE(connection.Usable());
  ASSERT_TRUE(holder.Execute("ROLLBACK", Soon()).has_value());
  ASSERT_TRUE(holder.Execute("DROP TABLE locked", Soon()).has_value());
}

}  // namespace
}  // namespace pgtier::postgres
