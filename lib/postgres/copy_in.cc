#include <utility>

#include "lib/postgres/connection.h"
#include "lib/postgres/connection_impl.h"

namespace pgtier::postgres {
namespace {

constexpr Duration kAbandonLimit = std::chrono::seconds(2);
// libpq takes an int; pieces also keep its buffer small.
constexpr size_t kPieceBytes = 1 << 20;

}  // namespace

Result<CopyIn> CopyIn::Begin(Connection& connection, const std::string& sql, Deadline deadline) {
  Connection::Impl& impl = connection.impl();
  PGTIER_RETURN_IF_ERROR(impl.MaySend());
  if (PQsendQuery(impl.conn, sql.c_str()) == 0) return impl.BrokenError();
  auto flushed = impl.Flush(deadline);
  auto first = flushed.has_value() ? impl.NextResult(deadline) : Result<ResultPtr>(std::move(flushed).error());
  if (!first.has_value()) {
    auto ended = impl.Abandon(std::move(first).error());
    return ended.has_value() ? MakeError(Code::kDeadlineExceeded, "deadline passed at the start of a COPY")
                             : std::move(ended).error();
  }
  if (*first != nullptr && PQresultStatus(first->get()) == PGRES_COPY_IN) return CopyIn(&connection);
  Error error = MakeError(Code::kInvalidArgument, "the statement is no COPY … FROM STDIN");
  if (*first != nullptr && PQresultStatus(first->get()) == PGRES_FATAL_ERROR) error = ResultError(first->get());
  auto rest = impl.Collect(deadline);
  if (!rest.has_value() && rest.error().code == Code::kUnavailable) return std::move(rest).error();
  return error;
}

CopyIn::CopyIn(CopyIn&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}

CopyIn::~CopyIn() {
  if (connection_ == nullptr || !connection_->Usable()) return;
  Connection::Impl& impl = connection_->impl();
  Deadline deadline = Deadline::After(kAbandonLimit);
  if (PQputCopyEnd(impl.conn, "abandoned by the client") < 0 || !impl.Flush(deadline).has_value()) {
    if (!impl.broken) impl.Break();
    return;
  }
  // The server answers with an error, as asked; what matters is that the connection is idle again or closed.
  std::ignore = impl.Collect(deadline);
}

Status CopyIn::Write(std::string_view data, Deadline deadline) {
  if (connection_ == nullptr) return MakeError(Code::kFailedPrecondition, "the copy has ended already");
  Connection::Impl& impl = connection_->impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  while (!data.empty()) {
    std::string_view piece = data.substr(0, kPieceBytes);
    int queued = PQputCopyData(impl.conn, piece.data(), static_cast<int>(piece.size()));
    if (queued < 0) return impl.BrokenError();
    if (queued == 1) data.remove_prefix(piece.size());
    PGTIER_RETURN_IF_ERROR(impl.Flush(deadline));
  }
  return {};
}

Result<int64_t> CopyIn::Finish(Deadline deadline) {
  Connection* connection = std::exchange(connection_, nullptr);
  if (connection == nullptr) return MakeError(Code::kFailedPrecondition, "the copy has ended already");
  Connection::Impl& impl = connection->impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  while (true) {
    int queued = PQputCopyEnd(impl.conn, nullptr);
    if (queued < 0) return impl.BrokenError();
    auto flushed = impl.Flush(deadline);
    if (!flushed.has_value()) {
      // The end may be half sent: nothing more can be said on this connection.
      if (!impl.broken) impl.Break();
      return std::move(flushed).error().WithContext("COPY");
    }
    if (queued == 1) break;
  }
  auto answers = impl.Collect(deadline);
  if (!answers.has_value()) return std::move(answers).error().WithContext("COPY");
  return answers->empty() ? 0 : answers->back().affected();
}

void AppendCopyRow(std::string& out, const std::vector<std::optional<std::string_view>>& fields) {
  bool first = true;
  for (const auto& field : fields) {
    if (!first) out += '\t';
    first = false;
    if (!field.has_value()) {
      out += "\\N";
      continue;
    }
    for (char c : *field) {
      switch (c) {
        case '\\':
          out += "\\\\";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\n':
          out += "\\n";
          break;
        case '\r':
          out += "\\r";
          break;
        default:
          out += c;
      }
    }
  }
  out += '\n';
}

}  // namespace pgtier::postgres
