// Histories that were the application's: what of theirs may run, and with whose rights.
#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;

class Trust : public testing::WithDatabase {
 protected:
  void SetUp() override {
    WithDatabase::SetUp();
    if (IsSkipped()) return;
    MakeRole("app");
    Run("GRANT ALL ON SCHEMA public TO app");
    app_.emplace(OpenAs("app"));
    Run(*app_, "CREATE TABLE docs (id integer PRIMARY KEY, v text)");
  }
  void TearDown() override {
    if (IsSkipped()) return;
    app_.reset();
    Run("ALTER ROLE app NOSUPERUSER; REASSIGN OWNED BY app TO postgres; DROP OWNED BY app");
  }
  // A history with `columns`, after what `before` makes; then the preflight's codes.
  std::string With(const std::string& columns, const std::string& after = "") {
    Run("DROP TABLE IF EXISTS docs_history CASCADE");
    Run(*app_, "CREATE TABLE docs_history (id integer, v text" + columns + ");" + after);
    return Preflight(SpecOf({"docs"}));
  }
  std::optional<postgres::Connection> app_;
};

TEST_F(Trust, AHistoryThatRunsCodeOfSomebodysIsRefused) {
  Run(*app_,
      "CREATE FUNCTION mine(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true';"
      "CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
      "CREATE DOMAIN checked AS text CHECK (mine(VALUE)); CREATE TYPE pair AS (a integer, b checked);"
      "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)");
  EXPECT_EQ(With(""), "");
  EXPECT_EQ(With("", "CREATE TRIGGER f BEFORE INSERT ON docs_history FOR EACH ROW EXECUTE FUNCTION fire()"),
            "HistoryRunsCode!");
  EXPECT_EQ(With("", "CREATE RULE r AS ON INSERT TO docs_history DO ALSO SELECT mine('')"), "HistoryRunsCode!");
  EXPECT_EQ(With(", CHECK (mine(v))"), "HistoryRunsCode!");
  EXPECT_EQ(With(", w boolean DEFAULT mine('')"), "HistoryRunsCode!");
  EXPECT_EQ(With(", w boolean GENERATED ALWAYS AS (mine(v)) STORED"), "HistoryRunsCode!");
  EXPECT_EQ(With("", "CREATE INDEX ON docs_history (mine(v))"), "HistoryRunsCode!");
  EXPECT_EQ(With("", "CREATE INDEX ON docs_history (v) WHERE mine(v)"), "HistoryRunsCode!");
  EXPECT_EQ(With("", "CREATE POLICY p ON docs_history USING (mine(v))"), "HistoryRunsCode!");
  EXPECT_EQ(With(", w checked"), "HistoryRunsCode!");
  EXPECT_EQ(With(", w pair[]"), "HistoryRunsCode!");
  // The server's own functions, and what extensions have in C, are nobody's to replace.
  Run("CREATE EXTENSION citext");
  EXPECT_EQ(With(", w timestamptz DEFAULT now(), x citext, CHECK (length(v) < 100 OR v IS NULL)",
                 "CREATE INDEX ON docs_history (lower(v))"),
            "");
  // Of a partition too.
  Run("DROP TABLE docs_history");
  Run(*app_,
      "CREATE TABLE docs_history (id integer, v text) PARTITION BY LIST (id); CREATE TABLE docs_part PARTITION OF"
      " docs_history DEFAULT; CREATE TRIGGER f BEFORE INSERT ON docs_part FOR EACH ROW EXECUTE FUNCTION fire()");
  EXPECT_EQ(Preflight(SpecOf({"docs"})), "HistoryRunsCode!");
  auto refused = shadow::Install(admin(), SpecOf({"docs"}), Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
  EXPECT_NE(refused.error().message.find("DROP TRIGGER f ON docs_part"), std::string::npos) << refused.error().message;
  Run(*app_, "DROP TRIGGER f ON docs_part");
  Install(SpecOf({"docs"}));
  // Nor can it be put there later.
  EXPECT_NE(Fails(*app_, "CREATE TRIGGER f BEFORE INSERT ON docs_part FOR EACH ROW EXECUTE FUNCTION fire()"), "");
  Run(*app_, "INSERT INTO docs VALUES (1, 'a')");
  EXPECT_EQ(Read("SELECT v FROM docs_part"), "a\n");
}

// Whoever acts as pgtier_shadow is not whoever calls its functions. A trigger on its history stands for code of the
// application's that got there by a way which nobody has thought of.
TEST_F(Trust, WhatRunsAsTheHistorysOwnerGetsNoFurther) {
  Install(SpecOf({"docs"}));
  ASSERT_TRUE(shadow::SwapBodies(admin(), SpecOf({"docs"}), Tier::kNotify, Soon()).has_value());
  EXPECT_EQ(Read("SELECT count(*) FROM pg_class WHERE relnamespace = 'pgtier'::regnamespace AND relowner ="
                 " 'pgtier_shadow'::regrole"),
            "0\n");
  EXPECT_EQ(Read("SELECT proname FROM pg_proc WHERE pronamespace = 'pgtier'::regnamespace AND proowner ="
                 " 'pgtier_shadow'::regrole ORDER BY 1"),
            "shadow_1\nshadow_accept\nshadow_drain\nshadow_split_catch\nshadow_try\n");
  EXPECT_EQ(Read("SELECT has_schema_privilege('pgtier_shadow', 'pgtier', 'CREATE')"), "f\n");
  // It tries all that its rights allow, each by itself.
  Run(*app_, "CREATE TABLE tried (what text)");
  Run(*app_, R"sql(
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $f$
DECLARE c text;
BEGIN
  FOREACH c IN ARRAY ARRAY[
    'ALTER ROLE app SUPERUSER', 'RESET ROLE; ALTER ROLE app SUPERUSER', 'RESET SESSION AUTHORIZATION; ALTER ROLE app SUPERUSER',
    'ALTER FUNCTION pgtier.shadow_drain(integer, integer, integer, boolean) SECURITY INVOKER SET search_path = public, pg_catalog',
    'CREATE OR REPLACE FUNCTION pgtier.shadow_outboxes(wanted text) RETURNS TABLE (id integer, source text) LANGUAGE plpgsql'
    ' AS ''BEGIN ALTER ROLE app SUPERUSER; END''',
    'CREATE TRIGGER f BEFORE UPDATE ON pgtier.outbox_1 FOR EACH ROW EXECUTE FUNCTION public.fire()',
    'ALTER TABLE pgtier.outbox_1 ADD CHECK (true)', 'CREATE FUNCTION pgtier.more() RETURNS integer LANGUAGE sql AS ''SELECT 1'''
  ] LOOP
    BEGIN
      EXECUTE c;
      INSERT INTO public.tried VALUES (c);
    EXCEPTION WHEN OTHERS THEN NULL;
    END;
  END LOOP;
  RETURN NEW;
END $f$;
GRANT INSERT ON tried TO pgtier_shadow)sql");
  Run("ALTER TABLE docs_history DISABLE TRIGGER ALL; CREATE TRIGGER f BEFORE INSERT ON docs_history FOR EACH ROW "
      "EXECUTE"
      " FUNCTION fire()");
  auto another = SpecOf({"docs"});
  Run(*app_, "INSERT INTO docs SELECT n, 'x' FROM generate_series(1, 3) AS n");
  for (int i = 0; i < 2; ++i) {
    Run("SELECT pgtier.shadow_drain_all('data/audit')");
    Run(*app_, "INSERT INTO docs VALUES (" + std::to_string(10 + i) + ")");
    Inspect(another);
  }
  Run("ALTER TABLE docs DROP CONSTRAINT docs_pkey");  // moves what is queued to all shards, as the superuser
  ASSERT_TRUE(shadow::Uninstall(admin(), another, Soon()).has_value());
  EXPECT_EQ(Read("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'"), "f\n");
  // The trigger did run, and could do what its owner may.
  EXPECT_EQ(Read("SELECT DISTINCT left(what, 34) FROM tried ORDER BY 1"), "ALTER FUNCTION pgtier.shadow_drain\n");
  EXPECT_EQ(Read("SELECT count(*) FROM docs_history"), "5\n");
}

// A database of a version that gave all of it to pgtier_shadow.
TEST_F(Trust, WhatEarlierVersionsGaveAwayIsTakenBack) {
  shadow::Spec spec = SpecOf({"docs"});
  spec.slot = "trust_slot";
  Install(spec);
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, Tier::kNotify, Soon()).has_value());
  Run("SELECT pgtier.shadow_set_actor_function('data/audit'); GRANT CREATE ON SCHEMA pgtier TO pgtier_shadow;"
      "ALTER TABLE pgtier.outbox_1 OWNER TO pgtier_shadow; ALTER SEQUENCE pgtier.position_1 OWNER TO pgtier_shadow;"
      "ALTER FUNCTION pgtier.shadow_outboxes(text) OWNER TO pgtier_shadow;"
      "ALTER FUNCTION pgtier.shadow_queue(integer, integer) OWNER TO pgtier_shadow;"
      "ALTER FUNCTION pgtier.shadow_actor_1() OWNER TO pgtier_shadow;"
      "UPDATE pgtier.shadow_state SET version = 'before'");
  auto writer = Open();
  Run(writer, "BEGIN; INSERT INTO docs VALUES (1, 'queued')");
  auto impatient = Open();
  auto held_off = shadow::Install(impatient, spec, Deadline::After(std::chrono::seconds(3)));
  ASSERT_FALSE(held_off.has_value());
  EXPECT_EQ(held_off.error().code, Code::kDeadlineExceeded) << held_off.error().message;
  Run(writer, "COMMIT");
  Install(spec);
  EXPECT_EQ(Read("SELECT relname FROM pg_class WHERE relnamespace = 'pgtier'::regnamespace AND relowner ="
                 " 'pgtier_shadow'::regrole UNION SELECT proname FROM pg_proc WHERE pronamespace ="
                 " 'pgtier'::regnamespace AND proowner = 'pgtier_shadow'::regrole ORDER BY 1"),
            "shadow_1\nshadow_accept\nshadow_drain\nshadow_split_catch\nshadow_try\n");
  EXPECT_EQ(Read("SELECT has_schema_privilege('pgtier_shadow', 'pgtier', 'CREATE')"), "f\n");
  Run(*app_, "INSERT INTO docs VALUES (2, 'later')");
  Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT v FROM docs_history ORDER BY position"), "queued\nlater\n");
}

}  // namespace
}  // namespace pgtier
