#include "lib/postgres/connection_impl.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "lib/postgres/sqlstate.h"

namespace pgtier::postgres {
namespace {

// How long a cancelled statement may take to end before its connection is given up.
constexpr Duration kCancelGrace = std::chrono::seconds(1);
constexpr int kMaxCancelsInFlight = 32;

// PQcancel connects, sends and waits for the server to hang up, all of it blocking: a stopped server would hold the
// caller for ever. It gets a thread that owns nothing but the PGcancel, which libpq makes independent of the
// connection.
void RequestCancel(PGconn* conn) {
  static std::atomic<int> in_flight{0};
  if (in_flight.fetch_add(1) >= kMaxCancelsInFlight) {
    in_flight.fetch_sub(1);
    return;
  }
  PGcancel* cancel = PQgetCancel(conn);
  if (cancel == nullptr) {
    in_flight.fetch_sub(1);
    return;
  }
  try {
    std::thread([cancel] {
      std::array<char, 256> message{};
      PQcancel(cancel, message.data(), static_cast<int>(message.size()));
      PQfreeCancel(cancel);
      in_flight.fetch_sub(1);
    }).detach();
  } catch (const std::system_error&) {  // no more threads: the connection is given up after the grace instead
    PQfreeCancel(cancel);
    in_flight.fetch_sub(1);
  }
}

}  // namespace

std::string OneLine(const char* message) {
  std::string out;
  std::string_view rest = message == nullptr ? "" : message;
  while (!rest.empty()) {
    size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
    if (line.empty() || line.starts_with("LOCATION:")) continue;
    if (!out.empty()) out += "; ";
    out += line;
  }
  return out;
}

Error ResultError(const PGresult* result) {
  const char* sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  if (sqlstate == nullptr) return MakeError(Code::kUnavailable, OneLine(PQresultErrorMessage(result)));
  return MakeSqlError(sqlstate, OneLine(primary));
}

StopFd::StopFd(std::stop_token stop) : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), stop_(std::move(stop)) {
  if (!stop_.stop_possible()) return;
  callback_.emplace(stop_, [fd = fd_] { std::ignore = eventfd_write(fd, 1); });
}

StopFd::~StopFd() {
  callback_.reset();
  if (fd_ >= 0) close(fd_);
}

Status Connection::Impl::Wait(bool for_write, Deadline deadline) {
  while (true) {
    std::array<pollfd, 2> fds{};
    fds[0] = {PQsocket(conn), static_cast<short>(for_write ? POLLIN | POLLOUT : POLLIN), 0};
    fds[1] = {stop_fd.fd(), POLLIN, 0};
    if (fds[0].fd < 0) return MakeError(Code::kUnavailable, "connection to " + where + " is closed");
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.Remaining()).count();
    int ready = poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready < 0 && errno != EINTR) {
      return MakeError(Code::kUnavailable, std::string("poll: ") + std::generic_category().message(errno));
    }
    if (ready > 0 && fds[1].revents != 0) return MakeError(Code::kCancelled, "stopped while waiting for " + where);
    if (ready > 0) return {};
    if (deadline.Expired()) {
      return MakeError(Code::kDeadlineExceeded, "deadline passed while waiting for " + where);
    }
  }
}

Status Connection::Impl::Ready() const {
  if (broken || PQstatus(conn) != CONNECTION_OK) {
    return MakeError(Code::kUnavailable, "connection to " + where + " was lost");
  }
  return {};
}

Status Connection::Impl::MaySend() const {
  PGTIER_RETURN_IF_ERROR(Ready());
  if (stop_fd.Requested()) return MakeError(Code::kCancelled, "stopped before a statement was sent to " + where);
  return {};
}

Status Connection::Impl::Flush(Deadline deadline) {
  while (true) {
    int pending = PQflush(conn);
    if (pending == 0) return {};
    if (pending < 0) return BrokenError();
    PGTIER_RETURN_IF_ERROR(Wait(true, deadline));
    if (PQconsumeInput(conn) == 0) return BrokenError();
  }
}

Result<ResultPtr> Connection::Impl::NextResult(Deadline deadline) {
  while (PQisBusy(conn) == 1) {
    PGTIER_RETURN_IF_ERROR(Wait(false, deadline));
    // On failure libpq makes a result that says why, which PQgetResult returns.
    if (PQconsumeInput(conn) == 0) break;
  }
  return ResultPtr(PQgetResult(conn));
}

Result<std::vector<Rows>> Connection::Impl::Collect(Deadline deadline) {
  std::vector<Rows> answers;
  std::optional<Error> failure;
  while (true) {
    auto next = NextResult(deadline);
    if (!next.has_value()) return Abandon(std::move(next).error());
    ResultPtr result = *std::move(next);
    if (result == nullptr) break;
    switch (PQresultStatus(result.get())) {
      case PGRES_COMMAND_OK:
      case PGRES_TUPLES_OK:
      case PGRES_EMPTY_QUERY:
        answers.emplace_back(std::make_shared<const Rows::Impl>(result.release()));
        break;
      case PGRES_COPY_IN:
      case PGRES_COPY_OUT:
      case PGRES_COPY_BOTH:
        // Would have to be fed or drained first; nobody means to do that through here.
        Break();
        return MakeError(Code::kInvalidArgument, "COPY needs CopyIn; the connection was closed");
      default:
        if (!failure.has_value()) failure = ResultError(result.get());
    }
    if (PQstatus(conn) != CONNECTION_OK) break;
  }
  if (PQstatus(conn) != CONNECTION_OK) {
    Break();
    if (!failure.has_value()) failure = MakeError(Code::kUnavailable, "connection was lost");
    // A FATAL of any kind ended the session; a caller that would retry the statement has to reconnect.
    if (failure->code == Code::kInternal) failure->code = Code::kUnavailable;
  }
  if (failure.has_value()) return *std::move(failure);
  return answers;
}

Result<std::vector<Rows>> Connection::Impl::Abandon(Error why) {
  if (why.code == Code::kUnavailable) {
    Break();
    return why;
  }
  RequestCancel(conn);
  std::vector<Rows> answers;
  bool failed = false;
  Deadline grace = Deadline::After(kCancelGrace);
  while (true) {
    while (PQisBusy(conn) == 1) {
      pollfd fd{PQsocket(conn), POLLIN, 0};
      auto left = std::chrono::ceil<std::chrono::milliseconds>(grace.Remaining()).count();
      if (grace.Expired() || (poll(&fd, 1, static_cast<int>(left)) < 0 && errno != EINTR)) {
        Break();
        return why;
      }
      if (fd.revents != 0 && PQconsumeInput(conn) == 0) {
        Break();
        return why;
      }
    }
    ResultPtr result(PQgetResult(conn));
    if (result == nullptr) break;
    auto status = PQresultStatus(result.get());
    if (status == PGRES_COPY_IN) {
      PQputCopyEnd(conn, "cancelled");
      failed = true;
      continue;
    }
    if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
      Break();
      return why;
    }
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
      answers.emplace_back(std::make_shared<const Rows::Impl>(result.release()));
    } else {
      failed = true;
    }
  }
  if (PQstatus(conn) != CONNECTION_OK) Break();
  // It ended well before the cancel came: then that is what happened, and saying otherwise would make a caller undo it.
  if (!failed && !broken && !answers.empty()) return answers;
  return why;
}

Error Connection::Impl::BrokenError() {
  std::string message = OneLine(PQerrorMessage(conn));
  Break();
  return MakeError(Code::kUnavailable, "connection to " + where + ": " + message);
}

void Connection::Impl::Break() {
  broken = true;
  // Closed at once: a server that still works on a statement then notices, and locks don't outlive the caller's
  // interest.
  PQfinish(conn);
  conn = nullptr;
}

}  // namespace pgtier::postgres
