#include "lib/postgres/replication.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "lib/postgres/connection_impl.h"

namespace pgtier::postgres {
namespace {

constexpr size_t kDataHeader = 1 + 8 + 8 + 8;  // 'w', start, end, time
constexpr size_t kKeepalive = 1 + 8 + 8 + 1;   // 'k', end, time, whether to reply

uint64_t BigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (char c : bytes.substr(0, 8)) value = value << 8U | static_cast<uint8_t>(c);
  return value;
}

void AppendBigEndian(std::string& out, uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(value >> static_cast<unsigned>(shift));
}

// The replication grammar knows no escapes but the doubled quote, so libpq's E'…' would not be understood.
Result<std::string> Quoted(std::string_view text, char quote) {
  if (text.find('\\') != std::string_view::npos || text.find('\0') != std::string_view::npos) {
    return MakeError(Code::kInvalidArgument, "a name or value with a backslash can't stand in START_REPLICATION");
  }
  std::string out(1, quote);
  for (char c : text) {
    if (c == quote) out += quote;
    out += c;
  }
  return out + quote;
}

// Microseconds since 2000-01-01.
uint64_t ServerTime() {
  using std::chrono::microseconds;
  constexpr int64_t kUnixOf2000 = 946'684'800'000'000;
  auto now = std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch());
  return static_cast<uint64_t>(now.count() - kUnixOf2000);
}

}  // namespace

void ReplicationConnection::Buffer::operator()(char* bytes) const { PQfreemem(bytes); }

ReplicationConnection::ReplicationConnection(Connection connection)
    : connection_(std::move(connection)), last_byte_(std::chrono::steady_clock::now()) {}

Result<ReplicationConnection> ReplicationConnection::Open(const ConnectOptions& options, Deadline deadline,
                                                          std::stop_token stop) {
  ConnectOptions replicating = options;
  replicating.replication = true;
  PGTIER_ASSIGN_OR_RETURN(Connection connection, Connection::Open(replicating, deadline, std::move(stop)));
  return ReplicationConnection(std::move(connection));
}

Result<SystemIdentity> ReplicationConnection::IdentifySystem(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto answers, connection_.Execute("IDENTIFY_SYSTEM", deadline));
  if (answers.size() != 1) return MakeError(Code::kInternal, "IDENTIFY_SYSTEM gave no answer");
  PGTIER_ASSIGN_OR_RETURN(Row row, answers[0].Single());
  SystemIdentity identity;
  PGTIER_ASSIGN_OR_RETURN(identity.system_identifier, row.Get<std::string>("systemid"));
  PGTIER_ASSIGN_OR_RETURN(identity.timeline, row.Get<int64_t>("timeline"));
  PGTIER_ASSIGN_OR_RETURN(std::string position, row.Get<std::string>("xlogpos"));
  PGTIER_ASSIGN_OR_RETURN(identity.flushed, Lsn::Parse(position));
  PGTIER_ASSIGN_OR_RETURN(identity.database, row.Get<std::string>("dbname"));
  return identity;
}

Result<TimelineEnds> ParseTimelineHistory(std::string_view content) {
  TimelineEnds ends;
  while (!content.empty()) {
    const size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos || line[begin] == '#') continue;
    line.remove_prefix(begin);
    int64_t timeline = 0;
    auto [rest, error] = std::from_chars(line.data(), line.data() + line.size(), timeline);
    line.remove_prefix(static_cast<size_t>(rest - line.data()));
    const size_t from = line.find_first_not_of(" \t");
    if (error != std::errc() || timeline <= 0 || from == 0 || from == std::string_view::npos) {
      return MakeError(Code::kInvalidArgument, "a timeline's history has a line that is none");
    }
    line.remove_prefix(from);
    auto position = Lsn::Parse(std::string(line.substr(0, line.find_first_of(" \t\r"))));
    if (!position.has_value()) return std::move(position).error().WithContext("a timeline's history");
    ends[timeline] = *position;
  }
  return ends;
}

Result<TimelineEnds> ReplicationConnection::TimelineHistory(int64_t timeline, Deadline deadline) {
  if (timeline <= 1) return TimelineEnds();
  PGTIER_ASSIGN_OR_RETURN(auto answers, connection_.Execute("TIMELINE_HISTORY " + std::to_string(timeline), deadline));
  if (answers.size() != 1) return MakeError(Code::kInternal, "TIMELINE_HISTORY gave no answer");
  PGTIER_ASSIGN_OR_RETURN(Row row, answers[0].Single());
  PGTIER_ASSIGN_OR_RETURN(std::string content, row.Get<std::string>("content"));
  return ParseTimelineHistory(content);
}

Status ReplicationConnection::Start(const LogicalStart& start, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(std::string slot, Quoted(start.slot, '"'));
  std::string command = "START_REPLICATION SLOT " + slot + " LOGICAL " + start.from.ToString();
  std::string separator = " (";
  for (const auto& [name, value] : start.options) {
    PGTIER_ASSIGN_OR_RETURN(std::string quoted_name, Quoted(name, '"'));
    PGTIER_ASSIGN_OR_RETURN(std::string quoted_value, Quoted(value, '\''));
    command += separator + quoted_name + " " + quoted_value;
    separator = ", ";
  }
  if (!start.options.empty()) command += ")";
  Connection::Impl& impl = connection_.impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  if (PQsendQuery(impl.conn, command.c_str()) == 0) return impl.BrokenError();
  Status flushed = impl.Flush(deadline);
  if (!flushed.has_value()) return flushed;
  auto first = impl.NextResult(deadline);
  if (!first.has_value()) {
    impl.Break();  // whether it streams is not known
    return std::move(first).error().WithContext("starting replication");
  }
  last_byte_ = std::chrono::steady_clock::now();
  if (*first != nullptr && PQresultStatus(first->get()) == PGRES_COPY_BOTH) return {};
  Error error =
      *first == nullptr ? MakeError(Code::kUnavailable, "the server did not answer") : ResultError(first->get());
  std::ignore = impl.Collect(deadline);
  return error.WithContext("starting replication from slot " + start.slot);
}

Result<std::optional<WalPiece>> ReplicationConnection::Read(Deadline deadline) {
  Connection::Impl& impl = connection_.impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  while (true) {
    char* bytes = nullptr;
    int length = PQgetCopyData(impl.conn, &bytes, 1);
    if (length > 0) {
      buffer_.reset(bytes);
      return Parse(std::string_view(bytes, static_cast<size_t>(length)));
    }
    if (length == -2) return impl.BrokenError();
    if (length == -1) return Ended(deadline);
    Status waited = impl.Wait(false, deadline);
    if (!waited.has_value()) {
      if (waited.error().code == Code::kDeadlineExceeded) return std::optional<WalPiece>();
      return std::move(waited).error();
    }
    if (PQconsumeInput(impl.conn) == 0) return impl.BrokenError();
    last_byte_ = std::chrono::steady_clock::now();
  }
}

Result<std::optional<WalPiece>> ReplicationConnection::Parse(std::string_view message) {
  WalPiece piece;
  if (message[0] == 'w' && message.size() >= kDataHeader) {
    piece.start = Lsn{BigEndian(message.substr(1))};
    piece.end = Lsn{BigEndian(message.substr(9))};
    piece.data = message.substr(kDataHeader);
    return std::optional(piece);
  }
  if (message[0] == 'k' && message.size() == kKeepalive) {
    piece.keepalive = true;
    piece.end = Lsn{BigEndian(message.substr(1))};
    piece.reply_requested = message[17] != 0;
    return std::optional(piece);
  }
  connection_.impl().Break();
  return MakeError(Code::kUnavailable, "the server sent something that is no part of the replication protocol");
}

Error ReplicationConnection::Ended(Deadline deadline) {
  Connection::Impl& impl = connection_.impl();
  auto last = impl.NextResult(deadline);
  Error error = MakeError(Code::kUnavailable, "the server ended the stream");
  if (last.has_value() && *last != nullptr && PQresultStatus(last->get()) == PGRES_FATAL_ERROR) {
    error = ResultError(last->get());
  }
  impl.Break();
  return error.WithContext("replication");
}

Status ReplicationConnection::Report(Lsn written, Lsn flushed, bool reply, Deadline deadline) {
  Connection::Impl& impl = connection_.impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  std::string message = "r";
  AppendBigEndian(message, written.value);
  AppendBigEndian(message, flushed.value);
  AppendBigEndian(message, flushed.value);  // applied
  AppendBigEndian(message, ServerTime());
  message += static_cast<char>(reply ? 1 : 0);
  while (true) {
    int queued = PQputCopyData(impl.conn, message.data(), static_cast<int>(message.size()));
    if (queued < 0) return impl.BrokenError();
    PGTIER_RETURN_IF_ERROR(impl.Flush(deadline));
    if (queued == 1) return {};
  }
}

}  // namespace pgtier::postgres
