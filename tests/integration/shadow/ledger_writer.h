// An application that knows what it did: the ledger that a history is held against.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/integration/postgres/local_server.h"

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
    "CREATE TABLE trades (id bigint, uid bigint, ver bigint, doc jsonb DEFAULT '{\"a\": 1}', PRIMARY KEY (id, uid))"
    "  PARTITION BY HASH (uid);"
    "CREATE TABLE trades_0 PARTITION OF trades FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
    "CREATE TABLE trades_1 PARTITION OF trades FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
    "CREATE TABLE sessions (id bigint, uid bigint, ver bigint);"
    "CREATE TABLE passkeys (id bigint PRIMARY KEY, uid bigint, ver bigint, raw bytea DEFAULT '\\x00ff');"
    "CREATE TABLE commits (id bigint PRIMARY KEY)";
inline constexpr int kLedgerHotRows = 30;  // a table; all writers change these

struct Ledger {
  std::mutex mutex;
  std::vector<std::string> events;                      // of committed transactions: "trades|UPDATE|id|uid|ver|…"
  std::map<int64_t, std::vector<std::string>> unknown;  // by transaction: whether it committed is not known
  std::atomic<int64_t> transactions = 0, failures = 0;
};

// One client: random transactions until `stop`, over lost connections too.
class LedgerWriter {
 public:
  LedgerWriter(const LocalPostgres& server, std::string database, Ledger& ledger, unsigned seed, int number)
      : server_(server), database_(std::move(database)), ledger_(ledger), random_(seed), next_(int64_t{number} << 32) {}

  void Run(const std::atomic<bool>& stop);

 private:
  Status Transaction(postgres::Connection& connection);
  Status Change(postgres::Connection& connection);
  Status Copy(postgres::Connection& connection, const std::string& table);
  // Runs it and notes an event for each row that it returns (id, uid, ver).
  Status Do(postgres::Connection& connection, const std::string& table, const std::string& operation,
            const std::string& sql, const std::string& old_id);
  int Roll(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

  const LocalPostgres& server_;
  std::string database_;
  Ledger& ledger_;
  std::mt19937 random_;
  int64_t next_;  // numbers of new rows and transactions
  std::vector<std::string> events_;
};

}  // namespace pgtier::testing
