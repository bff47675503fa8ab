#include "tests/integration/shadow/ledger_writer.h"

#include <thread>

namespace pgtier::testing {
namespace {

Deadline Limit() { return Deadline::After(std::chrono::seconds(60)); }

}  // namespace

Status LedgerWriter::Do(postgres::Connection& connection, const std::string& table, const std::string& operation,
                        const std::string& sql, const std::string& old_id) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(sql, Limit()));
  for (const auto& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<int64_t>("id"));
    PGTIER_ASSIGN_OR_RETURN(auto ver, row.Get<int64_t>("ver"));
    std::string before = "-|-";
    if (operation == "UPDATE") {
      before = std::to_string(old_id.empty() ? id : id - std::stoll(old_id)) + "|" + std::to_string(ver - 1);
    }
    events_.push_back(table + "|" + operation + "|" + std::to_string(id) + "|" + std::string(*row.Text("uid")) + "|" +
                      std::to_string(ver) + "|" + before);
  }
  return {};
}

Status LedgerWriter::Copy(postgres::Connection& connection, const std::string& table) {
  PGTIER_ASSIGN_OR_RETURN(auto copy,
                          postgres::CopyIn::Begin(connection, "COPY " + table + " (id, uid, ver) FROM STDIN", Limit()));
  std::string data;
  int rows = 1 + Roll(200);
  for (int i = 0; i < rows; ++i) {
    std::string id = std::to_string(++next_);
    data += id + "\t" + id + "\t1\n";
    events_.push_back(table + "|INSERT|" + id + "|" + id + "|1|-|-");
  }
  PGTIER_RETURN_IF_ERROR(copy.Write(data, Limit()));
  PGTIER_RETURN_IF_ERROR(copy.Finish(Limit()));
  return {};
}

Status LedgerWriter::Change(postgres::Connection& connection) {
  std::string table = kLedgerTables[Roll(6)];
  std::string uid = std::to_string(1 + Roll(kLedgerHotRows));
  int what = Roll(100);
  if (what < 30) {
    std::string id = std::to_string(++next_);
    return Do(connection, table, "INSERT",
              "INSERT INTO " + table + " (id, uid, ver) VALUES (" + id + ", " + id + ", 1) RETURNING id, uid, ver", "");
  }
  if (what < 65) {
    return Do(connection, table, "UPDATE",
              "UPDATE " + table + " SET ver = ver + 1 WHERE uid = " + uid + " RETURNING id, uid, ver", "");
  }
  if (what < 75) {  // another key
    return Do(connection, table, "UPDATE",
              "UPDATE " + table + " SET ver = ver + 1, id = id + 100 WHERE uid = " + uid + " RETURNING id, uid, ver",
              "100");
  }
  if (what < 80) {  // several rows at once
    return Do(connection, table, "UPDATE",
              "UPDATE " + table + " SET ver = ver + 1 WHERE uid BETWEEN " + uid + " AND " + uid +
                  " + 4 RETURNING id, uid, ver",
              "");
  }
  if (what < 92) {  // a row goes and comes again
    size_t before = events_.size();
    PGTIER_RETURN_IF_ERROR(Do(connection, table, "DELETE",
                              "DELETE FROM " + table + " WHERE uid = " + uid + " RETURNING id, uid, ver", ""));
    if (events_.size() == before) return {};
    std::string gone = events_.back();
    std::string ver = gone.substr(0, gone.size() - 4);  // without "|-|-"
    ver = ver.substr(ver.rfind('|') + 1);
    return Do(connection, table, "INSERT",
              "INSERT INTO " + table + " (id, uid, ver) VALUES (" + uid + ", " + uid + ", " + ver +
                  " + 1) RETURNING id, uid, ver",
              "");
  }
  return Copy(connection, table);
}

Status LedgerWriter::Transaction(postgres::Connection& connection) {
  events_.clear();
  int64_t number = ++next_;
  PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, Limit()));
  PGTIER_RETURN_IF_ERROR(connection.Query("INSERT INTO commits VALUES (" + std::to_string(number) + ")", Limit()));
  int changes = 1 + Roll(5);
  for (int i = 0; i < changes; ++i) {
    bool savepoint = Roll(4) == 0;
    size_t mark = events_.size();
    if (savepoint) PGTIER_RETURN_IF_ERROR(connection.Execute("SAVEPOINT s", Limit()));
    PGTIER_RETURN_IF_ERROR(Change(connection));
    if (savepoint && Roll(2) == 0) {
      PGTIER_RETURN_IF_ERROR(connection.Execute("ROLLBACK TO SAVEPOINT s", Limit()));
      events_.resize(mark);
    }
    if (Roll(60) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300 + Roll(900)));  // a long one
  }
  if (Roll(10) == 0) return transaction.Rollback(Limit());
  Status committed = transaction.Commit(Limit());
  std::lock_guard lock(ledger_.mutex);
  if (committed.has_value()) {
    ledger_.events.insert(ledger_.events.end(), events_.begin(), events_.end());
    ++ledger_.transactions;
  } else if (!connection.Usable()) {
    ledger_.unknown[number] = events_;
  }
  return committed;
}

void LedgerWriter::Run(const std::atomic<bool>& stop) {
  while (!stop) {
    auto connection = server_.Connect(database_);
    while (!stop && connection.has_value() && connection->Usable()) {
      if (!Transaction(*connection).has_value()) ++ledger_.failures;
      std::this_thread::sleep_for(std::chrono::milliseconds(Roll(20)));
    }
    if (!stop && !connection.has_value()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace pgtier::testing
