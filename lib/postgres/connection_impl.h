// libpq's side of a Connection. Included by lib/postgres' own sources only.
#pragma once

#include <libpq-fe.h>

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::postgres {

struct Rows::Impl {
  explicit Impl(PGresult* owned) : result(owned) {}
  ~Impl() { PQclear(result); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  PGresult* result;
};

struct ResultDeleter {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ResultDeleter>;

// A file descriptor that becomes readable when stop is requested, so that poll() can wait for a socket and for that.
class StopFd {
 public:
  explicit StopFd(std::stop_token stop);
  ~StopFd();
  StopFd(const StopFd&) = delete;
  StopFd& operator=(const StopFd&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool Requested() const { return stop_.stop_requested(); }

 private:
  int fd_;
  std::stop_token stop_;
  std::optional<std::stop_callback<std::function<void()>>> callback_;
};

struct Connection::Impl {
  explicit Impl(std::stop_token stop) : stop_fd(std::move(stop)) {}
  ~Impl() { PQfinish(conn); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // Waits until the socket can be read (or written too). Errors: kDeadlineExceeded, kCancelled, kUnavailable.
  Status Wait(bool for_write, Deadline deadline);
  // kUnavailable unless a statement can be sent.
  [[nodiscard]] Status Ready() const;
  // Ready, and kCancelled once stop was requested: a statement that is sent and cancelled at once may run all the same,
  // for a cancel that reaches the server first is forgotten (PostgreSQL 17, 32.7).
  [[nodiscard]] Status MaySend() const;
  // Sends all that libpq has buffered, reading meanwhile so that neither side can block the other.
  Status Flush(Deadline deadline);
  // The next answer of the running command; nullptr when it is over. Waits, does not cancel.
  Result<ResultPtr> NextResult(Deadline deadline);
  // All answers of the running command. When waiting fails, cancels the command and brings the connection back to
  // idle or marks it broken.
  Result<std::vector<Rows>> Collect(Deadline deadline);
  // Ends the running command after `why`: cancel, then read what is left for at most a second.
  Result<std::vector<Rows>> Abandon(Error why);
  Error BrokenError();  // marks the connection broken; says what libpq says
  void Break();

  PGconn* conn = nullptr;
  bool broken = false;
  std::string where;  // "host:port/database", for messages
  StopFd stop_fd;
};

// libpq's messages end in newlines and span several; errors are one line.
std::string OneLine(const char* message);
// The Error of a failed result.
Error ResultError(const PGresult* result);

}  // namespace pgtier::postgres
