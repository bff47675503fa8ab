// What the preflight of sharding finds in a real catalogue.
#include "controllers/scale_tier/sharding.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/integration/postgres/shared_server.h"
#include "tests/support/yaml.h"

namespace pgtier::testing {
namespace {

using controllers::scale_tier::Finding;
using controllers::scale_tier::InWords;
using controllers::scale_tier::PreflightCitus;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class CitusPreflight : public WithServer {
 protected:
  void SetUp() override {
    WithServer::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) Run("DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public");
  }

  void Run(const std::string& sql) {
    auto connection = server().Connect();
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    auto done = connection->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }

  // The findings but for the missing extension, which this server's installation lacks: tests of it name it.
  std::vector<Finding> Find(std::vector<crds::DistributedTable> tables) {
    auto found = PreflightCitus(server().Options(), {3, std::move(tables)}, Soon(), {});
    EXPECT_TRUE(found.has_value()) << found.error().message;
    std::vector<Finding> findings = found.value_or(std::vector<Finding>{});
    EXPECT_FALSE(findings.empty());
    if (findings.empty()) return {};
    EXPECT_EQ(findings.front().code, "CitusNotInstalled");
    findings.erase(findings.begin());
    return findings;
  }

  std::vector<std::string> Codes(std::vector<crds::DistributedTable> tables) {
    std::vector<std::string> codes;
    for (const Finding& finding : Find(std::move(tables))) codes.push_back(finding.code);
    return codes;
  }
};

TEST_F(CitusPreflight, NothingIsInTheWayOfTablesThatFit) {
  Run("CREATE TABLE agent_events (id bigint GENERATED ALWAYS AS IDENTITY, agent_id bigint, body jsonb, "
      "  PRIMARY KEY (agent_id, id));"
      "CREATE TABLE decisions (id bigint, agent_id bigint, event bigint, PRIMARY KEY (agent_id, id), "
      "  FOREIGN KEY (agent_id, event) REFERENCES agent_events (agent_id, id) ON DELETE CASCADE)");
  EXPECT_THAT(Codes({{"agent_events", "agent_id", ""}, {"public.decisions", "agent_id", "agent_events"}}), IsEmpty());
}

// The mistake of the source documents: alternatives by decision_id beside decisions by agent_id.
TEST_F(CitusPreflight, ValuesOfTwoColumnsDoNotHashTogether) {
  Run("CREATE TABLE decisions (id bigint, agent_id bigint NOT NULL, UNIQUE (agent_id, id), UNIQUE (id));"
      "CREATE TABLE alternatives (id bigint, decision_id bigint NOT NULL REFERENCES decisions (id), "
      "  PRIMARY KEY (decision_id, id))");
  std::vector<Finding> found = Find({{"decisions", "agent_id", ""}, {"alternatives", "decision_id", "decisions"}});
  ASSERT_EQ(found.size(), 4U) << InWords(found, 10);
  EXPECT_EQ(found[0].code, "UniqueKeyLacksColumn");
  EXPECT_EQ(found[0].message,
            "unique key decisions_id_key of decisions (id) lacks agent_id: no shard can check it alone");
  EXPECT_EQ(found[1].code, "ForeignKeyLacksColumn");
  EXPECT_THAT(found[1].message, HasSubstr("does not pair decision_id with agent_id of decisions"));
  EXPECT_EQ(found[2].code, "NoReplicaIdentity");
  EXPECT_EQ(found[3].code, "ColocationColumns");
  EXPECT_FALSE(found[3].blocks);
}

// A key that means the same under another name is fine.
TEST_F(CitusPreflight, AForeignKeyMayPairColumnsOfOtherNames) {
  Run("CREATE TABLE customers (id bigint PRIMARY KEY);"
      "CREATE TABLE orders (id bigint, customer_id bigint REFERENCES customers (id), PRIMARY KEY (customer_id, id))");
  EXPECT_THAT(Codes({{"customers", "id", ""}, {"orders", "customer_id", "customers"}}), IsEmpty());
}

TEST_F(CitusPreflight, NamesEachForeignKeyThatLeavesItsShard) {
  Run("CREATE TABLE regions (id bigint PRIMARY KEY);"
      "CREATE TABLE customers (id bigint PRIMARY KEY, region bigint REFERENCES regions (id));"
      "CREATE TABLE notes (id bigint PRIMARY KEY, customer bigint REFERENCES customers (id));"
      "CREATE TABLE orders (customer bigint REFERENCES customers (id) ON DELETE SET NULL, id bigint, "
      "  PRIMARY KEY (customer, id))");
  EXPECT_THAT(Codes({{"customers", "id", ""}, {"orders", "customer", ""}}),
              ElementsAre("ForeignKeyFromLocalTable", "ForeignKeyToLocalTable", "ForeignKeyNotColocated"));
  EXPECT_THAT(Codes({{"customers", "id", ""}, {"orders", "customer", "customers"}}),
              ElementsAre("ForeignKeyFromLocalTable", "ForeignKeyToLocalTable", "ForeignKeyAction"));
}

TEST_F(CitusPreflight, NamesWhatIsNotThere) {
  Run("CREATE TABLE \"Odd \"\"name\" (id bigint PRIMARY KEY); CREATE VIEW v AS SELECT 1::bigint AS id;"
      "CREATE TABLE parts (id bigint PRIMARY KEY) PARTITION BY RANGE (id);"
      "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (2)");
  EXPECT_THAT(Codes({{"nowhere", "id", ""}}), ElementsAre("TableMissing"));
  EXPECT_THAT(Codes({{"\"Odd \"\"name\"", "id", ""}}), IsEmpty());
  EXPECT_THAT(Codes({{"\"Odd \"\"name\"", "agent", ""}}), ElementsAre("ColumnMissing"));
  EXPECT_THAT(Codes({{"v", "id", ""}}), ElementsAre("NotATable"));
  EXPECT_THAT(Codes({{"parts", "id", ""}}), IsEmpty());
  EXPECT_THAT(Codes({{"parts_1", "id", ""}}), ElementsAre("IsPartition"));
}

TEST_F(CitusPreflight, NamesCoLocationsThatCannotBe) {
  Run("CREATE TABLE a (id bigint PRIMARY KEY); CREATE TABLE b (id integer PRIMARY KEY); CREATE TABLE c (id bigint "
      "PRIMARY KEY)");
  EXPECT_THAT(Codes({{"a", "id", ""}, {"b", "id", "a"}}), ElementsAre("ColocationType"));
  EXPECT_THAT(Codes({{"a", "id", "c"}}), ElementsAre("ColocationUnknown"));
  EXPECT_THAT(Codes({{"a", "id", "a"}}), ElementsAre("ColocationWithItself"));
  EXPECT_THAT(Codes({{"a", "id", "c"}, {"c", "id", ""}}), ElementsAre("ColocationOrder"));
  // Each with the other: no end, and no endless query.
  EXPECT_THAT(Codes({{"a", "id", "c"}, {"c", "id", "a"}}), ElementsAre("ColocationOrder"));
}

TEST_F(CitusPreflight, NamesWhatCitusDoesNotDistribute) {
  Run("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
      "CREATE TABLE triggered (id bigint PRIMARY KEY);"
      "CREATE TRIGGER audit AFTER INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION nothing();"
      "CREATE TABLE hyper (id bigint PRIMARY KEY);"
      "CREATE TRIGGER ts_insert_blocker BEFORE INSERT ON hyper FOR EACH ROW EXECUTE FUNCTION nothing();"
      "CREATE TABLE ruled (id bigint PRIMARY KEY); CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING;"
      "CREATE TABLE heir (id bigint PRIMARY KEY) INHERITS (ruled);"
      "CREATE TABLE serials (id serial PRIMARY KEY, other integer GENERATED ALWAYS AS IDENTITY);"
      "CREATE TABLE keyless (id json NOT NULL, twice bigint GENERATED ALWAYS AS (2) STORED NOT NULL);"
      "CREATE TABLE ranges (id bigint NOT NULL, span int8range, EXCLUDE USING gist (span WITH &&));"
      "CREATE TABLE deep (id bigint PRIMARY KEY) PARTITION BY RANGE (id);"
      "CREATE TABLE deep_1 PARTITION OF deep FOR VALUES FROM (1) TO (9) PARTITION BY RANGE (id)");
  EXPECT_THAT(Codes({{"triggered", "id", ""}}), ElementsAre("TriggerOnTable"));
  EXPECT_THAT(Codes({{"hyper", "id", ""}}), ElementsAre("Hypertable"));
  EXPECT_THAT(Codes({{"ruled", "id", ""}}), ElementsAre("RuleOnTable", "TableInherits"));
  EXPECT_THAT(Codes({{"heir", "id", ""}}), ElementsAre("TableInherits"));
  EXPECT_THAT(Codes({{"serials", "id", ""}}), ElementsAre("SequenceTooSmall", "SequenceTooSmall"));
  EXPECT_THAT(Codes({{"keyless", "id", ""}}), ElementsAre("ColumnNotHashable", "NoReplicaIdentity"));
  EXPECT_THAT(Codes({{"keyless", "twice", ""}}), ElementsAre("ColumnGenerated", "NoReplicaIdentity"));
  EXPECT_THAT(Codes({{"ranges", "id", ""}}), ElementsAre("ExclusionLacksColumn", "NoReplicaIdentity"));
  EXPECT_THAT(Codes({{"deep", "id", ""}}), ElementsAre("PartitionedTwice"));
}

// Text, domains, enums and arrays can be hashed.
TEST_F(CitusPreflight, TakesEveryTypeThatHashes) {
  Run("CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN agent AS varchar(20);"
      "CREATE TABLE t (a text NOT NULL, b varchar NOT NULL, c uuid NOT NULL, d agent NOT NULL, e mood NOT NULL, "
      "  f int[] NOT NULL, g numeric NOT NULL, h timestamptz NOT NULL); ALTER TABLE t REPLICA IDENTITY FULL");
  for (const char* column : {"a", "b", "c", "d", "e", "f", "g", "h"}) {
    EXPECT_THAT(Codes({{"t", column, ""}}), IsEmpty()) << column;
  }
}

std::vector<crds::DistributedTable> TablesOf(const nlohmann::json& row) {
  std::vector<crds::DistributedTable> tables;
  for (const nlohmann::json& table : row["tables"]) {
    tables.push_back({table["name"], table["column"], table.value("colocateWith", "")});
  }
  return tables;
}

TEST_F(CitusPreflight, SaysOfEachTableWhatTheTableSays) {
  nlohmann::json file = pgtier::tests::LoadYaml("tests/cases/citus/preflight.yaml");
  ASSERT_GT(file["rows"].size(), 50U);
  for (const nlohmann::json& row : file["rows"]) {
    SCOPED_TRACE(row["name"].get<std::string>());
    Run("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP PUBLICATION IF EXISTS p");
    Run(row["setup"]);
    std::vector<std::string> blocks;
    std::vector<std::string> notes;
    for (const Finding& finding : Find(TablesOf(row))) (finding.blocks ? blocks : notes).push_back(finding.code);
    EXPECT_EQ(nlohmann::json(blocks), row["blocks"]);
    EXPECT_EQ(nlohmann::json(notes), row["notes"]);
  }
}

// The same tables given to a real Citus: what the preflight lets through it takes, and what it refuses the preflight
// has named. A build of Citus is nothing that pgtier ships.
TEST(RealCitus, DoesWhatThePreflightForetells) {
  const char* port = std::getenv("PGTIER_CITUS_PORT");
  if (port == nullptr) {
    GTEST_SKIP() << "PGTIER_CITUS_PORT names no Postgres with Citus on 127.0.0.1 (superuser postgres, no password, in "
                    "shared_preload_libraries); CONTRIBUTING.md says how one is built";
  }
  postgres::ConnectOptions options;
  options.host = "127.0.0.1";
  options.port = std::stoi(port);
  options.user = "postgres";
  options.database = "postgres";
  auto run = [&](const std::string& database, const std::string& sql) -> Status {
    options.database = database;
    PGTIER_ASSIGN_OR_RETURN(auto connection, postgres::Connection::Open(options, Soon()));
    auto done = connection.Execute(sql, Soon());
    return done.has_value() ? Status() : Status(done.error());
  };
  nlohmann::json file = pgtier::tests::LoadYaml("tests/cases/citus/preflight.yaml");
  for (const nlohmann::json& row : file["rows"]) {
    SCOPED_TRACE(row["name"].get<std::string>());
    ASSERT_TRUE(run("postgres", "DROP DATABASE IF EXISTS pgtier_preflight WITH (FORCE)").has_value());
    ASSERT_TRUE(run("postgres", "CREATE DATABASE pgtier_preflight").has_value());
    ASSERT_TRUE(run("pgtier_preflight", "CREATE EXTENSION citus").has_value());
    std::string node = "'127.0.0.1', " + std::string(port);
    ASSERT_TRUE(run("pgtier_preflight", "SELECT citus_set_coordinator_host(" + node +
                                            "); SELECT citus_set_node_property(" + node + ", 'shouldhaveshards', true)")
                    .has_value());
    ASSERT_TRUE(run("pgtier_preflight", row["setup"]).has_value());
    auto found = PreflightCitus(options, {3, TablesOf(row)}, Soon(), {});
    ASSERT_TRUE(found.has_value()) << found.error().message;
    std::vector<std::string> blocks;
    for (const Finding& finding : *found) {
      if (finding.blocks) blocks.push_back(finding.code);
    }
    EXPECT_EQ(nlohmann::json(blocks), row["blocks"]) << "CitusNotInstalled is none of it";
    std::string refused;
    for (const crds::DistributedTable& table : TablesOf(row)) {
      std::string with = table.colocate_with.empty() ? "none" : table.colocate_with;
      Status made =
          run("pgtier_preflight", "SET citus.shard_count = 4; SELECT create_distributed_table('" + table.name + "', '" +
                                      table.column + "', colocate_with => '" + with + "')");
      if (!made.has_value() && refused.empty()) refused = made.error().message;
    }
    if (row.contains("older") && refused.empty()) continue;
    EXPECT_EQ(!refused.empty(), row["citus"] == "refuses") << refused;
    bool as_strict = !row.contains("although");
    EXPECT_TRUE(!as_strict || refused.empty() == blocks.empty()) << refused;
  }
}

// Nothing but the catalogue is read: a role without any grant will do.
TEST_F(CitusPreflight, NeedsNoRightsOnTheTables) {
  Run("CREATE TABLE secret (id bigint); REVOKE ALL ON SCHEMA public FROM PUBLIC;"
      "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA public TO "
      "stranger");
  postgres::ConnectOptions options = server().Options();
  options.user = "stranger";
  options.password = "pw";
  auto found = PreflightCitus(options, {3, {{"secret", "id", ""}}}, Soon(), {});
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_THAT(InWords(*found, 2), HasSubstr("ALTER TABLE secret ALTER COLUMN id SET NOT NULL"));
  EXPECT_THAT(InWords(*found, 2), HasSubstr("; and 1 more"));
}

}  // namespace
}  // namespace pgtier::testing
