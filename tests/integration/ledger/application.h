// An application that knows what it did: the ledger that the histories are held against.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "lib/postgres/connection.h"

namespace pgtier::testing {

// The six tables of ADR-0063, of different shapes; (id, uid, ver) are in all of them. `uid` names a row for good, `ver`
// counts its changes: a history that is in order shows them without a gap.
inline constexpr const char* kLedgerTables[] = {"customers", "subscriptions", "positions",
                                                "trades",    "sessions",      "passkeys"};
inline constexpr const char* kLedgerSchema =
    "CREATE TABLE customers (id bigint PRIMARY KEY, uid bigint, ver bigint, note text);"
    "CREATE TABLE subscriptions (uid bigint, id bigint, ver bigint, plan text DEFAULT 'p', PRIMARY KEY (uid, id));"
    "CREATE TABLE positions (id bigint PRIMARY KEY, uid bigint, ver bigint, tags text[],"
    "  twice bigint GENERATED ALWAYS AS (id * 2) STORED);"
    "CREATE TABLE trades (id bigint, uid bigint, ver bigint, part integer DEFAULT 0, doc jsonb DEFAULT '{\"a\": 1}',"
    "  PRIMARY KEY (id, uid, part)) PARTITION BY LIST (part);"
    "CREATE TABLE trades_0 PARTITION OF trades FOR VALUES IN (0);"
    "CREATE TABLE trades_1 PARTITION OF trades FOR VALUES IN (1);"
    "CREATE TABLE sessions (id bigint, uid bigint, ver bigint);"
    "CREATE TABLE passkeys (id bigint PRIMARY KEY, uid bigint, ver bigint, raw bytea DEFAULT '\\x00ff');"
    "CREATE TABLE commits (id bigint PRIMARY KEY)";
inline constexpr int kLedgerHotRows = 30;  // a table; all writers change these
inline constexpr const char* kLedgerActor = "app.actor";

// For a statement: nothing that is only stopped for a while takes so long.
inline Deadline Patience() { return Deadline::After(std::chrono::seconds(60)); }

struct Ledger {
  std::mutex mutex;
  std::vector<std::string> events;  // of committed transactions: "trades|UPDATE|id|uid|ver|old id|old ver|actor"
  std::map<int64_t, std::vector<std::string>> unknown;  // by transaction: whether it committed is not known
  std::atomic<int64_t> transactions = 0, failures = 0;
  std::map<std::string, int> did;  // how often a committed transaction did it: "COPY", "TRUNCATE", "PREPARE", …
};

struct ApplicationOptions {
  bool prepare = false;   // the server takes prepared transactions
  int pause_ms = 200;     // at most, between transactions
  int patience_ms = 300;  // for which a long transaction rests at most
  bool tires = true;      // works slower and slower
};

// One client: random transactions until `stop`, over lost connections too. `server`: where the tables are, and as who;
// `number`: no other client's.
class Application {
 public:
  Application(postgres::ConnectOptions server, Ledger& ledger, unsigned seed, int number, ApplicationOptions options)
      : server_(std::move(server)),
        ledger_(ledger),
        random_(seed),
        number_(number),
        next_(int64_t{number} << 32),
        options_(options) {}

  void Run(const std::atomic<bool>& stop);

 private:
  Status Transaction(postgres::Connection& connection);
  Status Changes(postgres::Connection& connection);
  Status End(postgres::Connection& connection, int64_t transaction);
  Status Change(postgres::Connection& connection);
  Status Move(postgres::Connection& connection, const std::string& uid);
  Status Empty(postgres::Connection& connection, const std::string& table);
  Status Copy(postgres::Connection& connection, const std::string& table);
  // Runs it and notes an event for each row that it returns (id, uid, ver). `id_grew`: by how much an UPDATE changed
  // the id.
  Status Do(postgres::Connection& connection, const std::string& table, const std::string& operation,
            const std::string& sql, int64_t id_grew = 0);
  Status Execute(postgres::Connection& connection, const std::string& sql) const;
  void Resolve(postgres::Connection& connection) const;
  void Note(const std::string& line) { events_.push_back(line + "|" + (actor_.empty() ? "-" : actor_)); }
  int Roll(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }
  void Rest(int most_ms);

  const postgres::ConnectOptions server_;
  Ledger& ledger_;
  std::mt19937 random_;
  int number_;
  int64_t next_;  // numbers of new rows and transactions
  ApplicationOptions options_;
  std::string actor_;  // as the transaction has set it
  std::vector<std::string> events_;
  std::map<std::string, int> did_;
};

}  // namespace pgtier::testing
