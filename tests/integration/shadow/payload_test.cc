// Delivery Payload of tier notify: rows in notifications, heard by pgtier-worker as a process.
#include <atomic>
#include <random>
#include <thread>

#include "tests/integration/shadow/worker_fixture.h"

namespace pgtier {
namespace {

using shadow::Tier;
using testing::Soon;
using testing::Terminate;

class Payload : public testing::WithWorker {
 protected:
  void SetUp() override {
    WithWorker::SetUp();
    if (IsSkipped()) return;
    Configure(R"(, "delivery": "Payload")");
  }
  void Deliver(bool sends) {
    auto done = shadow::Deliver(admin(), spec_, sends, Soon());
    if (!done.has_value()) throw std::runtime_error(done.error().message);
  }
  void To(Tier tier) {
    auto done = shadow::SwapBodies(admin(), spec_, tier, Soon());
    if (!done.has_value()) throw std::runtime_error(done.error().message);
  }
  void AwaitListening() {
    Await("listening", [&] { return Inspect(spec_).payload.listening; });
  }
  void AwaitDrained() {
    Await("drained", [&] {
      auto drained = shadow::Drained(admin(), spec_, Soon());
      return drained.has_value() && *drained;
    });
  }
  // A worker that listens, and triggers that send.
  std::unique_ptr<test::ChildProcess> Begin() {
    auto worker = StartWorker();
    AwaitListening();
    Deliver(true);
    return worker;
  }
  void Signal(const test::ChildProcess& worker, int signal) {
    worker.Signal(signal);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  std::string Gaps() { return Read("SELECT count(*) FROM pgtier.shadow_gaps"); }
  // The number behind a series' name in /metrics.
  double Metric(const std::string& name) {
    std::string page = Page("/metrics");
    size_t at = page.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(page.substr(at + name.size() + 2));
  }
};

// Each writer changes rows of its own, one after the other: the history has to show each of a row's values once.
class Writers {
 public:
  Writers(const std::function<postgres::Connection()>& open, int count) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, i, connection = std::make_shared<postgres::Connection>(open())] {
        std::mt19937 random(static_cast<unsigned>(i));
        const std::string id = std::to_string(1000 + i);
        auto run = [&](const std::string& sql) {
          auto done = connection->Execute(sql, Soon());
          if (!done.has_value()) failed_ = true;
        };
        run("INSERT INTO t VALUES (" + id + ", 0)");
        while (!stop_) {
          std::string change = "UPDATE t SET v = v + 1 WHERE id = " + id;
          switch (random() % 8) {
            case 0:  // long enough to be in flight when something changes
              run("BEGIN; " + change + "; SELECT pg_sleep(0.03); " + change + "; COMMIT");
              break;
            case 1:
              run("BEGIN; " + change + "; ROLLBACK");
              break;
            case 2:  // does not fit into a notification
              run("UPDATE t SET v = v + 1, pad = repeat('x', 9000) WHERE id = " + id +
                  "; UPDATE t SET v = v + 1, pad = "
                  "NULL WHERE id = " +
                  id);
              break;
            default:
              run(change);
          }
        }
      });
    }
  }
  // Ends them. False: a statement failed.
  bool End() {
    stop_ = true;
    threads_.clear();
    return !failed_;
  }

 private:
  std::atomic<bool> stop_ = false, failed_ = false;
  std::vector<std::jthread> threads_;
};

// What is wrong with the history of such writers; "" for nothing.
constexpr const char* kWrong =
    "SELECT id, count(*), min(v), max(v) FROM (SELECT id, v, lag(v) OVER (PARTITION BY id ORDER BY epoch, position) AS "
    "was"
    " FROM t_history WHERE id >= 1000) AS h GROUP BY id HAVING bool_or(coalesce(was, -1) <> v - 1)"
    "   OR max(v) <> (SELECT v FROM t WHERE t.id = h.id)";

TEST_F(Payload, ValuesOfEveryTypeArriveAsTriggersWouldWriteThem) {
  Run("CREATE TYPE mood AS ENUM ('so so', 'fine'); CREATE DOMAIN small AS integer CHECK (VALUE < 100);"
      "CREATE TABLE kinds (id integer PRIMARY KEY, b boolean, f4 real, f8 double precision, n numeric, tx text,"
      "  vc varchar(10), c char(6), ba bytea, ts timestamp, tz timestamptz, d date, tm time, ttz timetz, iv interval,"
      "  js json, jb jsonb, ar integer[], ta text[], m mood, ma mood[], r int4range, mr nummultirange, ip inet, ci "
      "cidr,"
      "  bi bit(5), vb varbit, po point, u uuid, mo money, tv tsvector, nm name, oi regclass, ch \"char\", dm small,"
      "  ls pg_lsn, \"We \"\"ird\" text, gone text, twice integer GENERATED ALWAYS AS (id * 2) STORED);"
      "ALTER TABLE kinds DROP COLUMN gone");
  spec_.tables.push_back({"kinds", ""});
  Install(spec_);
  auto worker = StartWorker();
  AwaitListening();
  auto writer = Open();
  // What the application has set is not to be seen in a history.
  Run(writer,
      "SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape';"
      "SET extra_float_digits = -3; SET TimeZone = 'Asia/Kolkata'; SET app.actor = E'o''\"\\\\ x'");
  const std::string changes =
      "INSERT INTO kinds VALUES (1, true, 'NaN', 0.1::float8 + 0.2, 'NaN', E'a\"b\\\\c\\td\\n{}', 'v', 'c', "
      "'\\x00ff5c',"
      "  '2026-12-01 01:02:03.000004', '2026-12-01 01:02:03+00', 'infinity', '24:00', '01:02:03+05:30',"
      "  '-1 year 2 days -00:00:01', '{\"a\":  null, \"a\": [1]}', '\"text\"', '[2:3]={4,NULL}', "
      "'{\"a,b\",\"\",NULL,\"NULL\"}',"
      "  'so so', '{fine}', '[1,5)', '{[1.5,2],(7,8)}', '10.0.0.1', '10.0.0.0/8', B'10101', B'1', '(1.5,-0.1)',"
      "  '11111111-1111-1111-1111-111111111111', '12.34', '''a b'':1A', 'name', 'pg_class', 'x', 7, '16/B374D848', "
      "'w');"
      "INSERT INTO kinds (id, js, jb, tx, c) VALUES (2, 'null', 'null', '', '');"
      "INSERT INTO kinds (id) VALUES (3);"
      "UPDATE kinds SET f4 = 1e-30, f8 = '-infinity', n = 12345678901234567890.10, tx = 'ünï', ar = '{}', ta = "
      "'{{a,b},{c,d}}'"
      "  WHERE id = 1;"
      "UPDATE kinds SET id = 4 WHERE id = 3;"
      "UPDATE kinds SET tx = repeat('y', 8000) WHERE id = 4;"
      "DELETE FROM kinds WHERE id = 2; TRUNCATE kinds";
  constexpr const char* kRows = "SELECT count(*) FROM kinds_history";
  auto keep = [&](const std::string& as) {
    Await("eight rows", [&] { return Read(kRows) == "8\n"; });
    Run("CREATE TABLE " + as +
        " AS SELECT * FROM kinds_history ORDER BY position; TRUNCATE kinds_history;"
        "ALTER TABLE " +
        as + " DROP COLUMN at_utc, DROP COLUMN position");
  };
  Run(writer, changes);
  keep("by_queue");
  EXPECT_LE(Metric("pgtier_shadow_payloads_total"), 0);
  Deliver(true);
  Run(writer, changes);
  keep("by_payload");
  EXPECT_EQ(Metric("pgtier_shadow_payloads_total"), 7) << "all but the one that is too large";
  EXPECT_EQ(Read("(SELECT k::text FROM by_queue AS k EXCEPT ALL SELECT k::text FROM by_payload AS k) UNION ALL"
                 " (SELECT k::text FROM by_payload AS k EXCEPT ALL SELECT k::text FROM by_queue AS k)"),
            "");
  EXPECT_EQ(Read("SELECT DISTINCT actor FROM by_payload"), "o'\"\\ x\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0\n");
}

TEST_F(Payload, WholeRowsAsJsonArriveToo) {
  Run("CREATE TABLE docs (id integer PRIMARY KEY, at timestamptz, raw bytea);"
      "CREATE TABLE docs_history (n bigserial PRIMARY KEY, old_row jsonb, new_row json)");
  spec_.tables.push_back({"docs", ""});
  Install(spec_);
  auto worker = Begin();
  Run("SET bytea_output = 'escape'; INSERT INTO docs VALUES (1, '2026-01-01 00:00:00+00', '\\x00'); UPDATE docs SET id "
      "= 2;"
      "DELETE FROM docs");
  Await("three", [&] { return Read("SELECT count(*) FROM docs_history") == "3\n"; });
  EXPECT_EQ(Read("SELECT operation, old_row ->> 'id', new_row ->> 'id', coalesce(new_row ->> 'raw', '-')"
                 " FROM docs_history ORDER BY position"),
            "INSERT|-|1|\\x00\nUPDATE|1|2|\\x00\nDELETE|2|-|-\n");
  EXPECT_EQ(Metric("pgtier_shadow_payloads_total"), 3);
}

// With the worker alive nothing is lost, whatever changes: deliveries, tiers, and workers that end in order.
TEST_F(Payload, ChangesUnderLoadLoseNothing) {
  Run("ALTER TABLE t ADD COLUMN pad text");
  auto worker = Begin();
  Writers writers([this] { return Open(); }, 4);
  auto rest = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
  for (int i = 0; i < 2; ++i) {
    rest(200);
    Deliver(false);
    rest(50 * i);
    if (i != 1) AwaitDrained();
    Deliver(true);
    rest(200);
    To(Tier::kTriggers);
    rest(50 * i);
    if (i == 1) AwaitDrained();
    To(Tier::kNotify);
    rest(50 * i);
    Deliver(true);
    rest(200);
    EXPECT_EQ(Terminate(*worker), 0) << Log();
    rest(50 * i);
    worker = StartWorker();
    AwaitListening();
  }
  rest(200);
  Await("rows that came in notifications", [&] { return Metric("pgtier_shadow_payloads_total") > 0; });
  EXPECT_TRUE(writers.End());
  To(Tier::kTriggers);
  AwaitDrained();
  EXPECT_FALSE(Inspect(spec_).payload.under_way);
  EXPECT_EQ(Read(kWrong), "");
  EXPECT_EQ(Read("SELECT count(*) - count(DISTINCT position) FROM t_history"), "0\n");
  EXPECT_EQ(Gaps(), "0\n") << Log();
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0\n");
}

// What was sent to a worker that died is lost, no more and no less, and when that may have been is written down.
TEST_F(Payload, WhatADeadWorkerHadNotWrittenIsMissingAndTheGapSaysSo) {
  Run("ALTER TABLE t ADD COLUMN pad text");
  auto worker = Begin();
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 10) AS i");
  AwaitRows(10);
  Await("asleep", [&] { return Asleep(); });
  Signal(*worker, SIGSTOP);
  std::string before = Read("SELECT clock_timestamp()");
  for (int i = 11; i <= 20; ++i) Run("INSERT INTO t VALUES (" + std::to_string(i) + ", 0)");
  Run("INSERT INTO t VALUES (21, 0, repeat('x', 8000))");
  EXPECT_EQ(Read("SELECT id FROM pgtier.outbox_1"), "21\n") << "too large for a notification";
  worker->Stop(SIGKILL);
  Await("the server misses it", [&] { return !Inspect(spec_).payload.listening; });
  std::string after = Read("SELECT clock_timestamp()");
  // Nobody listens: these wait in the outbox.
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(31, 40) AS i");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.outbox_1"), "11\n");
  EXPECT_EQ(Gaps(), "0\n");
  worker = StartWorker();
  AwaitListening();
  Run("INSERT INTO t VALUES (41, 0)");
  AwaitRows(22);
  EXPECT_EQ(Read("SELECT id FROM t EXCEPT SELECT id FROM t_history ORDER BY id"),
            "11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n");
  auto stamp = [](const std::string& line) { return "'" + line.substr(0, line.size() - 1) + "'"; };
  EXPECT_EQ(Read("SELECT since < " + stamp(before) + ", until > " + stamp(after) +
                 ", since > clock_timestamp() - interval '10 minutes' FROM pgtier.shadow_gaps"),
            "t|t|t\n");
  shadow::State state = Inspect(spec_);
  EXPECT_EQ(state.payload.gaps, 1);
  EXPECT_NE(state.payload.last_gap.find(" to "), std::string::npos) << state.payload.last_gap;
  Await("metrics", [&] { return Metric("pgtier_shadow_listen_gaps_total") == 1; });
}

// Columns that change between a row's commit and its reading are found by what they are now.
TEST_F(Payload, ColumnsThatChangeOnTheWay) {
  Run("CREATE TABLE s (id integer PRIMARY KEY, a text, b integer, c text)");
  spec_.tables.push_back({"s", ""});
  Install(spec_);
  auto worker = Begin();
  Await("asleep", [&] { return Asleep(); });
  Signal(*worker, SIGSTOP);
  Run("INSERT INTO s VALUES (1, 'a', 7, 'c')");
  Run("ALTER TABLE s RENAME a TO z; ALTER TABLE s RENAME c TO a");
  Run("ALTER TABLE s ALTER b TYPE text; ALTER TABLE s ADD d integer");
  Run("INSERT INTO s VALUES (2, 'z', 'eight', 'was c', 5)");
  Run("ALTER TABLE s DROP COLUMN z");
  Run("INSERT INTO s VALUES (3, 'nine', 'was c', 6)");
  Signal(*worker, SIGCONT);
  Await("three", [&] { return Read("SELECT count(*) FROM s_history") == "3\n"; });
  EXPECT_EQ(Read("SELECT id, z, b__2, b, a, d FROM s_history ORDER BY position"),
            "1|a|7|-|c|-\n2|z|-|eight|was c|5\n3|-|-|nine|was c|6\n");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.shadow_dead_letters"), "0\n");
  EXPECT_EQ(Gaps(), "0\n");
}

TEST_F(Payload, WhatOthersSendIsLeftOut) {
  auto listener = Open();
  auto worker = Begin();
  std::string channel = Read("SELECT pgtier.shadow_payload_channel('data/audit')");
  channel.pop_back();
  Run(listener, "LISTEN " + channel);
  Run("INSERT INTO t VALUES (1, 5)");
  std::string sent;
  while (sent.find("\"operation\"") == std::string::npos) {
    auto came = listener.AwaitNotifications(Soon());
    ASSERT_TRUE(came.has_value() && !came->empty());
    for (const auto& each : *came) {
      if (each.payload.find("\"operation\"") != std::string::npos) sent = each.payload;
    }
  }
  sent.replace(sent.find("\"5\""), 3, "\"6\"");
  Run("SELECT pg_notify('" + channel + "', p) FROM unnest(ARRAY['', 'x', '{}', $$" + sent + "$$]) AS p");
  // What was signed for another policy.
  Run("SELECT pg_notify('" + channel +
      "', left(encode(sha256(convert_to(secret || number + 1 || b || secret, 'UTF8')), 'hex'), 32) || ' ' || b)"
      " FROM pgtier.shadow_payload_key, pgtier.shadow_state,"
      " json_build_object('beat', now()::text, 'end', '99') AS j, CAST(j AS text) AS b");
  Run("INSERT INTO t VALUES (2, 5)");
  AwaitRows(2);
  EXPECT_EQ(Read("SELECT id, v FROM t_history ORDER BY position"), "1|5\n2|5\n");
  Await("metrics", [&] { return Metric("pgtier_shadow_payloads_strange_total") == 5; });
  EXPECT_EQ(Read("SELECT heard_end FROM pgtier.shadow_listeners"), "0\n");
}

// Large transactions, and rows whose types would run somebody's code when they are read, go through the outbox.
TEST_F(Payload, WhatIsNotFitToBeSentGoesIntoTheOutbox) {
  Run("CREATE DOMAIN checked AS integer CHECK (VALUE > 0); CREATE TABLE arrays (id integer PRIMARY KEY, a checked[]);"
      "ALTER TABLE t ADD COLUMN pad text");
  spec_.tables.push_back({"arrays", ""});
  Install(spec_);
  auto worker = Begin();
  EXPECT_EQ(Read("SELECT id, pgtier.shadow_sends(id) FROM pgtier.shadow_tables ORDER BY id"), "1|t\n2|f\n");
  Await("asleep", [&] { return Asleep(); });
  Signal(*worker, SIGSTOP);
  Run("INSERT INTO arrays VALUES (1, '{1}')");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.outbox_2"), "1\n");
  // Of a large value no text is made.
  Run("INSERT INTO t SELECT 0, 0, string_agg(md5(i::text), '') FROM generate_series(1, 1000) AS i");
  Run("UPDATE t SET v = 1; DELETE FROM t");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.outbox_1"), "3\n");
  Run("INSERT INTO t SELECT i, 0 FROM generate_series(1, 20000) AS i");
  EXPECT_EQ(Read("SELECT count(*) BETWEEN 10000 AND 19500 FROM pgtier.outbox_1"), "t\n");
  Signal(*worker, SIGCONT);
  AwaitRows(20003);
  EXPECT_EQ(Read("SELECT count(DISTINCT position) FROM t_history"), "20003\n");
  EXPECT_EQ(Gaps(), "0\n");
}

TEST_F(Payload, ATypeOutOfReachHoldsUpNoOtherRow) {
  Run("CREATE SCHEMA apart; CREATE TYPE apart.mood AS ENUM ('fine');"
      "CREATE TABLE moods (id integer PRIMARY KEY, m apart.mood[])");
  spec_.tables.push_back({"moods", ""});
  Install(spec_);
  EXPECT_EQ(Read("SELECT pgtier.shadow_type_in_reach('apart.mood'::regtype)"), "f\n");
  Run("GRANT USAGE ON SCHEMA apart TO pgtier_shadow");
  auto worker = Begin();
  Await("asleep", [&] { return Asleep(); });
  Signal(*worker, SIGSTOP);
  Run("INSERT INTO moods VALUES (1, '{fine}')");
  Run("INSERT INTO t VALUES (1, 5)");
  EXPECT_EQ(Read("SELECT count(*) FROM pgtier.outbox_2"), "0\n");
  Run("REVOKE USAGE ON SCHEMA apart FROM pgtier_shadow");
  Signal(*worker, SIGCONT);
  AwaitRows(1);
  Await("the other", [&] { return Read("SELECT count(*) FROM pgtier.shadow_dead_letters") == "1\n"; });
  EXPECT_EQ(Read("SELECT source, error FROM pgtier.shadow_dead_letters"),
            "public.moods|permission denied for schema apart\n");
}

TEST_F(Payload, AValueThatLostItsPlaceInTheHistoryIsADeadLetter) {
  Run("CREATE TABLE docs (id integer PRIMARY KEY, v text)");
  spec_.tables.push_back({"docs", ""});
  Install(spec_);
  auto worker = Begin();
  Await("asleep", [&] { return Asleep(); });
  Signal(*worker, SIGSTOP);
  Run("INSERT INTO docs VALUES (1, 'kept')");
  Run("CREATE TABLE docs_as_json (n bigserial PRIMARY KEY, old_row jsonb, new_row jsonb)");
  spec_.tables.back().history = "docs_as_json";
  Install(spec_);
  Signal(*worker, SIGCONT);
  Run("INSERT INTO docs VALUES (2, 'sent')");
  Await("the second", [&] { return Read("SELECT new_row ->> 'id' FROM docs_as_json") == "2\n"; });
  Await("the first", [&] { return Read("SELECT count(*) FROM pgtier.shadow_dead_letters") == "1\n"; });
  EXPECT_EQ(Read("SELECT convert_from(payload, 'UTF8')::json ->> 'n2' FROM pgtier.shadow_dead_letters"), "kept\n");
}

TEST_F(Payload, OnlyWhoMayWriteRowsIsWaitedFor) {
  auto other = Open();
  Run(other, "BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE; LOCK TABLE t IN SHARE MODE");
  EXPECT_EQ(Read("SELECT cardinality(pgtier.shadow_payload_writers('data/audit'))"), "0\n");
  Run(other, "INSERT INTO t VALUES (1, 5)");
  EXPECT_EQ(Read("SELECT cardinality(pgtier.shadow_payload_writers('data/audit'))"), "1\n");
}

TEST_F(Payload, TheSecondWorkerListensWhenTheFirstIsGone) {
  auto first = Begin();
  auto second = StartWorker();
  Await("two", [&] {
    return Read("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgtier-payload-1'") == "2\n";
  });
  Run("INSERT INTO t VALUES (1, 0)");
  AwaitRows(1);
  EXPECT_EQ(Terminate(*first), 0);
  AwaitListening();
  Run("INSERT INTO t VALUES (2, 0)");
  AwaitRows(2);
  EXPECT_EQ(Read("SELECT count(DISTINCT position) FROM t_history"), "2\n");
  EXPECT_EQ(Gaps(), "0\n") << Log();
  EXPECT_EQ(Terminate(*second), 0);
}

}  // namespace
}  // namespace pgtier
