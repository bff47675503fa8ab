// sql/scale_tier/materialized_views.sql on a real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/postgres/objects.h"
#include "sql/scale_tier.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {
namespace {

class MaterializedViewsTest : public WithServer {
 protected:
  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped()) return;
    connection_.emplace(Connect());
    for (const char* name : {"pgtier_pooler", "pgtier_monitor"}) {
      postgres::RoleSpec role;
      role.name = name;
      ASSERT_TRUE(postgres::EnsureRole(*connection_, role, "a password", Soon()).has_value());
    }
    Do(sql::kScaleTierSchema);
    Do(sql::kScaleTierMaterializedViews);
    Do(sql::kScaleTierMaterializedViews);  // Again, as a new release does.
    Do("DROP SCHEMA IF EXISTS m CASCADE; CREATE SCHEMA m; CREATE TABLE m.t AS SELECT 1 AS n; "
       "CREATE MATERIALIZED VIEW m.good AS SELECT n FROM m.t; CREATE UNIQUE INDEX ON m.good (n); "
       "CREATE MATERIALIZED VIEW m.bare AS SELECT n FROM m.t; CREATE MATERIALIZED VIEW m.\"Odd name\" AS SELECT n FROM "
       "m.t "
       "WITH NO DATA; CREATE MATERIALIZED VIEW m.divides AS SELECT 1 / n AS n FROM m.t; CREATE UNIQUE INDEX ON "
       "m.divides (n)");
  }
  void Do(const std::string& sql) {
    auto done = connection_->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }
  std::string Ask(const std::string& sql) {
    auto rows = connection_->Query(sql, Soon());
    if (!rows.has_value()) return rows.error().message;
    return rows->empty() ? "nothing" : std::string((*rows)[0].Text(size_t{0}).value_or("null"));
  }
  std::string Problem(const std::string& name) {
    return Ask("SELECT problem FROM pgtier.materialized_views WHERE name = '" + name + "'");
  }

  std::optional<postgres::Connection> connection_;
};

TEST_F(MaterializedViewsTest, WhatIsDueIsRefreshedAndWhatIsWrongIsSaid) {
  Do(R"(SELECT pgtier.set_materialized_views('{"m.good": 3600000, "m.bare": 3600000, "m.missing": 3600000,
        "m.t": 3600000, "m.\"Odd name\"": 3600000, "m.divides": 3600000, "a b; c": 3600000}'))");
  Do("INSERT INTO m.t VALUES (2), (0)");
  Do("CALL pgtier.refresh_due()");
  EXPECT_EQ(Ask("SELECT count(*) FROM m.good"), "3");
  EXPECT_EQ(Problem("m.good"), "");
  EXPECT_THAT(Problem("m.bare"), ::testing::HasSubstr("no unique index"));
  EXPECT_EQ(Ask("SELECT count(*) FROM m.bare"), "1");
  EXPECT_EQ(Problem("m.missing"), "there is no such view");
  EXPECT_EQ(Problem("m.t"), "it is no materialized view");
  EXPECT_EQ(Problem("m.divides"), "division by zero");
  EXPECT_EQ(Problem("m.\"Odd name\""), "");
  EXPECT_EQ(Ask("SELECT count(*) FROM m.\"Odd name\""), "3") << "it had never been filled";
  EXPECT_THAT(Problem("a b; c"), ::testing::HasSubstr("not a valid identifier"));

  // Nothing is due for an hour.
  Do("INSERT INTO m.t VALUES (3)");
  Do("CALL pgtier.refresh_due()");
  EXPECT_EQ(Ask("SELECT count(*) FROM m.good"), "3");
  // Another time between two counts from the last one; who is not named any more is forgotten.
  Do(R"(SELECT pgtier.set_materialized_views('{"m.good": 1}'))");
  Do("CALL pgtier.refresh_due()");
  EXPECT_EQ(Ask("SELECT count(*) FROM m.good"), "4");
  EXPECT_EQ(Ask("SELECT string_agg(name, ',') FROM pgtier.materialized_views"), "m.good");
  EXPECT_EQ(Ask("SELECT fresh_at = began_at FROM pgtier.materialized_views"), "t");
  Do("SELECT pgtier.set_materialized_views('{}')");
  EXPECT_EQ(Ask("SELECT count(*) FROM pgtier.materialized_views"), "0");
}

TEST_F(MaterializedViewsTest, TwoNeverRunAtOnce) {
  Do(R"(SELECT pgtier.set_materialized_views('{"m.good": 1}'))");
  postgres::Connection other = Connect();
  ASSERT_TRUE(other.Query("SELECT pg_advisory_lock(123607421838450)", Soon()).has_value());
  Do("INSERT INTO m.t VALUES (2)");
  Do("CALL pgtier.refresh_due()");
  EXPECT_EQ(Ask("SELECT count(*) FROM m.good"), "1");
  ASSERT_TRUE(other.Query("SELECT pg_advisory_unlock(123607421838450)", Soon()).has_value());
  Do("CALL pgtier.refresh_due()");
  EXPECT_EQ(Ask("SELECT count(*) FROM m.good"), "2");
}

// Types and operators of an owner who put a schema of theirs before the system's (ALTER DATABASE … SET search_path).
TEST_F(MaterializedViewsTest, NothingOfTheDatabasesOwnerRunsAsTheSuperuser) {
  Do(R"(SELECT pgtier.set_materialized_views('{"m.good": 1}'))");
  Do("DROP SCHEMA IF EXISTS trap CASCADE; CREATE SCHEMA trap; "
     "CREATE FUNCTION trap.sprung(text) RETURNS boolean LANGUAGE plpgsql AS "
     "  $$ BEGIN RAISE EXCEPTION 'a function of the owner ran'; END $$; "
     "CREATE FUNCTION trap.sprung(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT trap.sprung($1)'; "
     "CREATE FUNCTION trap.sprung(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT "
     "trap.sprung(NULL)'; "
     "CREATE DOMAIN trap.text AS pg_catalog.text CHECK (trap.sprung(VALUE)); "
     "CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.sprung); "
     "CREATE OPERATOR trap.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.sprung)");
  Do("INSERT INTO m.t VALUES (2)");
  connection_.emplace(Connect());
  Do("SET search_path = trap, pg_catalog");
  Do("CALL pgtier.refresh_due()");
  EXPECT_EQ(Ask("SELECT pg_catalog.count(*) FROM m.good"), "2");
}

class OwnersDatabaseTest : public MaterializedViewsTest {
 protected:
  void SetUp() override {
    MaterializedViewsTest::SetUp();
    if (IsSkipped()) return;
    Do("DROP DATABASE IF EXISTS theirs");
    Do("DROP ROLE IF EXISTS owner_of_theirs");
    Do("CREATE ROLE owner_of_theirs");
    Do("CREATE DATABASE theirs OWNER owner_of_theirs");
  }
  postgres::Connection Enter(const std::string& settings) {
    postgres::ConnectOptions options = server().Options();
    options.database = "theirs";
    options.options = settings;
    auto connection = postgres::Connection::Open(options, Soon());
    EXPECT_TRUE(connection.has_value()) << connection.error().message;
    return *std::move(connection);
  }
};

TEST_F(OwnersDatabaseTest, ASchemaThatTheOwnerMadeFirstIsRefused) {
  postgres::Connection theirs = Enter("");
  ASSERT_TRUE(theirs.Execute("SET ROLE owner_of_theirs; CREATE SCHEMA pgtier; RESET ROLE", Soon()).has_value());
  auto installed = theirs.Execute(sql::kScaleTierSchema, Soon());
  ASSERT_FALSE(installed.has_value());
  EXPECT_THAT(installed.error().message,
              ::testing::HasSubstr("schema pgtier belongs to owner_of_theirs: pgtier keeps"));
  ASSERT_TRUE(theirs.Execute("DROP SCHEMA pgtier CASCADE", Soon()).has_value());
  EXPECT_TRUE(theirs.Execute(sql::kScaleTierSchema, Soon()).has_value());
  EXPECT_TRUE(theirs.Execute(sql::kScaleTierSchema, Soon()).has_value()) << "again, as a new release does";
}

TEST_F(OwnersDatabaseTest, WhatTheOwnerSetsForItsSessionsHoldsNotForPgtiers) {
  for (const char* setting : {"search_path = trap", "default_transaction_read_only = on", "role = owner_of_theirs",
                              "default_transaction_isolation = serializable", "statement_timeout = 1"}) {
    Do(std::string("ALTER DATABASE theirs SET ") + setting);
  }
  postgres::Connection theirs = Enter(std::string(postgres::kOwnSettings) + " -c role=none");
  auto installed = theirs.Execute(sql::kScaleTierSchema, Soon());
  EXPECT_TRUE(installed.has_value()) << installed.error().message;
  auto level = theirs.Query("SHOW transaction_isolation", Soon());
  ASSERT_TRUE(level.has_value());
  EXPECT_EQ((*level)[0].Text(size_t{0}), "read committed");
}

}  // namespace
}  // namespace pgtier::testing
