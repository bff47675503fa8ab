// Our decoder of pgoutput against the server's own test_decoding, on the same changes: all types, DDL between,
// savepoints, streamed and rolled back transactions. test_decoding's text is read into the same lines.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "lib/postgres/catalogue.h"
#include "tests/integration/pgoutput/reader.h"

namespace pgtier::testing {
namespace {

// A name as quote_identifier() prints it, at the beginning of `rest`.
std::string TakeName(std::string_view& rest) {
  std::string name;
  if (!rest.starts_with('"')) {
    size_t end = rest.find_first_of(".[:, ");
    name = rest.substr(0, end);
    rest.remove_prefix(std::min(end, rest.size()));
    return name;
  }
  rest.remove_prefix(1);
  while (!rest.empty()) {
    char c = rest.front();
    rest.remove_prefix(1);
    if (c == '"') {
      if (!rest.starts_with('"')) break;
      rest.remove_prefix(1);
    }
    name += c;
  }
  return name;
}

// The literal at the beginning: 'it''s', B'101', or a word.
std::string TakeLiteral(std::string_view& rest, const std::string& type) {
  if (rest.starts_with("B'")) rest.remove_prefix(1);
  if (!rest.starts_with('\'')) {
    std::string word(rest.substr(0, rest.find(' ')));
    rest.remove_prefix(word.size());
    if (word == "null" || word == "unchanged-toast-datum") return word;
    if (type == "boolean") word = word.substr(0, 1);
    return "'" + word + "'";
  }
  rest.remove_prefix(1);
  std::string text;
  while (!rest.empty()) {
    char c = rest.front();
    rest.remove_prefix(1);
    if (c == '\'') {
      if (!rest.starts_with('\'')) break;
      rest.remove_prefix(1);
    }
    text += c;
  }
  return "'" + text + "'";
}

// pgoutput has no generated columns; the test calls all of its own "generated…".
std::string TakeColumns(std::string_view& rest) {
  std::string out;
  while (!rest.empty() && !rest.starts_with("new-tuple:") && !rest.starts_with("(no-tuple-data)")) {
    std::string name = TakeName(rest);
    rest.remove_prefix(1);
    size_t end = rest.find("]:");
    std::string type(rest.substr(0, end));
    rest.remove_prefix(end + 2);
    std::string value = TakeLiteral(rest, type);
    if (rest.starts_with(' ')) rest.remove_prefix(1);
    if (!name.starts_with("generated")) out += " " + name + "=" + value;
  }
  return out;
}

std::vector<std::string> FromTestDecoding(const std::string& text) {
  std::string_view rest = text;
  if (text.starts_with("BEGIN")) return {"BEGIN"};
  if (text.starts_with("COMMIT")) return {"COMMIT"};
  if (text.starts_with("message: ")) {
    size_t prefix = text.find("prefix: ") + 8;
    return {"message " + text.substr(prefix, text.find(", sz:") - prefix) + "=" +
            text.substr(text.find("content:") + 8)};
  }
  rest.remove_prefix(std::string_view("table ").size());
  std::vector<std::string> tables;
  while (true) {
    std::string table = TakeName(rest);
    rest.remove_prefix(1);
    tables.push_back(table + "." + TakeName(rest));
    if (!rest.starts_with(", ")) break;
    rest.remove_prefix(2);
  }
  rest.remove_prefix(2);
  if (rest.starts_with("TRUNCATE")) {
    for (auto& table : tables) table += " T";
    return tables;
  }
  std::string line = tables[0] + " " + rest.front();
  rest.remove_prefix(std::min<size_t>(8, rest.size()));  // "INSERT: "; a row of NULLs alone leaves no space
  if (rest.starts_with("old-key: ")) {
    rest.remove_prefix(9);
    line += " old:" + TakeColumns(rest);
    rest.remove_prefix(11);  // "new-tuple: "
    line += " new:" + TakeColumns(rest);
  } else if (line.back() == 'D') {
    line += " old:" + TakeColumns(rest);
  } else {
    line += " new:" + TakeColumns(rest);
  }
  return {line};
}

class DecodingTest : public WithServer {
 protected:
  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped()) return;
    sql_.emplace(Connect());
    for (const char* plugin : {"test_decoding", "pgoutput"}) {
      Run("SELECT pg_create_logical_replication_slot('" + std::string(plugin) + "', '" + plugin + "')");
    }
    Run("CREATE PUBLICATION everything FOR ALL TABLES");
  }
  void TearDown() override {
    if (!sql_.has_value()) return;
    Run("DROP PUBLICATION everything");
    Run("SELECT pg_drop_replication_slot('test_decoding'), pg_drop_replication_slot('pgoutput')");
  }
  void Run(const std::string& sql) {
    auto done = sql_->Execute(sql, Deadline::After(std::chrono::seconds(120)));
    ASSERT_TRUE(done.has_value()) << sql << ": " << done.error().message;
  }

  // Compares what both make of everything so far.
  void Compare() {
    auto rows = sql_->Query(
        "SELECT data FROM pg_logical_slot_peek_changes('test_decoding', NULL, NULL, 'include-xids', '0', "
        "'skip-empty-xacts', '1')",
        Deadline::After(std::chrono::seconds(120)));
    ASSERT_TRUE(rows.has_value()) << rows.error().message;
    std::vector<std::string> expected;
    for (auto row : *rows) {
      for (auto& line : FromTestDecoding(*row.Get<std::string>("data"))) expected.push_back(std::move(line));
    }
    ASSERT_GT(expected.size(), 10U);
    postgres::Lsn until = *postgres::CurrentLsn(*sql_, Soon());
    // Something after it for the walsender to pass.
    Run("SELECT pg_logical_emit_message(false, 'after', 'x', true)");

    ReadOptions options;
    options.slot = "pgoutput";
    options.publication = "everything";
    options.protocol = "1";
    Lines whole = ReadSlot(server(), options, until);
    ExpectSame(expected, whole.lines, "whole");
    EXPECT_EQ(whole.streamed, 0);

    options.protocol = "2";
    options.streaming = "on";
    options.session = "-c logical_decoding_work_mem=64kB";
    Lines streamed = ReadSlot(server(), options, until);
    ExpectSame(expected, streamed.lines, "streamed above 64 kB");
    EXPECT_EQ(streamed.keys, whole.keys) << "a change has the same key, however it comes";

    options.session = "-c debug_logical_replication_streaming=immediate";
    Lines immediate = ReadSlot(server(), options, until);
    if (immediate.uncertain == 0) ExpectSame(expected, immediate.lines, "each change streamed");
    EXPECT_GT(immediate.streamed, 0);

    options.protocol = "4";
    options.streaming = "parallel";  // another shape of the abort
    ExpectSame(immediate.lines, ReadSlot(server(), options, until).lines, "parallel");
    uncertain = immediate.uncertain;
    streamed_ = streamed.streamed;
  }
  static void ExpectSame(const std::vector<std::string>& expected, const std::vector<std::string>& found,
                         const std::string& what) {
    size_t at = 0;
    while (at < expected.size() && at < found.size() && expected[at] == found[at]) ++at;
    if (at == expected.size() && at == found.size()) return;
    ADD_FAILURE() << what << ": " << expected.size() << " and " << found.size() << " lines; at " << at << "\n  "
                  << (at < expected.size() ? expected[at] : "the end") << "\n  "
                  << (at < found.size() ? found[at] : "the end");
  }

  std::optional<postgres::Connection> sql_;
  int uncertain = 0, streamed_ = 0;
};

constexpr const char* kTypes = R"(
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy');
CREATE TYPE pair AS (a integer, b text);
CREATE DOMAIN positive AS numeric(12, 3) CHECK (VALUE > 0);
CREATE SCHEMA "My ""Schema""";
CREATE TABLE "My ""Schema"""."T.a,b: [x]" (
  id bigint PRIMARY KEY, i2 smallint, i4 integer, f4 real, f8 double precision, n numeric, d positive, b boolean, t text,
  c char(5), v varchar(9), bin bytea, day date, tm time, tmz timetz, ts timestamp, tsz timestamptz, iv interval,
  u uuid, j json, jb jsonb, x xml, a integer[], ta text[], m mood, ma mood[], p pair, r int4range, mr nummultirange,
  ip inet, net cidr, mac macaddr, pt point, box box, bits bit(3), vb varbit, q tsvector, "Sp ""ace" text, money money,
  o oid, nm name, "char" "char", l pg_lsn, generated_sum bigint GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE "My ""Schema"""."T.a,b: [x]" REPLICA IDENTITY FULL;
CREATE TABLE toasted (id integer PRIMARY KEY, n integer, big text);
ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
CREATE TABLE keyed (id integer, part integer, v text, PRIMARY KEY (id, part));
CREATE TABLE keyless (v text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE changing (id serial PRIMARY KEY, gone text, v text);
)";

TEST_F(DecodingTest, AllTypesAndDdlBetween) {
  Run(kTypes);
  const std::string t = R"("My ""Schema"""."T.a,b: [x]")";
  Run("INSERT INTO " + t +
      R"( VALUES (1, -32768, 2147483647, 'NaN', '-Infinity', 'NaN', 0.001, true, E'it''s\t\\N\n\r"', 'ab',
      'ü€😀', '\x00ff5c', '4713-01-01 BC', '24:00:00', '23:59:59.999999+14', 'infinity', '-infinity', '1 year -2 mons 3 days 04:05:06.7',
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a" : 1}', '{"b": [1, null, "x\"y"]}', '<a>b</a>', '{{1,NULL},{3,4}}',
      ARRAY['a,b', NULL, 'c"d', '', 'NULL', '\'], 'it''s "ok"', '{happy,"it''s \"ok\""}', '(7,"x,""y")', '[1,5)', '{[1,2),(3.5,]}',
      '::1', '10.0.0.0/8', '08:00:2b:01:02:03', '(1.5,-2)', '(1,1),(0,0)', B'101', B'', 'a:1 b:2', 'sp', '-12.34', 4294967295, 'nm', 'x',
      '16/B374D848'))");
  Run("INSERT INTO " + t +
      " (id, f4, f8, n, day, ts, tsz, iv, r) VALUES (2, 'Infinity', 1e-300, 'Infinity', 'infinity', "
      "'0044-03-15 10:00:00 BC', '0001-01-01 00:00:00+00 BC', '-1 days', 'empty'), (3, 1.1, 0.1, 1e-20, '-infinity', "
      "'294276-12-31 23:59:59.999999', now(), '00:00:00', '(,)')");
  Run("UPDATE " + t + " SET t = NULL, a = '{}', i4 = NULL WHERE id = 1; UPDATE " + t + " SET id = id + 10");
  Run("DELETE FROM " + t + " WHERE id > 11");
  // TOAST: values too big for the row, left alone, changed, and read again whole.
  Run("INSERT INTO toasted SELECT i, 0, repeat(md5(i::text), 400) FROM generate_series(1, 5) i");
  Run("UPDATE toasted SET n = n + 1; UPDATE toasted SET big = big || 'x' WHERE id = 2; UPDATE toasted SET id = 9 WHERE "
      "id = 3");
  Run("ALTER TABLE toasted REPLICA IDENTITY FULL; UPDATE toasted SET n = n + 1 WHERE id = 4; DELETE FROM toasted");
  Run("INSERT INTO keyed VALUES (1, 1, 'a'), (2, 2, NULL); UPDATE keyed SET v = 'b'; UPDATE keyed SET part = 5 WHERE "
      "id = 1; "
      "DELETE FROM keyed");
  Run("INSERT INTO keyless VALUES ('x'), (NULL), (''); UPDATE keyless SET v = 'y' WHERE v = 'x'; DELETE FROM keyless");
  // DDL between and inside of transactions.
  Run("INSERT INTO changing (gone, v) VALUES ('g', 'v')");
  Run("BEGIN; INSERT INTO changing (v) VALUES ('before'); ALTER TABLE changing ADD added integer DEFAULT 5; "
      "INSERT INTO changing (v) VALUES ('after'); ALTER TABLE changing DROP gone; UPDATE changing SET v = v || '!'; "
      "ALTER TABLE changing RENAME v TO value; INSERT INTO changing (value) VALUES ('renamed'); COMMIT");
  Run("BEGIN; ALTER TABLE changing ADD never integer; INSERT INTO changing (never) VALUES (1); ROLLBACK");
  Run("INSERT INTO changing (value) VALUES ('without never')");
  Run("BEGIN; SAVEPOINT a; ALTER TABLE changing ALTER added TYPE text; INSERT INTO changing (added) VALUES ('t'); "
      "ROLLBACK TO a; "
      "INSERT INTO changing (added) VALUES (7); COMMIT");
  Run("ALTER TABLE changing ALTER added TYPE text; INSERT INTO changing (added) VALUES ('now text')");
  Run("ALTER TABLE changing RENAME TO changed; INSERT INTO changed (value) VALUES ('of another name'); "
      "ALTER TABLE changed SET SCHEMA \"My \"\"Schema\"\"\"; DELETE FROM \"My \"\"Schema\"\"\".changed");
  Run("TRUNCATE keyed, toasted; INSERT INTO keyed VALUES (1, 1, 'x'); TRUNCATE keyed RESTART IDENTITY CASCADE");
  Run("CREATE TABLE made AS SELECT g AS v FROM generate_series(1, 20) g");
  Compare();
  // A savepoint with DDL was rolled back above, but no message came with it.
  EXPECT_EQ(uncertain, 0);
  Run("DROP SCHEMA \"My \"\"Schema\"\"\" CASCADE; DROP TABLE toasted, keyed, keyless, made; DROP TYPE mood CASCADE; "
      "DROP TYPE pair; DROP DOMAIN positive");
}

TEST_F(DecodingTest, MessagesAndSavepoints) {
  Run("CREATE TABLE noted (id serial PRIMARY KEY, v text)");
  Run("BEGIN; SELECT pg_logical_emit_message(true, 'pgtier.actor', 'ann'); INSERT INTO noted (v) VALUES ('a'); "
      "SAVEPOINT s; "
      "INSERT INTO noted (v) VALUES ('gone'); SAVEPOINT s2; INSERT INTO noted (v) VALUES ('gone too'); RELEASE s2; "
      "ROLLBACK TO s; INSERT INTO noted (v) VALUES ('b'); SAVEPOINT t; INSERT INTO noted (v) VALUES ('kept'); RELEASE "
      "t; COMMIT");
  Run("BEGIN; SELECT pg_logical_emit_message(true, 'pgtier.actor', 'rolled back'); INSERT INTO noted (v) VALUES ('x'); "
      "ROLLBACK");
  Run("INSERT INTO noted (v) SELECT repeat('y', 100) FROM generate_series(1, 3000)");
  Run("BEGIN; INSERT INTO noted (v) SELECT repeat('z', 100) FROM generate_series(1, 3000); ROLLBACK");
  Run("BEGIN; INSERT INTO noted (v) SELECT repeat('1', 100) FROM generate_series(1, 2000); SAVEPOINT s; UPDATE noted "
      "SET v = v || '2'; "
      "ROLLBACK TO s; DELETE FROM noted WHERE id % 2 = 0; COMMIT");
  Compare();
  EXPECT_EQ(uncertain, 1) << "the first, where each change is streamed";
  EXPECT_GE(streamed_, 2);
  Run("DROP TABLE noted");
}

TEST_F(DecodingTest, ManyWritersAtOnce) {
  Run("CREATE TABLE busy (id integer PRIMARY KEY, n integer, v text); ALTER TABLE busy REPLICA IDENTITY FULL; "
      "INSERT INTO busy SELECT i, 0, '' FROM generate_series(1, 40) i");
  std::vector<std::jthread> writers;
  for (unsigned seed = 1; seed <= 4; ++seed) {
    writers.emplace_back([this, seed] {
      auto connection = Connect();
      std::mt19937 random(seed);
      for (int i = 0; i < 40; ++i) {
        std::string sql = "BEGIN;";
        for (unsigned statements = 1 + random() % 6; statements > 0; --statements) {
          // Its own rows, so that nobody waits for another.
          std::string mine = " WHERE id % 4 = " + std::to_string(seed - 1);
          switch (random() % 6) {
            case 0:
              sql += "INSERT INTO busy VALUES (" + std::to_string(1000 * seed + random() % 1000) +
                     ") ON CONFLICT DO NOTHING;";
              break;
            case 1:
              sql += "SAVEPOINT s; UPDATE busy SET v = repeat('x', 2000)" + mine + "; ROLLBACK TO s;";
              break;
            case 2:
              sql += "SAVEPOINT s; UPDATE busy SET v = repeat('k', 500), n = n + 1" + mine + "; RELEASE s;";
              break;
            case 3:
              sql += "DELETE FROM busy" + mine + " AND id > 1000 AND n % 2 = 0;";
              break;
            default:
              sql += "UPDATE busy SET n = n + 1" + mine + ";";
          }
        }
        sql += random() % 5 == 0 ? "ROLLBACK" : "COMMIT";
        EXPECT_TRUE(connection.Execute(sql, Soon()).has_value()) << sql;
      }
    });
  }
  writers.clear();
  Compare();
  EXPECT_GT(streamed_, 0);
  Run("DROP TABLE busy");
}

}  // namespace
}  // namespace pgtier::testing
