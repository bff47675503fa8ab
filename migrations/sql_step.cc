// A statement of somebody's own.
#include <algorithm>
#include <cctype>
#include <regex>

#include "lib/postgres/quote.h"
#include "migrations/steps.h"

namespace pgtier::migrations {
namespace {

constexpr size_t kSqlShown = 200;

std::string Shown(const std::string& sql) {
  std::string line;
  for (char c : sql.substr(0, kSqlShown)) line += std::isspace(static_cast<unsigned char>(c)) != 0 ? ' ' : c;
  return line + (sql.size() > kSqlShown ? " …" : "");
}

class Sql final : public Step {
 public:
  Sql(std::string sql, bool transaction) : sql_(std::move(sql)), transaction_(transaction) {
    if (!transaction_) index_ = ParseConcurrentIndex(sql_);
  }

  Result<std::vector<std::string>> Plan(postgres::Connection& connection, Deadline deadline) override {
    if (index_.has_value()) return PlanIndex(connection, *index_, deadline);
    std::string lock = LockOfStatement(sql_);
    return std::vector<std::string>{
        std::string("runs ") + (transaction_ ? "in a transaction: " : "outside of a transaction: ") + Shown(sql_),
        lock.empty() ? "which locks it takes is not known" : "takes " + lock};
  }

  Result<Progress> Advance(postgres::Connection& connection, StepState& state, const SaveCheckpoint& save,
                           Deadline deadline) override {
    if (index_.has_value()) return BuildIndex(connection, *index_, deadline);
    Progress progress;
    progress.done = true;
    if (!transaction_) {
      PGTIER_RETURN_IF_ERROR(connection.Query(sql_, deadline));
      return progress;
    }
    PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
    // The extended protocol takes one statement and no more.
    PGTIER_RETURN_IF_ERROR(connection.Query(sql_, deadline));
    if (!connection.InTransaction()) {
      return MakeError(Code::kInvalidArgument, "the statement has ended the transaction that it runs in");
    }
    // Done and what it did are one commit.
    PGTIER_RETURN_IF_ERROR(save(state, progress, deadline));
    PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
    return progress;
  }

 private:
  std::string sql_;
  bool transaction_;
  std::optional<ConcurrentIndex> index_;
};

class Verify final : public Step {
 public:
  Verify(std::string query, std::string expect) : query_(std::move(query)), expect_(std::move(expect)) {}

  Result<std::vector<std::string>> Plan(postgres::Connection&, Deadline) override {
    return std::vector<std::string>{"asks, read-only, and expects " + expect_ + ": " + Shown(query_),
                                    "takes ACCESS SHARE locks"};
  }

  Result<Progress> Advance(postgres::Connection& connection, StepState&, const SaveCheckpoint&,
                           Deadline deadline) override {
    PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline, "READ ONLY"));
    PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(query_, deadline));
    PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
    if (rows.size() != 1 || rows.columns() != 1) {
      return MakeError(Code::kInvalidArgument, "VerifyFailed: the query gives " + std::to_string(rows.size()) +
                                                   " rows of " + std::to_string(rows.columns()) +
                                                   " columns; it must give one value");
    }
    std::string found(rows[0].Text(0).value_or("NULL"));
    if (found != expect_) {
      return MakeError(Code::kFailedPrecondition,
                       "VerifyFailed: the query gives " + Shown(found) + ", and " + expect_ + " is expected");
    }
    Progress progress;
    progress.done = true;
    return progress;
  }

 private:
  std::string query_, expect_;
};

}  // namespace

std::string LockOfStatement(std::string_view sql) {
  std::string words;
  for (char c : sql.substr(0, kSqlShown)) {
    auto byte = static_cast<unsigned char>(c);
    bool space = std::isspace(byte) != 0;
    if (space && (words.empty() || words.back() == ' ')) continue;
    words += space ? ' ' : static_cast<char>(std::toupper(byte));
  }
  std::string all;
  for (char c : sql) all += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  bool concurrently = words.find(" CONCURRENTLY") != std::string::npos;
  // PostgreSQL, "Explicit Locking", and the pages of the statements.
  if (words.starts_with("CREATE INDEX") || words.starts_with("CREATE UNIQUE INDEX")) {
    return concurrently ? "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on"
                        : "SHARE on the table: writes wait; step createIndex makes them wait for nothing";
  }
  if (words.starts_with("DROP INDEX") && concurrently) {
    return "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on";
  }
  if (words.starts_with("ALTER TABLE")) {
    if (all.find("VALIDATE CONSTRAINT") != std::string::npos || all.find("SET STATISTICS") != std::string::npos) {
      return "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on";
    }
    return "ACCESS EXCLUSIVE on the table: reads and writes wait while it runs";
  }
  for (const char* word : {"DROP", "TRUNCATE", "REINDEX", "CLUSTER", "VACUUM FULL"}) {
    if (words.starts_with(word)) return "ACCESS EXCLUSIVE on what it names: reads and writes wait while it runs";
  }
  for (const char* word : {"UPDATE", "DELETE", "INSERT", "MERGE"}) {
    if (words.starts_with(word)) {
      return "ROW EXCLUSIVE on the table, and its rows until it has ended: step backfill does it in batches";
    }
  }
  for (const char* word : {"SELECT", "CREATE TABLE", "CREATE FUNCTION", "CREATE OR REPLACE", "COMMENT", "GRANT"}) {
    if (words.starts_with(word)) return "no lock that holds up reads or writes of a table that is there";
  }
  for (const char* word : {"ANALYZE", "VACUUM"}) {
    if (words.starts_with(word)) return "SHARE UPDATE EXCLUSIVE on the table: reads and writes go on";
  }
  return "";
}

Result<std::string> QuoteTable(const postgres::Connection& connection, const std::string& table) {
  size_t dot = table.find('.');
  if (dot == std::string::npos) return postgres::QuoteQualified(connection, "public", table);
  return postgres::QuoteQualified(connection, table.substr(0, dot), table.substr(dot + 1));
}

Result<std::unique_ptr<Step>> MakeSql(const StepConfig& step) {
  std::optional<Error> error;
  settings::JsonReader field(step.definition, "step " + step.name + ": ", &error);
  std::string sql;
  bool transaction = true;
  field.Text("sql", sql, true);
  field.Flag("transaction", transaction);
  if (error.has_value()) return *std::move(error);
  // A trailing semicolon is no second statement.
  while (!sql.empty() && (std::isspace(static_cast<unsigned char>(sql.back())) != 0 || sql.back() == ';')) {
    sql.pop_back();
  }
  return std::unique_ptr<Step>(std::make_unique<Sql>(std::move(sql), transaction));
}

Result<std::unique_ptr<Step>> MakeVerify(const StepConfig& step) {
  std::optional<Error> error;
  settings::JsonReader root(step.definition, "step " + step.name + ": ", &error);
  settings::JsonReader field = root.Object("verify", true);
  std::string query;
  std::string expect;
  field.Text("query", query, true);
  field.Text("expect", expect, true);
  if (error.has_value()) return *std::move(error);
  return std::unique_ptr<Step>(std::make_unique<Verify>(std::move(query), std::move(expect)));
}

std::map<std::string, MakeStep> BuiltInSteps() {
  return {{"sql", MakeSql}, {"createIndex", MakeCreateIndex}, {"backfill", MakeBackfill}, {"verify", MakeVerify}};
}

}  // namespace pgtier::migrations
