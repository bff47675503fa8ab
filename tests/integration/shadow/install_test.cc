// Coming and going: again, killed, in the way of writers, other policies, and without a superuser.
#include <thread>

#include "tests/integration/shadow/shadow_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;

class InstallShadows : public testing::WithDatabase {};

TEST_F(InstallShadows, InspectKnowsNothingBeforeAndAllAfter) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  shadow::Spec spec = SpecOf({"t", "public.u"});
  EXPECT_FALSE(Inspect(spec).installed);
  EXPECT_EQ(Preflight(spec), "NoTable!");
  auto refused = shadow::Install(admin(), spec, Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
  EXPECT_EQ(refused.error().message.find("NoTable: there is no table public.u"), 0U) << refused.error().message;
  Run("CREATE TABLE u (id integer)");
  Install(spec);
  shadow::State state = Inspect(spec);
  EXPECT_TRUE(state.installed);
  EXPECT_EQ(state.version, shadow::InstalledVersion());
  EXPECT_EQ(state.tier, Tier::kTriggers);
  EXPECT_EQ(state.epoch, 1);
  ASSERT_EQ(state.tables.size(), 2U);
  EXPECT_EQ(state.tables[0].source, "public.t");
  EXPECT_EQ(state.tables[1].history, "public.u_history");
  EXPECT_TRUE(state.tables[0].installed && state.tables[1].installed);
}

TEST_F(InstallShadows, AgainWritesNothing) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE p (id integer) PARTITION BY LIST (id);"
      "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)");
  shadow::Spec spec = SpecOf({"t", "p"});
  Install(spec);
  // A reader's lock would stop DDL, a writer's an index or a trigger: neither stops an Install that has nothing to do.
  auto writer = Open();
  Run(writer, "BEGIN; INSERT INTO t VALUES (1); INSERT INTO p VALUES (1); LOCK TABLE t_history IN SHARE MODE");
  Run("SELECT pg_stat_force_next_flush()");
  Run("CREATE TEMP TABLE before AS SELECT oid, xmin AS x FROM pg_proc UNION SELECT oid, xmin FROM pg_class UNION SELECT"
      " oid, xmin FROM pg_trigger");
  Install(spec);
  EXPECT_EQ(Read("SELECT count(*) FROM (SELECT oid, xmin AS x FROM pg_proc UNION SELECT oid, xmin FROM pg_class WHERE"
                 " relname <> 'before' UNION SELECT oid, xmin FROM pg_trigger EXCEPT SELECT * FROM before) AS n"),
            "0\n");
  EXPECT_EQ(Read("SELECT last_value FROM pgtier.shadow_state_number_seq"), "1\n");
}

TEST_F(InstallShadows, WhatSomebodySwitchedOffIsSwitchedOnAgain) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  shadow::Spec spec = SpecOf({"t"});
  Install(spec);
  Run("ALTER TABLE t DISABLE TRIGGER ALL");  // undone by the event trigger
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
  Run("ALTER EVENT TRIGGER pgtier_shadow_ddl DISABLE; ALTER TABLE t DISABLE TRIGGER ALL");
  EXPECT_FALSE(Inspect(spec).tables.at(0).installed);
  Install(spec);
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
  Run("DROP TRIGGER \"00_pgtier_shadow\" ON t; CREATE OR REPLACE FUNCTION pgtier.shadow_1() RETURNS trigger LANGUAGE"
      " plpgsql AS 'BEGIN RETURN NULL; END'");
  EXPECT_FALSE(Inspect(spec).tables.at(0).installed);
  Install(spec);
  Run("INSERT INTO t VALUES (1)");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "1\n");
}

TEST_F(InstallShadows, AnotherActorChannelOrHistoryIsWorkToDo) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install(SpecOf({"t"}));
  shadow::Spec spec = SpecOf({"t"});
  spec.actor_setting = "app.who";
  EXPECT_FALSE(Inspect(spec).tables.at(0).installed);
  Install(spec);
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
  spec.tables[0].history = "t_audit";
  EXPECT_FALSE(Inspect(spec).tables.at(0).installed);
  Install(spec);
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
  Run("SET app.who = 'u'; INSERT INTO t VALUES (1)");
  EXPECT_EQ(Read("SELECT actor, id FROM t_audit"), "u|1\n");
  EXPECT_EQ(Read("SELECT count(*) FROM t_history"), "0\n");
}

TEST_F(InstallShadows, TablesThatLeaveKeepTheirHistory) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE u (id integer PRIMARY KEY)");
  Install(SpecOf({"t", "u"}));
  ASSERT_TRUE(shadow::SwapBodies(admin(), SpecOf({"t", "u"}), Tier::kNotify, Soon()).has_value());
  Run("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)");
  shadow::State before = Inspect(SpecOf({"t"}));
  ASSERT_EQ(before.tables.size(), 2U);  // what is to go is shown, and is work to do
  EXPECT_TRUE(before.tables[0].installed);
  EXPECT_EQ(before.tables[1].source, "public.u");
  EXPECT_FALSE(before.tables[1].installed);
  Install(SpecOf({"t"}));
  EXPECT_EQ(Inspect(SpecOf({"t"})).tables.size(), 1U);
  Run("INSERT INTO u VALUES (2)");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'u'::regclass"), "0\n");
  EXPECT_EQ(Inspect(SpecOf({"t"})).queue_depth, 2);  // what u had queued is not forgotten
  Run("SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT id FROM u_history"), "1\n");
  Install(SpecOf({"t"}));
  EXPECT_EQ(Read("SELECT to_regclass('pgtier.outbox_2')"), "-\n");
  // Back again, the positions go on.
  Install(SpecOf({"t", "u"}));
  Run("INSERT INTO u VALUES (3); SELECT pgtier.shadow_drain_all('data/audit')");
  EXPECT_EQ(Read("SELECT position, id FROM u_history ORDER BY epoch, position"), "1|1\n2|3\n");
}

TEST_F(InstallShadows, UninstallMovesWhatWaitsAndALaterPolicyGoesOn) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  shadow::Spec spec = SpecOf({"t"});
  Install(spec);
  ASSERT_TRUE(shadow::SwapBodies(admin(), spec, Tier::kNotify, Soon()).has_value());
  Run("INSERT INTO t SELECT generate_series(1, 2500)");
  auto done = shadow::Uninstall(admin(), spec, Soon());
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_EQ(Read("SELECT count(*), max(position) FROM t_history"), "2500|2500\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), "0\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pg_event_trigger"), "0\n");
  EXPECT_FALSE(Inspect(spec).installed);
  ASSERT_TRUE(shadow::Uninstall(admin(), spec, Soon()).has_value());
  Run("UPDATE pgtier.shadow_state SET epoch = 7");
  Install(SpecOf({"t"}, "data/other"));
  Run("INSERT INTO t VALUES (0)");
  EXPECT_EQ(Read("SELECT epoch, position, id FROM t_history ORDER BY epoch DESC, position DESC LIMIT 1"), "7|2501|0\n");
}

TEST_F(InstallShadows, TablesAreFixedInCdc) {
  Run("CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE u (id integer PRIMARY KEY); CREATE TABLE v (id integer)");
  Install(SpecOf({"t", "u"}));
  Run("BEGIN; SELECT pgtier.shadow_own_ddl(true); UPDATE pgtier.shadow_state SET tier = 'cdc'; SELECT"
      " pgtier.shadow_set_triggers(id) FROM pgtier.shadow_tables; CREATE PUBLICATION pgtier_ FOR TABLE t, u;"
      " ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE u REPLICA IDENTITY FULL; COMMIT");
  Install(SpecOf({"t", "u"}));
  // What is taken out of the publication is not in the log: that is no state to be silent about.
  Run("ALTER PUBLICATION pgtier_ DROP TABLE u");
  EXPECT_FALSE(Inspect(SpecOf({"t", "u"})).tables.at(1).installed);
  auto lacking = shadow::Install(admin(), SpecOf({"t", "u"}), Soon());
  ASSERT_FALSE(lacking.has_value());
  EXPECT_NE(lacking.error().message.find("(public.u is not ready for cdc: its changes may be missing"),
            std::string::npos)
      << lacking.error().message;
  Run("ALTER PUBLICATION pgtier_ ADD TABLE u");
  for (const shadow::Spec& other : {SpecOf({"t"}), SpecOf({"t", "u", "v"})}) {
    auto refused = shadow::Install(admin(), other, Soon());
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
    EXPECT_EQ(refused.error().message.find("TablesFixedInCdc: "), 0U) << refused.error().message;
  }
  auto refused = shadow::Uninstall(admin(), SpecOf({"t", "u"}), Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kFailedPrecondition);
}

TEST_F(InstallShadows, ATableBelongsToOnePolicy) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  Install(SpecOf({"t"}));
  EXPECT_EQ(Preflight(SpecOf({"t"}, "data/other")), "OfAnotherPolicy!");
  auto refused = shadow::Install(admin(), SpecOf({"t"}, "data/other"), Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("belongs to the policy data/audit"), std::string::npos);
}

TEST_F(InstallShadows, WaitsForAWriterWithoutStoppingOthers) {
  Run("CREATE TABLE t (id integer PRIMARY KEY)");
  auto writer = Open();
  Run(writer, "BEGIN; INSERT INTO t VALUES (1)");
  auto held_off = shadow::Install(admin(), SpecOf({"t"}), Deadline::After(std::chrono::seconds(3)));
  ASSERT_FALSE(held_off.has_value());
  EXPECT_EQ(held_off.error().code, Code::kDeadlineExceeded);
  EXPECT_NE(held_off.error().message.find("process " + std::to_string(writer.BackendPid()) + " holds public.t"),
            std::string::npos)
      << held_off.error().message;
  // Others write while it tries: a queue behind the old transaction would stop them for as long as that lasts.
  std::jthread trying([this] {
    auto connection = Open();
    std::ignore = shadow::Install(connection, SpecOf({"t"}), Soon());
  });
  auto other = Open();
  for (int i = 10; i < 30; ++i)
    Run(other, "SET statement_timeout = '10s'; INSERT INTO t VALUES (" + std::to_string(i) + ")");
  Run(writer, "COMMIT");
  trying.join();
  EXPECT_TRUE(Inspect(SpecOf({"t"})).tables.at(0).installed);
}

// Killed at each point: another Install brings it to its end. Every table is one transaction.
TEST_F(InstallShadows, KilledInTheMiddle) {
  Run("CREATE TABLE a (id integer PRIMARY KEY); CREATE TABLE b (id integer PRIMARY KEY); CREATE TABLE c (id integer)");
  shadow::Spec spec = SpecOf({"a", "b", "c"});
  auto blocker = Open();
  for (int round = 0; round < 12; ++round) {
    auto victim = Open();
    std::jthread killer([&, round] {
      auto connection = Open();
      std::this_thread::sleep_for(std::chrono::milliseconds(20 * round));
      std::ignore = connection.Query("SELECT pg_terminate_backend($1)", {std::to_string(victim.BackendPid())}, Soon());
    });
    std::ignore = shadow::Install(victim, spec, Soon());
    killer.join();
    // Whatever stands: the application writes.
    Run("INSERT INTO a VALUES (" + std::to_string(round) + ")");
  }
  Install(spec);
  for (const auto& table : Inspect(spec).tables) EXPECT_TRUE(table.installed) << table.source;
  Run("INSERT INTO c VALUES (1)");
  EXPECT_EQ(Read("SELECT count(*) FROM c_history"), "1\n");
}

// A logical restore brings pgtier's tables with the oids and column numbers of the database that was dumped.
TEST_F(InstallShadows, ARestoredDatabaseKnowsItsTablesByName) {
  Run("CREATE TABLE t (gone integer, id integer PRIMARY KEY, v text); ALTER TABLE t DROP gone; CREATE TABLE u (id "
      "integer, "
      "w text); CREATE TABLE other (id integer)");
  shadow::Spec spec = SpecOf({"t", "u"});
  Install(spec);
  Run("INSERT INTO t VALUES (1, 'before'); INSERT INTO u VALUES (1, 'before')");
  Run("BEGIN; UPDATE pgtier.shadow_database SET system_identifier = '1'; UPDATE pgtier.shadow_tables SET installed = "
      "false;"
      "UPDATE pgtier.shadow_tables SET source = CASE source_name WHEN 't' THEN 'u'::regclass ELSE 'other'::regclass "
      "END;"
      "UPDATE pgtier.shadow_tables SET installed = true; UPDATE pgtier.shadow_columns SET attnum = attnum + 10; "
      "COMMIT");
  EXPECT_FALSE(Inspect(spec).tables.at(0).installed);
  // Before Install is there, nobody takes one table for another.
  Run("ALTER TABLE other RENAME TO another; ALTER TABLE u ADD COLUMN x integer; DROP TABLE another");
  EXPECT_EQ(Read("SELECT source_name, installed FROM pgtier.shadow_tables ORDER BY 1"), "t|t\nu|t\n");
  Install(spec);
  EXPECT_EQ(
      Read("SELECT source_name FROM pgtier.shadow_tables WHERE source IN ('t'::regclass, 'u'::regclass) ORDER BY id"),
      "t\nu\n");
  Run("INSERT INTO t VALUES (2, 'after'); INSERT INTO u VALUES (2, 'after', 3)");
  EXPECT_EQ(Read("SELECT position, id, v FROM t_history ORDER BY position"), "1|1|before\n2|2|after\n");
  EXPECT_EQ(Read("SELECT position, id, w, x FROM u_history ORDER BY position"), "1|1|before|-\n2|2|after|3\n");
  EXPECT_EQ(
      Read("SELECT count(*) FROM pg_attribute WHERE attrelid = 't_history'::regclass AND attname LIKE '%\\_\\_2'"),
      "0\n");
  Install(spec);
  EXPECT_TRUE(Inspect(spec).tables.at(0).installed);
}

TEST_F(InstallShadows, WithoutASuperuser) {
  MakeRole("rds", "CREATEROLE CREATEDB");
  Run("GRANT ALL ON DATABASE " + database() + " TO rds; GRANT ALL ON SCHEMA public TO rds WITH GRANT OPTION");
  // The roles are the cluster's; where another made them, their members are needed.
  Run("DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgtier_shadow') THEN GRANT pgtier_shadow TO rds; "
      "END IF;"
      " END $$");
  auto rds = OpenAs("rds");
  Run(rds, "CREATE TABLE t (id integer PRIMARY KEY, v text)");
  auto findings = shadow::Preflight(rds, SpecOf({"t"}), Tier::kTriggers, Soon());
  ASSERT_TRUE(findings.has_value()) << findings.error().message;
  ASSERT_EQ(findings->size(), 1U);
  EXPECT_EQ(findings->at(0).code, "DdlNotFollowed");
  auto done = shadow::Install(rds, SpecOf({"t"}), Soon());
  ASSERT_TRUE(done.has_value()) << done.error().message;
  Run(rds, "INSERT INTO t VALUES (1, 'x')");
  EXPECT_EQ(Read("SELECT v FROM t_history"), "x\n");
  // What it can't follow it brings into line at the next Install.
  Run(rds, "ALTER TABLE t ADD COLUMN w integer");
  EXPECT_FALSE(Inspect(SpecOf({"t"})).tables.at(0).installed);
  done = shadow::Install(rds, SpecOf({"t"}), Soon());
  ASSERT_TRUE(done.has_value()) << done.error().message;
  Run(rds, "INSERT INTO t VALUES (2, 'y', 3)");
  EXPECT_EQ(Read("SELECT v, w FROM t_history ORDER BY position"), "x|-\ny|3\n");
  Run("REASSIGN OWNED BY rds TO postgres; DROP OWNED BY rds");
}

TEST_F(InstallShadows, PreflightNamesEachThingInTheWay) {
  Run("CREATE TABLE t (id integer PRIMARY KEY, epoch integer); CREATE VIEW v AS SELECT 1 AS x; CREATE UNLOGGED TABLE "
      "ul (id"
      " integer); CREATE TABLE parent (id integer); CREATE TABLE child () INHERITS (parent);"
      "CREATE TABLE p (id integer) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)");
  EXPECT_EQ(Preflight(SpecOf({"t"})), "ColumnNameTaken!");
  EXPECT_EQ(Preflight(SpecOf({"v"})), "NotATable!");
  EXPECT_EQ(Preflight(SpecOf({"ul"})), "UnloggedTable");
  EXPECT_EQ(Preflight(SpecOf({"ul"}), Tier::kCdc), "UnloggedTable! IdentityBecomesFull");
  EXPECT_EQ(Preflight(SpecOf({"parent"})), "ChildrenNotRecorded");
  EXPECT_EQ(Preflight(SpecOf({"p1", "p"})), "PartOfAnother!");
  EXPECT_EQ(Preflight(SpecOf({"ul", "public.ul"})), "UnloggedTable NamedTwice! SharedHistory! UnloggedTable");
  shadow::Spec same = SpecOf({"ul", "parent"});
  same.tables[0].history = same.tables[1].history = "nowhere.h";
  EXPECT_EQ(Preflight(same), "NoSchema! UnloggedTable ChildrenNotRecorded NoSchema! SharedHistory!");
  same.tables[0].history = "parent";
  EXPECT_NE(Preflight(same).find("HistoryIsASource!"), std::string::npos);
  EXPECT_EQ(Read("SELECT to_regnamespace('pgtier')"), "-\n");  // it changed nothing
}

}  // namespace
}  // namespace pgtier
