// Triggers that ask the database, on a real server as the monitoring role.
#include "lib/observe/sql_reading.h"

#include <gmock/gmock.h>

#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class SqlReading : public WithServer {
 protected:
  static constexpr char kTables[] = R"(
    CREATE TABLE public.customers (id int, active bool);
    INSERT INTO public.customers SELECT i, i % 2 = 0 FROM generate_series(1, 1000) i;
    CREATE TABLE public.closed (id int);
    INSERT INTO public.closed SELECT 1 FROM generate_series(1, 100);
    CREATE SCHEMA hidden; CREATE TABLE hidden.inside (id int);
    CREATE TABLE public."Odd Name" (id int); INSERT INTO public."Odd Name" VALUES (1);
    CREATE TABLE public.events (id int) PARTITION BY RANGE (id);
    CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM (0) TO (500);
    CREATE TABLE public.events_2 PARTITION OF public.events FOR VALUES FROM (500) TO (10000);
    INSERT INTO public.events SELECT i FROM generate_series(0, 1999) i;
    CREATE TABLE public.fresh (id int) WITH (autovacuum_enabled = off); INSERT INTO public.fresh VALUES (1);
    CREATE FUNCTION public.writes() RETURNS int LANGUAGE sql AS 'INSERT INTO public.customers VALUES (0) RETURNING id';
    GRANT SELECT ON public.customers, public."Odd Name" TO pgtier_monitor;
    ANALYZE public.customers; ANALYZE public.closed; ANALYZE public.events;)";

  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped() || made_) return;
    auto server = Connect();
    for (const char* sql :
         {"CREATE DATABASE app", "CREATE ROLE pgtier_monitor LOGIN PASSWORD 'watch' IN ROLE pg_monitor"}) {
      ASSERT_TRUE(server.Execute(sql, Soon()).has_value());
    }
    auto app = Connect("app");
    auto tables = app.Execute(kTables, Soon());
    ASSERT_TRUE(tables.has_value()) << tables.error().message;
    made_ = true;
  }

  postgres::ConnectOptions Monitor() {
    postgres::ConnectOptions options = server().Options("app");
    options.user = "pgtier_monitor";
    options.password = "watch";
    return options;
  }
  core::Reading Read(const observe::SqlQuestion& question, Duration patience = std::chrono::seconds(10)) {
    return observe::ReadSql(Monitor(), question, patience, Soon(), {});
  }
  // A query's value, or its reason.
  std::string Query(const std::string& sql) { return InWords(Read({sql, "", false})); }
  std::string Rows(const std::string& table, bool exact = false) { return InWords(Read({"", table, exact})); }
  static std::string InWords(const core::Reading& reading) {
    return reading.value.has_value() ? std::to_string(static_cast<long long>(*reading.value)) : reading.unknown_reason;
  }

  static inline bool made_ = false;
};

TEST_F(SqlReading, OneNumberIsAReading) {
  EXPECT_EQ(Query("select count(*) from customers where active"), "500");
  EXPECT_EQ(Query("SELECT 7; \n"), "7");
  EXPECT_EQ(Query("with x as (select 3 as n) select sum(n) from x -- done"), "3");
  EXPECT_EQ(Query("values (4)"), "4");
  EXPECT_EQ(*Read({"select 0.25::numeric", "", false}).value, 0.25);
}

TEST_F(SqlReading, WhatIsNotOneNumberIsUnknown) {
  EXPECT_THAT(Query("select id from customers"), StartsWith("ManyRows: "));
  EXPECT_THAT(Query("select 1, 2"), StartsWith("ManyColumns: "));
  EXPECT_THAT(Query("select id from customers where false"), StartsWith("NoData: "));
  EXPECT_THAT(Query("select null::int"), StartsWith("NoData: "));
  EXPECT_THAT(Query("select 'secret'"), "NotANumber: the query returned something that is no number");
  EXPECT_THAT(Query("select repeat('9', 100000000)"), StartsWith("NotANumber: "));
  EXPECT_THAT(Query("select 'NaN'::float8"), StartsWith("NotANumber: "));
  EXPECT_THAT(Query("select 'infinity'::float8"), StartsWith("NotANumber: "));
  EXPECT_THAT(Query("select nothing from customers"), StartsWith("BadQuery: column \"nothing\" does not exist"));
  EXPECT_EQ(Query("select 'secret'::int"), "BadQuery: the query failed on its data [22P02]") << "and not what they are";
}

TEST_F(SqlReading, OneStatementThatOnlyReads) {
  for (const char* sql : {"select 1; drop table customers", "delete from customers returning 1", "commit",
                          "with d as (delete from customers returning id) select count(*) from d",
                          "select 1) q; delete from customers; select (1", "do $$ begin end $$", "select writes()",
                          "explain select 1", "", ";"}) {
    EXPECT_THAT(Query(sql), StartsWith("BadQuery: ")) << sql;
  }
  EXPECT_EQ(Query("select count(*) from customers"), "1000");
}

TEST_F(SqlReading, ALongQueryIsCancelled) {
  core::Reading reading = Read({"select count(*) from pg_sleep(60)", "", false}, std::chrono::milliseconds(200));
  EXPECT_EQ(reading.unknown_reason, "QueryTimedOut: the query took too long and was cancelled");
}

TEST_F(SqlReading, AMissingGrantIsWrittenOut) {
  EXPECT_EQ(Query("select count(*) from closed"),
            "GrantMissing: permission denied for table closed [42501]; run: GRANT SELECT ON public.closed TO "
            "pgtier_monitor");
  EXPECT_EQ(Query("select count(*) from hidden.inside"),
            "GrantMissing: permission denied for schema hidden [42501]; run: GRANT USAGE ON SCHEMA hidden TO "
            "pgtier_monitor");
  EXPECT_THAT(Rows("public.closed", true), HasSubstr("run: GRANT SELECT ON public.closed TO pgtier_monitor"));
}

TEST_F(SqlReading, RowsAreCountedOrEstimated) {
  EXPECT_EQ(Rows("public.customers", true), "1000");
  EXPECT_EQ(Rows("customers"), "1000");
  EXPECT_EQ(Rows("public.closed"), "100") << "statistics need no right";
  EXPECT_EQ(Rows("public.events"), "2000") << "with its partitions";
  EXPECT_EQ(Rows("public.\"Odd Name\"", true), "1");
  EXPECT_THAT(Rows("public.nothing"), "TableNotFound: there is no table public.nothing");
  EXPECT_THAT(Rows("public.fresh"),
              HasSubstr("NeverAnalysed: nobody knows how many rows public.fresh has; run: ANALYZE"));
  EXPECT_THAT(Rows("; drop table customers"), StartsWith("TableNotFound: "));
}

TEST_F(SqlReading, HypertablesAreEstimatedByTimescaleDb) {
  auto with_timescale = LocalPostgres::Start({{"shared_preload_libraries = 'timescaledb'"}, "", ""});
  ASSERT_TRUE(with_timescale.has_value()) << with_timescale.error().message;
  auto connection = (*with_timescale)->Connect();
  ASSERT_TRUE(connection.has_value());
  for (const char* sql :
       {"CREATE EXTENSION timescaledb", "CREATE TABLE events (at timestamptz NOT NULL, id int)",
        "SELECT create_hypertable('events', by_range('at', INTERVAL '1 day'))",
        "INSERT INTO events SELECT timestamptz '2026-01-01' + i * interval '1 hour', i FROM generate_series(1, 240) i",
        "ANALYZE events", "CREATE ROLE pgtier_monitor LOGIN PASSWORD 'watch' IN ROLE pg_monitor"}) {
    auto done = connection->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << sql << ": " << done.error().message;
  }
  postgres::ConnectOptions monitor = (*with_timescale)->Options();
  monitor.user = "pgtier_monitor";
  monitor.password = "watch";
  core::Reading reading = observe::ReadSql(monitor, {"", "public.events", false}, std::chrono::seconds(10), Soon(), {});
  EXPECT_EQ(InWords(reading), "240");
}

TEST_F(SqlReading, AServerThatIsNotThereOrRefusesIsUnknown) {
  postgres::ConnectOptions wrong = Monitor();
  wrong.password = "wrong";
  EXPECT_THAT(observe::ReadSql(wrong, {"select 1", "", false}, std::chrono::seconds(5), Soon(), {}).unknown_reason,
              StartsWith("LoginRefused: "));
  wrong = Monitor();
  wrong.port = 1;
  EXPECT_THAT(observe::ReadSql(wrong, {"select 1", "", false}, std::chrono::seconds(5), Soon(), {}).unknown_reason,
              StartsWith("PostgresUnreachable: "));
}

}  // namespace
}  // namespace pgtier::testing
