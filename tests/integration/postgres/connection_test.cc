#include "lib/postgres/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "lib/postgres/quote.h"
#include "lib/postgres/sqlstate.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Soon;

class ConnectionTest : public testing::WithServer {};

TEST_F(ConnectionTest, ReadsTypedValues) {
  auto connection = Connect();
  auto rows = connection.Query(
      "SELECT $1::int8 AS i, $2::float8 AS f, true AS b, NULL::text AS n, 'x' AS t, 'NaN'::float8 AS nan, 1 AS \"I\"",
      {"-9223372036854775808", "0.1"}, Soon());
  ASSERT_TRUE(rows.has_value()) << rows.error().message;
  ASSERT_EQ(rows->size(), 1U);
  Row row = (*rows)[0];
  EXPECT_EQ(*row.Get<int64_t>("i"), INT64_MIN);
  EXPECT_EQ(*row.Get<int64_t>("I"), 1);
  EXPECT_DOUBLE_EQ(*row.Get<double>("f"), 0.1);
  EXPECT_TRUE(std::isnan(*row.Get<double>("nan")));
  EXPECT_TRUE(*row.Get<bool>("b"));
  EXPECT_EQ(*row.Get<std::string>("t"), "x");
  EXPECT_EQ(*row.Get<std::string>(4), "x");
  EXPECT_EQ(row.Get<std::string>("n").error().code, Code::kFailedPrecondition);
  EXPECT_FALSE(row.Find<std::string>("n")->has_value());
  EXPECT_EQ(row.Get<int64_t>("t").error().code, Code::kInvalidArgument);
  EXPECT_EQ(row.Get<int64_t>("absent").error().code, Code::kNotFound);
  EXPECT_EQ(row.Get<int64_t>(99).error().code, Code::kNotFound);
  EXPECT_FALSE(row.Has("absent"));
  EXPECT_EQ(rows->affected(), 0);
}

TEST_F(ConnectionTest, KeepsLargeAnswersAndParameters) {
  auto connection = Connect();
  std::string large(3'000'000, 'x');
  auto echoed = connection.Query("SELECT $1::text || generate_series(1, 4)", {large}, Soon());
  ASSERT_TRUE(echoed.has_value()) << echoed.error().message;
  EXPECT_EQ(echoed->size(), 4U);
  EXPECT_EQ((*echoed)[3].Text(size_t{0})->size(), large.size() + 1);
}

TEST_F(ConnectionTest, MapsSqlStates) {
  auto connection = Connect();
  ASSERT_TRUE(
      connection
          .Execute("CREATE TEMP TABLE t (id int PRIMARY KEY, v int CHECK (v > 0)); INSERT INTO t VALUES (1, 1)", Soon())
          .has_value());
  const std::tuple<const char*, const char*, Code> cases[] = {
      {"SELECT * FROM absent", "42P01", Code::kNotFound},
      {"SELECT absent()", "42883", Code::kNotFound},
      {"INSERT INTO t VALUES (1, 1)", "23505", Code::kAlreadyExists},
      {"INSERT INTO t VALUES (2, -1)", "23514", Code::kFailedPrecondition},
      {"CREATE TEMP TABLE t ()", "42P07", Code::kAlreadyExists},
      {"SELECT 1 +", "42601", Code::kInvalidArgument},
      {"SELECT 1 / 0", "22012", Code::kInvalidArgument},
      {"DO $$ BEGIN RAISE serialization_failure; END $$", "40001", Code::kAborted},
      {"DO $$ BEGIN RAISE SQLSTATE '53300'; END $$", "53300", Code::kResourceExhausted},
      {"DO $$ BEGIN PERFORM set_config('transaction_read_only', 'on', true); CREATE TABLE q (); END $$", "25006",
       Code::kFailedPrecondition},
  };
  for (const auto& [sql, state, code] : cases) {
    auto failed = connection.Execute(sql, Soon());
    ASSERT_FALSE(failed.has_value()) << sql;
    EXPECT_EQ(SqlStateOf(failed.error()), state) << failed.error().message;
    EXPECT_EQ(failed.error().code, code) << sql;
    EXPECT_TRUE(connection.Usable());
  }
  // A DETAIL quotes rows; it stays out.
  EXPECT_THAT(connection.Execute("INSERT INTO t VALUES (1, 1)", Soon()).error().message, Not(HasSubstr("(id)=")));
}

TEST_F(ConnectionTest, RefusesWrongCredentials) {
  auto options = server().Options();
  options.password = "wrong-secret";
  auto refused = Connection::Open(options, Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnauthenticated) << refused.error().message;
  EXPECT_EQ(SqlStateOf(refused.error()), "28P01");
  EXPECT_THAT(refused.error().message, Not(HasSubstr("wrong-secret")));
  options.password = "";
  refused = Connection::Open(options, Soon());
  EXPECT_EQ(refused.error().code, Code::kUnauthenticated) << refused.error().message;
  options = server().Options("absent");
  refused = Connection::Open(options, Soon());
  EXPECT_EQ(refused.error().code, Code::kNotFound) << refused.error().message;
  options = server().Options("dbname=postgres host=10.0.0.1");  // a name, however it looks
  EXPECT_EQ(Connection::Open(options, Soon()).error().code, Code::kNotFound);
}

TEST_F(ConnectionTest, SaysWhenNobodyListens) {
  auto options = server().Options();
  options.port = 1;
  auto refused = Connection::Open(options, Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("127.0.0.1:1/postgres"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("\n")));
}

TEST_F(ConnectionTest, CancelsAtTheDeadlineAndStaysUsable) {
  auto connection = Connect();
  auto start = std::chrono::steady_clock::now();
  auto slow = connection.Query("SELECT pg_sleep(30)", Deadline::After(std::chrono::milliseconds(200)));
  auto took = std::chrono::steady_clock::now() - start;
  ASSERT_FALSE(slow.has_value());
  EXPECT_EQ(slow.error().code, Code::kDeadlineExceeded);
  EXPECT_LT(took, std::chrono::seconds(15));
  ASSERT_TRUE(connection.Usable());
  EXPECT_TRUE(connection.Query("SELECT 1", Soon()).has_value());
  // Nothing is left running on the server.
  auto other = Connect();
  auto running = other.Query(
      "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active'"
      " AND pid <> pg_backend_pid()",
      Soon());
  EXPECT_EQ(*(*running)[0].Get<int64_t>(0), 0);
}

TEST_F(ConnectionTest, StopEndsACallAndLaterOnes) {
  std::stop_source source;
  auto connection = Connection::Open(server().Options(), Soon(), source.get_token());
  ASSERT_TRUE(connection.has_value());
  std::jthread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    source.request_stop();
  });
  auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(connection->Query("SELECT pg_sleep(30)", Soon()).error().code, Code::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
  // Not even what would be over before it is cancelled.
  auto later = connection->Query("SELECT 1", Soon());
  ASSERT_FALSE(later.has_value());
  EXPECT_EQ(later.error().code, Code::kCancelled);
  auto script = connection->Execute("SELECT 1", Soon());
  ASSERT_FALSE(script.has_value());
  EXPECT_EQ(script.error().code, Code::kCancelled);
  auto never = Connection::Open(server().Options(), Soon(), source.get_token());
  EXPECT_EQ(never.error().code, Code::kCancelled);
}

TEST_F(ConnectionTest, GivesUpOnAServerThatIsStopped) {
  auto frozen = testing::LocalPostgres::Start();
  ASSERT_TRUE(frozen.has_value()) << frozen.error().message;
  auto connection = (*frozen)->Connect();
  ASSERT_TRUE(connection.has_value());
  pid_t backend = connection->BackendPid();
  kill(backend, SIGSTOP);
  (*frozen)->Signal(SIGSTOP);
  auto start = std::chrono::steady_clock::now();
  auto hung = connection->Query("SELECT 1", Deadline::After(std::chrono::milliseconds(200)));
  EXPECT_EQ(hung.error().code, Code::kDeadlineExceeded);
  EXPECT_FALSE(connection->Usable());
  auto unreachable = Connection::Open((*frozen)->Options(), Deadline::After(std::chrono::milliseconds(200)));
  EXPECT_EQ(unreachable.error().code, Code::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
  kill(backend, SIGCONT);
  (*frozen)->Signal(SIGCONT);
}

TEST_F(ConnectionTest, NoticesThatTheSessionWasEnded) {
  auto connection = Connect();
  auto other = Connect();
  ASSERT_TRUE(other.Query("SELECT pg_terminate_backend($1::int)", {std::to_string(connection.BackendPid())}, Soon())
                  .has_value());
  auto lost = connection.Query("SELECT 1", Soon());
  ASSERT_FALSE(lost.has_value());
  EXPECT_EQ(lost.error().code, Code::kUnavailable) << lost.error().message;
  EXPECT_FALSE(connection.Usable());
  EXPECT_EQ(connection.Query("SELECT 1", Soon()).error().code, Code::kUnavailable);
}

TEST_F(ConnectionTest, ExecuteRunsAScriptAsOneTransaction) {
  auto connection = Connect();
  auto answers =
      connection.Execute("CREATE TEMP TABLE s (v int); INSERT INTO s VALUES (1), (2); SELECT v FROM s", Soon());
  ASSERT_TRUE(answers.has_value());
  ASSERT_EQ(answers->size(), 3U);
  EXPECT_EQ((*answers)[1].affected(), 2);
  EXPECT_EQ((*answers)[2].size(), 2U);
  auto failed = connection.Execute("INSERT INTO s VALUES (3); SELECT 1 / 0; INSERT INTO s VALUES (4)", Soon());
  EXPECT_EQ(SqlStateOf(failed.error()), "22012");
  EXPECT_EQ(connection.Query("SELECT v FROM s", Soon())->size(), 2U);
  EXPECT_EQ(connection.Execute("COPY s TO STDOUT", Soon()).error().code, Code::kInvalidArgument);
}

TEST_F(ConnectionTest, TransactionRollsBackUnlessCommitted) {
  auto connection = Connect();
  ASSERT_TRUE(connection.Execute("CREATE TEMP TABLE r (v int)", Soon()).has_value());
  {
    auto transaction = Transaction::Begin(connection, Soon());
    ASSERT_TRUE(transaction.has_value());
    EXPECT_EQ(Transaction::Begin(connection, Soon()).error().code, Code::kFailedPrecondition);
    ASSERT_TRUE(connection.Execute("INSERT INTO r VALUES (1)", Soon()).has_value());
  }
  EXPECT_FALSE(connection.InTransaction());
  {
    auto transaction = Transaction::Begin(connection, Soon(), "ISOLATION LEVEL SERIALIZABLE");
    ASSERT_TRUE(connection.Execute("INSERT INTO r VALUES (2)", Soon()).has_value());
    EXPECT_TRUE(transaction->Commit(Soon()).has_value());
    EXPECT_EQ(transaction->Commit(Soon()).error().code, Code::kFailedPrecondition);
  }
  {
    auto transaction = Transaction::Begin(connection, Soon());
    std::ignore = connection.Execute("SELECT 1 / 0", Soon());
    EXPECT_EQ(transaction->Commit(Soon()).error().code, Code::kAborted);
  }
  EXPECT_EQ(connection.Query("SELECT v FROM r WHERE v = 2", Soon())->size(), 1U);
  EXPECT_EQ(connection.Query("SELECT v FROM r", Soon())->size(), 1U);
}

TEST_F(ConnectionTest, QuotesByTheServersRules) {
  auto connection = Connect();
  EXPECT_EQ(*QuoteIdentifier(connection, "a\"b; DROP"), "\"a\"\"b; DROP\"");
  EXPECT_EQ(*QuoteQualified(connection, "s", "t"), "\"s\".\"t\"");
  std::string nasty = "it's \\ a \"test\" $1 -- ;";
  auto literal = QuoteLiteral(connection, nasty);
  ASSERT_TRUE(literal.has_value());
  auto echoed = connection.Execute("SELECT " + *literal, Soon());
  ASSERT_TRUE(echoed.has_value()) << echoed.error().message;
  EXPECT_EQ(*echoed->front()[0].Get<std::string>(0), nasty);
  EXPECT_EQ(QuoteIdentifier(connection, "").error().code, Code::kInvalidArgument);
  EXPECT_EQ(QuoteLiteral(connection, std::string("a\0b", 3)).error().code, Code::kInvalidArgument);
  EXPECT_EQ(QuoteLiteral(connection, "\xC3").error().code, Code::kInvalidArgument);
  EXPECT_EQ(connection.Query("SELECT $1", {std::string("a\0b", 3)}, Soon()).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace pgtier::postgres
