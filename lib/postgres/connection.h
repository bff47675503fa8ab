// One connection to a PostgreSQL server or to a pooler, with a deadline in every call. libpq stays behind this header.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/rows.h"

namespace pgtier::postgres {

// ConnectOptions::options of sessions that act in a database of somebody else. Its owner may set what holds for all of
// its sessions (ALTER DATABASE … SET): a search_path by which a function of theirs stands in for the system's, or
// transactions that are read-only, or serializable, which a standby refuses.
constexpr const char* kOwnSettings =
    "-c search_path=pg_catalog -c default_transaction_read_only=off"
    " -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off"
    " -c statement_timeout=0 -c lock_timeout=0 -c datestyle=ISO -c intervalstyle=postgres";

struct ConnectOptions {
  std::string host;     // a name, an address, or the directory of a Unix socket
  std::string address;  // where that name leads, when it was looked up already; empty: libpq does
  int port = 5432;
  std::string database = "postgres";
  std::string user;
  std::string password;        // never in an error or a log line
  std::string other_password;  // tried where the first is refused; empty: none
  std::string application_name = "pgtier";
  std::string ssl_mode;       // libpq's sslmode; empty is libpq's default, "prefer"
  std::string ssl_root_cert;  // a file; with "verify-ca" and "verify-full"
  std::string ssl_root_pem;   // the certificates themselves, in place of a file
  std::string ssl_cert;       // a file: the client's certificate
  std::string ssl_key;        // a file: its key
  std::string options;        // server settings for the session, as "-c name=value"; poolers refuse most of them
  bool replication = false;   // a walsender of `database`: set by ReplicationConnection only
};

// A statement's parameters ($1, $2, …) as text; nothing is NULL.
using Params = std::vector<std::optional<std::string>>;

struct Notification {
  std::string channel, payload;
};

// A connection is used by one thread at a time. Errors of every call: kUnavailable: the connection is gone (Usable() is
// false, open another); kDeadlineExceeded: the deadline passed and the statement was cancelled; kCancelled: stop was
// requested; else what the SQLSTATE says (sqlstate.h).
class Connection {
 public:
  // Connects and authenticates. `stop` is kept: it also ends every later call on this connection.
  // Errors: kUnavailable, kUnauthenticated (of `other_password`, where there is one), kNotFound (the database),
  // kDeadlineExceeded, kCancelled. Name resolution is libpq's and blocks (resolv.conf's timeouts); all else honours the
  // deadline.
  static Result<Connection> Open(const ConnectOptions& options, Deadline deadline, std::stop_token stop = {});

  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  // One statement with parameters (extended protocol). At the deadline the statement is cancelled on the server; the
  // connection stays usable if the server confirms that within a second, and a statement that ends well before the
  // cancel reaches it counts as done.
  Result<Rows> Query(const std::string& sql, const Params& params, Deadline deadline);
  Result<Rows> Query(const std::string& sql, Deadline deadline) { return Query(sql, {}, deadline); }

  // One or more statements without parameters (simple protocol): scripts, VACUUM and the like, and PgBouncer's admin
  // console. Several statements without BEGIN are one transaction. Returns an answer for each statement; the error is
  // that of the first statement that failed.
  Result<std::vector<Rows>> Execute(const std::string& sql, Deadline deadline);

  // Waits for a notification (LISTEN before). Gives all that have come, in the order of their commits, also those that
  // came with the answer to an earlier statement; none: the deadline passed, and the connection is as it was.
  Result<std::vector<Notification>> AwaitNotifications(Deadline deadline);
  // The same, where it only matters whether one came.
  Result<bool> AwaitNotification(Deadline deadline);

  // False once the connection was lost or left in an unknown state.
  [[nodiscard]] bool Usable() const;
  // Whether a transaction is open (also a failed one).
  [[nodiscard]] bool InTransaction() const;
  // As 170002 for 17.2; what a pooler says when connected to one.
  [[nodiscard]] int ServerVersion() const;
  // The server process' pid, as pg_stat_activity shows it.
  [[nodiscard]] int BackendPid() const;
  // What the server reported for a setting at connect (server_version, in_hot_standby, …); empty when unknown.
  [[nodiscard]] std::string Parameter(const std::string& name) const;
  // SHA-256 of the certificate that the server presented, as lower-case hex; empty: the connection is not encrypted.
  [[nodiscard]] std::string ServerCertificate() const;
  // Closes now; later calls fail with kUnavailable.
  void Close();

  // For the other files of lib/postgres only.
  struct Impl;
  [[nodiscard]] Impl& impl() const { return *impl_; }

 private:
  static Result<Connection> OpenOnce(const ConnectOptions& options, Deadline deadline, std::stop_token stop);
  explicit Connection(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// BEGIN … COMMIT. The destructor rolls back what was not committed (it waits at most two seconds, then closes the
// connection, which rolls back too). The connection must outlive it.
class Transaction {
 public:
  // `modes` as after BEGIN: "ISOLATION LEVEL REPEATABLE READ, READ ONLY".
  static Result<Transaction> Begin(Connection& connection, Deadline deadline, const std::string& modes = "");
  Transaction(Transaction&& other) noexcept;
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  // Errors: kAborted when a statement before failed and the server rolled back instead; kUnavailable: the outcome is
  // not known.
  Status Commit(Deadline deadline);
  Status Rollback(Deadline deadline);

 private:
  explicit Transaction(Connection* connection) : connection_(connection) {}
  Connection* connection_;  // nullptr once ended
};

// COPY … FROM STDIN. Rows count only after Finish. The destructor abandons a copy that was not finished.
class CopyIn {
 public:
  // `sql` is the whole COPY statement, text or binary format. The connection must outlive the copy.
  static Result<CopyIn> Begin(Connection& connection, const std::string& sql, Deadline deadline);
  CopyIn(CopyIn&& other) noexcept;
  CopyIn& operator=(CopyIn&&) = delete;
  ~CopyIn();

  // Sends a piece of the data; it need not end at a row's end.
  Status Write(std::string_view data, Deadline deadline);
  // Ends the copy. Returns the number of rows that the server took.
  Result<int64_t> Finish(Deadline deadline);

 private:
  explicit CopyIn(Connection* connection) : connection_(connection) {}
  Connection* connection_;  // nullptr once ended
};

// Appends one row in COPY's text format: tabs between the fields, backslash escapes, \N for nothing.
void AppendCopyRow(std::string& out, const std::vector<std::optional<std::string_view>>& fields);

}  // namespace pgtier::postgres
