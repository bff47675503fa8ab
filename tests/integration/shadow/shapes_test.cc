// What a history records, of tables of any shape, in both bodies.
#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;

class Shapes : public testing::WithDatabase, public ::testing::WithParamInterface<Tier> {
 protected:
  // Installs, and puts the policy into the tier under test.
  void Begin(const shadow::Spec& spec) {
    spec_ = spec;
    Install(spec);
    if (GetParam() == Tier::kNotify) {
      auto swapped = shadow::SwapBodies(admin(), spec, Tier::kNotify, Soon());
      ASSERT_TRUE(swapped.has_value()) << swapped.error().message;
    }
  }
  // Moves what waits, as the worker does.
  std::string History(const std::string& sql) {
    Run("SELECT pgtier.shadow_drain_all('data/audit')");
    return Read(sql);
  }
  shadow::Spec spec_;
};

INSTANTIATE_TEST_SUITE_P(Tiers, Shapes, ::testing::Values(Tier::kTriggers, Tier::kNotify),
                         [](const auto& param) { return std::string(shadow::TierName(param.param)); });

TEST_P(Shapes, EachOperationWithActorAndBothImages) {
  Run("CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL)");
  Begin(SpecOf({"public.customers"}));
  Run("SET app.actor = 'kris'; INSERT INTO customers (name) VALUES ('a'), ('b')");
  Run("RESET app.actor; UPDATE customers SET name = 'c' WHERE id = 1; DELETE FROM customers WHERE id = 2;"
      "TRUNCATE customers");
  EXPECT_EQ(History("SELECT epoch, position, operation, actor, id, name, old_id, old_name FROM customers_history"
                    " ORDER BY epoch, position"),
            "1|1|INSERT|kris|1|a|-|-\n"
            "1|2|INSERT|kris|2|b|-|-\n"
            "1|3|UPDATE|-|1|c|1|a\n"
            "1|4|DELETE|-|2|b|-|-\n"
            "1|5|TRUNCATE|-|-|-|-|-\n");
  EXPECT_EQ(Read("SELECT count(*) FROM customers_history WHERE at_utc > now() - interval '1 hour'"), "5\n");
}

TEST_P(Shapes, TypesDomainsGeneratedAndDroppedColumns) {
  Run("CREATE SCHEMA types; CREATE TYPE types.mood AS ENUM ('sad', 'ok'); CREATE DOMAIN types.positive AS integer NOT "
      "NULL"
      " CHECK (value > 0); CREATE DOMAIN types.more AS types.positive CHECK (value > 1);"
      "CREATE TYPE types.pair AS (x integer, y text)");
  Run("CREATE TABLE wide (gone text, id types.more PRIMARY KEY, label varchar(10), code char(4), amount numeric(12, 2),"
      " flags bit(3), mood types.mood, moods types.mood[], tags text[], span tstzrange, doc jsonb, raw bytea,"
      " pair types.pair, twice integer GENERATED ALWAYS AS (length(label) * 2) STORED, shard integer, spare inet)");
  Run("ALTER TABLE wide DROP COLUMN gone");
  Begin(SpecOf({"wide"}));
  std::string values =
      "7|ab|x   |1.50|101|ok|{sad,ok}|{\"a b\",NULL}|[\"2026-01-01 00:00:00+00\",)|{\"k\": [1]}|\\x00ff|(1,\"y \")|3|-";
  std::string columns = "id, label, code, amount, flags, mood, moods, tags, span, doc, raw, pair, shard, spare";
  Run("SET timezone = 'UTC'");
  Run("INSERT INTO wide (" + columns +
      ") VALUES (7, 'ab', 'x', 1.5, '101', 'ok', '{sad,ok}', '{a b,NULL}',"
      " '[2026-01-01,)', '{\"k\": [1]}', '\\x00ff', ROW(1, 'y '), 3, NULL)");
  EXPECT_EQ(History("SELECT " + columns + " FROM wide_history"), values + "\n");
  Run("UPDATE wide SET id = 8, label = 'other'; DELETE FROM wide");
  EXPECT_EQ(
      History("SELECT operation, id, old_id, label, old_label, old_raw, old_pair FROM wide_history ORDER BY position"),
      "INSERT|7|-|ab|-|-|-\nUPDATE|8|7|other|ab|\\x00ff|(1,\"y \")\nDELETE|8|-|other|-|-|-\n");
  EXPECT_EQ(Read("SELECT count(*) FROM information_schema.columns WHERE table_name = 'wide_history'"
                 " AND column_name IN ('gone', 'twice')"),
            "0\n");
}

TEST_P(Shapes, CompositeAndMissingKeys) {
  Run("CREATE TABLE pairs (a text, b uuid, v integer, PRIMARY KEY (b, a)); CREATE TABLE keyless (v json);"
      "CREATE TABLE unhashable (k bit varying PRIMARY KEY, v integer)");
  Begin(SpecOf({"pairs", "keyless", "unhashable"}));
  Run("INSERT INTO pairs VALUES ('x', '00000000-0000-0000-0000-000000000001', 1);"
      "UPDATE pairs SET a = 'y'; UPDATE pairs SET v = 2");
  Run("INSERT INTO keyless VALUES ('{}'), ('{}'); DELETE FROM keyless; INSERT INTO unhashable VALUES ('101', 1)");
  EXPECT_EQ(History("SELECT operation, a, v, old_a, old_v FROM pairs_history ORDER BY position"),
            "INSERT|x|1|-|-\nUPDATE|y|1|x|1\nUPDATE|y|2|y|1\n");
  EXPECT_EQ(History("SELECT operation, v FROM keyless_history ORDER BY position"),
            "INSERT|{}\nINSERT|{}\nDELETE|{}\nDELETE|{}\n");
  EXPECT_EQ(History("SELECT operation, k FROM unhashable_history"), "INSERT|101\n");
  EXPECT_EQ(Read("SELECT shards FROM pgtier.shadow_tables ORDER BY id"), "8\n1\n1\n");
}

TEST_P(Shapes, QuotedNamesThatTryToBreakOut) {
  Run(R"(CREATE SCHEMA "My ""Schema";
         CREATE TABLE "My ""Schema"."T'; DROP TABLE x; --
end" ("a b" integer PRIMARY KEY, "C""x" text, "$fn$" text, "select" text, "new" text, "tg_op" text))");
  shadow::Spec spec = SpecOf({});
  spec.tables.push_back({"\"My \"\"Schema\".\"T'; DROP TABLE x; --\nend\"", "\"h '%I\""});
  Begin(spec);
  Run("INSERT INTO \"My \"\"Schema\".\"T'; DROP TABLE x; --\nend\" VALUES (1, 'x', 'y', 'z', 'n', 't')");
  EXPECT_EQ(History(R"(SELECT operation, "a b", "C""x", "$fn$", "select", "new", "tg_op" FROM "h '%I")"),
            "INSERT|1|x|y|z|n|t\n");
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
}

TEST_P(Shapes, PartitionedSourcesOfSeveralLevels) {
  Run("CREATE TABLE events (id integer, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);"
      "CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a');"
      "CREATE TABLE events_rest PARTITION OF events FOR VALUES IN ('b', 'c') PARTITION BY LIST (region);"
      "CREATE TABLE events_b PARTITION OF events_rest FOR VALUES IN ('b')");
  Begin(SpecOf({"events"}));
  Run("INSERT INTO events VALUES (1, 'a'), (2, 'b'); INSERT INTO events_b VALUES (3, 'b');"
      "UPDATE events SET region = 'b' WHERE id = 1; DELETE FROM events_b WHERE id = 2; TRUNCATE events_b");
  // A row that changes its partition is deleted in one and inserted into the other; TRUNCATE is recorded for each leaf.
  EXPECT_EQ(History("SELECT operation, id, region FROM events_history ORDER BY position"),
            "INSERT|1|a\nINSERT|2|b\nINSERT|3|b\nDELETE|1|a\nINSERT|1|b\nDELETE|2|b\nTRUNCATE|-|-\n");
  // Parts that come and go are followed.
  Run("CREATE TABLE events_c PARTITION OF events_rest FOR VALUES IN ('c'); INSERT INTO events VALUES (9, 'c');"
      "TRUNCATE events_c; ALTER TABLE events_rest DETACH PARTITION events_c; INSERT INTO events_c VALUES (10, 'c');"
      "TRUNCATE events_c");
  EXPECT_EQ(History("SELECT operation, id, region FROM events_history ORDER BY position OFFSET 7"),
            "INSERT|9|c\nTRUNCATE|-|-\n");
  EXPECT_TRUE(Inspect(spec_).tables.at(0).installed);
}

TEST_P(Shapes, RowsAppliedByReplicationAreRecorded) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Begin(SpecOf({"t"}));
  Run("SET session_replication_role = replica; INSERT INTO t VALUES (1); TRUNCATE t; RESET session_replication_role");
  EXPECT_EQ(History("SELECT operation FROM t_history ORDER BY position"), "INSERT\nTRUNCATE\n");
}

TEST_P(Shapes, AnApplicationWithoutRightsOnAnythingOfPgtiers) {
  MakeRole("app_role");
  Run("CREATE TABLE t (id integer PRIMARY KEY, v text); GRANT INSERT, UPDATE ON t TO app_role");
  Begin(SpecOf({"t"}));
  auto application = OpenAs("app_role");
  Run(application, "SET app.actor = 'somebody'; INSERT INTO t VALUES (1, 'x')");
  EXPECT_EQ(History("SELECT actor, v FROM t_history"), "somebody|x\n");
  EXPECT_NE(Fails(application, "SELECT * FROM t_history"), "");
  EXPECT_NE(Fails(application, "INSERT INTO t_history (epoch) VALUES (1)"), "");
  EXPECT_NE(Fails(application, "SELECT * FROM pgtier.outbox_1"), "");
  // Even where the application may look into the schema, it may not call what runs as somebody else.
  Run("GRANT USAGE ON SCHEMA pgtier TO app_role; GRANT CREATE ON SCHEMA public TO app_role");
  EXPECT_NE(Fails(application, "SELECT pgtier.shadow_drain(1, 10, 1, true)"), "");
  EXPECT_NE(Fails(application,
                  "CREATE TABLE bait (id integer); CREATE TRIGGER bait AFTER INSERT ON bait FOR EACH ROW"
                  " EXECUTE FUNCTION pgtier.shadow_1()"),
            "");
  EXPECT_EQ(
      Read("SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgtier'::regnamespace AND prosecdef AND ("
           "has_function_privilege('public', oid, 'EXECUTE') OR proconfig IS NULL OR NOT 'search_path=pg_catalog, "
           "pg_temp' = ANY (proconfig))"),
      "0\n");
  EXPECT_EQ(Read("SELECT relname FROM pg_class WHERE relowner = 'pgtier_shadow'::regrole AND relkind IN ('r', 'S')"),
            "t_history\n");
  Run("DROP OWNED BY app_role");
}

// An AFTER trigger of the application's that changes the row again must not be recorded first.
TEST_P(Shapes, TheApplicationsTriggersComeAfter) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, v integer); CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN UPDATE t SET v = v + 1 WHERE id = NEW.id AND v < 2; RETURN NULL; END';"
      "CREATE TRIGGER \"A again\" AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again()");
  Begin(SpecOf({"t"}));
  Run("INSERT INTO t VALUES (1, 0)");
  EXPECT_EQ(History("SELECT operation, old_v, v FROM t_history ORDER BY position"),
            "INSERT|-|0\nUPDATE|0|1\nUPDATE|1|2\n");
}

}  // namespace
}  // namespace pgtier
