#include "tests/integration/ledger/application.h"

#include <thread>

namespace pgtier::testing {
void Application::Rest(int most_ms) { std::this_thread::sleep_for(std::chrono::milliseconds(Roll(most_ms + 1))); }

Status Application::Execute(postgres::Connection& connection, const std::string& sql) const {
  PGTIER_RETURN_IF_ERROR(connection.Execute(sql, Patience()));
  return {};
}

Status Application::Do(postgres::Connection& connection, const std::string& table, const std::string& operation,
                       const std::string& sql, int64_t id_grew) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(sql + " RETURNING id, uid, ver", Patience()));
  for (const auto& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<int64_t>("id"));
    PGTIER_ASSIGN_OR_RETURN(auto ver, row.Get<int64_t>("ver"));
    std::string before = "-|-";
    if (operation == "UPDATE") before = std::to_string(id - id_grew) + "|" + std::to_string(ver - 1);
    Note(table + "|" + operation + "|" + std::to_string(id) + "|" + std::string(*row.Text("uid")) + "|" +
         std::to_string(ver) + "|" + before);
  }
  return {};
}

Status Application::Copy(postgres::Connection& connection, const std::string& table) {
  PGTIER_ASSIGN_OR_RETURN(
      auto copy, postgres::CopyIn::Begin(connection, "COPY " + table + " (id, uid, ver) FROM STDIN", Patience()));
  ++did_["COPY"];
  std::string data;
  // Sometimes more than decoding keeps in memory: it is streamed then.
  for (int rows = 1 + Roll(Roll(12) == 0 ? 900 : 30); rows > 0; --rows) {
    std::string id = std::to_string(++next_);
    data += id + "\t" + id + "\t1\n";
    Note(table + "|INSERT|" + id + "|" + id + "|1|-|-");
  }
  PGTIER_RETURN_IF_ERROR(copy.Write(data, Patience()));
  PGTIER_RETURN_IF_ERROR(copy.Finish(Patience()));
  return {};
}

// To another part: a row goes and a row comes.
Status Application::Move(postgres::Connection& connection, const std::string& uid) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query("UPDATE trades SET ver = ver + 1, part = 1 - part WHERE uid = " + uid + " RETURNING id, ver",
                       Patience()));
  for (const auto& row : rows) {
    ++did_["move"];
    PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<std::string>("id"));
    PGTIER_ASSIGN_OR_RETURN(auto ver, row.Get<int64_t>("ver"));
    Note("trades|DELETE|" + id + "|" + uid + "|" + std::to_string(ver - 1) + "|-|-");
    Note("trades|INSERT|" + id + "|" + uid + "|" + std::to_string(ver) + "|-|-");
  }
  return {};
}

// TRUNCATE; the rows that all writers know come again.
Status Application::Empty(postgres::Connection& connection, const std::string& table) {
  PGTIER_RETURN_IF_ERROR(Execute(connection, "SET LOCAL lock_timeout = '200ms'; LOCK TABLE " + table));
  PGTIER_ASSIGN_OR_RETURN(
      auto hot, connection.Query("SELECT string_agg(format('(%s, %s, %s)', uid, uid, ver + 1), ', ') FROM " + table +
                                     " WHERE uid <= " + std::to_string(kLedgerHotRows),
                                 Patience()));
  PGTIER_RETURN_IF_ERROR(Execute(connection, "TRUNCATE " + table));
  ++did_["TRUNCATE"];
  for (int leaf = 0; leaf < (table == "trades" ? 2 : 1); ++leaf) Note(table + "|TRUNCATE|-|-|-|-|-");
  PGTIER_ASSIGN_OR_RETURN(auto rows, hot[0].Find<std::string>(0));
  if (!rows.has_value()) return {};
  return Do(connection, table, "INSERT", "INSERT INTO " + table + " (id, uid, ver) VALUES " + *rows);
}

Status Application::Change(postgres::Connection& connection) {
  std::string table = kLedgerTables[Roll(6)];
  std::string uid = std::to_string(1 + Roll(kLedgerHotRows));
  int what = Roll(1000);
  if (what < 300) {
    std::string id = std::to_string(++next_);
    return Do(connection, table, "INSERT",
              "INSERT INTO " + table + " (id, uid, ver) VALUES (" + id + ", " + id + ", 1)");
  }
  if (what < 600) {
    return Do(connection, table, "UPDATE", "UPDATE " + table + " SET ver = ver + 1 WHERE uid = " + uid);
  }
  if (what < 700) {  // another key
    return Do(connection, table, "UPDATE", "UPDATE " + table + " SET ver = ver + 1, id = id + 100 WHERE uid = " + uid,
              100);
  }
  if (what < 760) {  // several rows at once
    return Do(connection, table, "UPDATE",
              "UPDATE " + table + " SET ver = ver + 1 WHERE uid BETWEEN " + uid + " AND " + uid + " + 4");
  }
  if (what < 800) return Move(connection, uid);
  if (what < 810) return Empty(connection, table);
  if (what < 960) {  // a row goes and comes again
    size_t before = events_.size();
    PGTIER_RETURN_IF_ERROR(Do(connection, table, "DELETE", "DELETE FROM " + table + " WHERE uid = " + uid));
    if (events_.size() == before) return {};
    std::string ver = events_.back();
    for (int bar = 0; bar < 3; ++bar) ver.resize(ver.rfind('|'));  // without the values before, and the actor
    ver = ver.substr(ver.rfind('|') + 1);
    return Do(connection, table, "INSERT",
              "INSERT INTO " + table + " (id, uid, ver) VALUES (" + uid + ", " + uid + ", " + ver + " + 1)");
  }
  return Copy(connection, table);
}

Status Application::Changes(postgres::Connection& connection) {
  for (int left = 1 + Roll(5); left > 0; --left) {
    bool savepoint = Roll(4) == 0;
    size_t mark = events_.size();
    std::string actor = actor_;
    if (savepoint) PGTIER_RETURN_IF_ERROR(Execute(connection, "SAVEPOINT s"));
    if (Roll(3) == 0) {
      actor_ = Roll(3) == 0 ? "" : "actor " + std::to_string(Roll(3));
      PGTIER_RETURN_IF_ERROR(Execute(connection, std::string("SET LOCAL ") + kLedgerActor + " = '" + actor_ + "'"));
    }
    PGTIER_RETURN_IF_ERROR(Change(connection));
    if (savepoint && Roll(2) == 0) {
      ++did_["ROLLBACK TO SAVEPOINT"];
      PGTIER_RETURN_IF_ERROR(Execute(connection, "ROLLBACK TO SAVEPOINT s"));
      events_.resize(mark);
      actor_ = actor;
    } else if (savepoint) {
      PGTIER_RETURN_IF_ERROR(Execute(connection, "RELEASE SAVEPOINT s"));
    }
    if (Roll(60) == 0) {  // a long one
      ++did_["long"];
      Rest(options_.patience_ms);
    }
  }
  return {};
}

// COMMIT, sometimes in two phases, sometimes not at all.
Status Application::End(postgres::Connection& connection, int64_t transaction) {
  if (Roll(10) == 0) {
    PGTIER_RETURN_IF_ERROR(Execute(connection, "ROLLBACK"));
    return MakeError(Code::kAborted, "rolled back");
  }
  if (!options_.prepare || Roll(8) != 0) return Execute(connection, "COMMIT");
  const std::string name =
      "'" + server_.database + " " + std::to_string(number_) + " " + std::to_string(transaction) + "'";
  PGTIER_RETURN_IF_ERROR(Execute(connection, "PREPARE TRANSACTION " + name));
  Rest(options_.patience_ms / 3);
  const bool commit = Roll(5) != 0;
  ++did_["PREPARE"];
  PGTIER_RETURN_IF_ERROR(Execute(connection, (commit ? "COMMIT PREPARED " : "ROLLBACK PREPARED ") + name));
  if (!commit) return MakeError(Code::kAborted, "rolled back");
  return {};
}

Status Application::Transaction(postgres::Connection& connection) {
  events_.clear();
  did_.clear();
  actor_.clear();
  int64_t number = ++next_;
  Status done = Execute(connection, "BEGIN; INSERT INTO commits VALUES (" + std::to_string(number) + ")");
  if (done.has_value()) done = Changes(connection);
  if (done.has_value()) {
    done = End(connection, number);
  } else if (connection.Usable()) {
    std::ignore = Execute(connection, "ROLLBACK");
    return done;
  }
  std::lock_guard lock(ledger_.mutex);
  if (done.has_value()) {
    ledger_.events.insert(ledger_.events.end(), events_.begin(), events_.end());
    ++ledger_.transactions;
    for (const auto& [what, times] : did_) ledger_.did[what] += times;
  } else if (!connection.Usable()) {
    ledger_.unknown[number] = events_;
  }
  return done;
}

// Prepared transactions outlive their client: one that comes back ends those that it left.
void Application::Resolve(postgres::Connection& connection) const {
  auto left = connection.Query("SELECT format('COMMIT PREPARED %L', gid) FROM pg_prepared_xacts WHERE gid LIKE $1",
                               {server_.database + " " + std::to_string(number_) + " %"}, Patience());
  if (!left.has_value()) return;
  for (const auto& row : *left) std::ignore = Execute(connection, std::string(*row.Text(0)));
}

void Application::Run(const std::atomic<bool>& stop) {
  const MonoTime began = std::chrono::steady_clock::now();
  while (!stop) {
    auto connection = postgres::Connection::Open(server_, Deadline::After(std::chrono::seconds(10)));
    if (connection.has_value() && options_.prepare) Resolve(*connection);
    while (!stop && connection.has_value() && connection->Usable()) {
      if (!Transaction(*connection).has_value()) ++ledger_.failures;
      // Slower and slower: where the machine is busy with others a seed takes longer, and shall not do more.
      const auto past = std::chrono::steady_clock::now() - began;
      const auto slower = std::chrono::duration_cast<std::chrono::milliseconds>(past).count() / 10;
      Rest(options_.pause_ms + (options_.tires ? static_cast<int>(slower) : 0));
    }
    if (!stop && !connection.has_value()) Rest(50);
  }
}

}  // namespace pgtier::testing
