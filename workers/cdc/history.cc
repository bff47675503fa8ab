#include "workers/cdc/history.h"

#include <array>
#include <chrono>
#include <cstdio>
#include <thread>

#include "lib/base/log.h"
#include "lib/postgres/sqlstate.h"

namespace pgtier::workers {
namespace {

using pgoutput::Kind;
using pgoutput::Value;
using postgres::Lsn;

constexpr size_t kTableBytes = size_t{1} << 20U;  // of one relation before they are sent
constexpr size_t kAllBytes = size_t{4} << 20U;
constexpr size_t kPieceBytes = size_t{64} << 10U;  // written to the server at once
constexpr size_t kTableRows = 10'000;
// A statement that takes longer has lost its server, or stands behind a lock that somebody forgot.
constexpr Duration kStatementLimit = std::chrono::minutes(10);
constexpr Duration kVisibleLimit = std::chrono::seconds(30);
constexpr Duration kVisiblePause = std::chrono::milliseconds(5);

Deadline Limit() { return Deadline::After(kStatementLimit); }

void AppendEscaped(std::string& out, std::string_view text) {
  size_t clean = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    char escape = 0;
    switch (text[i]) {
      case '\\':
        escape = '\\';
        break;
      case '\t':
        escape = 't';
        break;
      case '\n':
        escape = 'n';
        break;
      case '\r':
        escape = 'r';
        break;
      default:
        continue;
    }
    out.append(text, clean, i - clean);
    out += '\\';
    out += escape;
    clean = i + 1;
  }
  out.append(text, clean);
}

void AppendValue(std::string& out, const Value& value) {
  if (value.kind == Value::Kind::kText) {
    AppendEscaped(out, value.bytes);
  } else {
    out += "\\N";
  }
  out += '\t';
}

// Which rows of an error's kind are a row's own fault, so that the next try would fail as well.
bool IsRowsFault(const Error& error) {
  const std::string_view state = postgres::SqlStateOf(error);
  for (std::string_view of_row : {"21", "22", "23", "44", "54", "P0"}) {
    if (state.starts_with(of_row)) return true;
  }
  return false;
}

std::string_view OperationOf(Kind kind) {
  switch (kind) {
    case Kind::kInsert:
      return "INSERT";
    case Kind::kUpdate:
      return "UPDATE";
    case Kind::kDelete:
      return "DELETE";
    default:
      return "TRUNCATE";
  }
}

// Why the whole row can't be told, else empty.
std::string_view Missing(const pgoutput::Message& message) {
  const bool needs_old = message.kind == Kind::kUpdate || message.kind == Kind::kDelete;
  if (needs_old && message.old != pgoutput::Old::kRow) return "the table's replica identity was not FULL";
  return {};
}

// The column as it stood after the change (for DELETE: before it). A large value that did not change is not sent again.
const Value& Fresh(const pgoutput::Message& message, size_t column) {
  if (message.kind == Kind::kDelete) return message.old_row[column];
  const Value& value = message.new_row[column];
  if (value.kind == Value::Kind::kUnchanged && message.kind == Kind::kUpdate) return message.old_row[column];
  return value;
}

std::string Hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "\\x";
  out.reserve(2 + bytes.size() * 2);
  for (char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    out += kDigits[byte >> 4U];
    out += kDigits[byte & 15U];
  }
  return out;
}

void AppendLine(std::string& out, const Target& target, const pgoutput::Message& message, const RowContext& context) {
  if (target.epoch) out += std::to_string(context.epoch) + '\t';
  if (target.at_utc) out += TimeText(context.time) + '\t';
  if (target.operation) {
    out += OperationOf(message.kind);
    out += '\t';
  }
  if (target.actor) {
    if (context.actor.has_value()) {
      AppendEscaped(out, *context.actor);
      out += '\t';
    } else {
      out += "\\N\t";
    }
  }
  const bool truncate = message.kind == Kind::kTruncate;
  for (size_t column : target.fresh) AppendValue(out, truncate ? Value() : Fresh(message, column));
  const bool update = message.kind == Kind::kUpdate;
  for (size_t column : target.former) AppendValue(out, update ? message.old_row[column] : Value());
}

// What is kept of a row that has no place: its values, as COPY writes them.
std::string RawRow(const pgoutput::Message& message) {
  std::string out;
  if (message.kind != Kind::kInsert) {
    for (const Value& value : message.old_row) AppendValue(out, value);
  }
  out += '\n';
  if (message.kind != Kind::kDelete) {
    for (const Value& value : message.new_row) AppendValue(out, value);
  }
  return out;
}

}  // namespace

std::string TimeText(pgoutput::Timestamp time) {
  using namespace std::chrono;  // NOLINT(google-build-using-namespace): of this function
  const sys_time<microseconds> at = sys_days(year(2000) / January / 1) + microseconds(time);
  const auto day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss clock(at - day);
  std::array<char, 64> text{};
  const int length =
      std::snprintf(text.data(), text.size(), "%04d-%02u-%02u %02d:%02d:%02d.%06d+00", static_cast<int>(date.year()),
                    static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                    static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                    static_cast<int>(clock.seconds().count()), static_cast<int>(clock.subseconds().count()));
  return {text.data(), static_cast<size_t>(length)};
}

Status History::Begin() {
  if (open_) return {};
  PGTIER_ASSIGN_OR_RETURN(auto begun, connection_->Execute("BEGIN ISOLATION LEVEL READ COMMITTED", Limit()));
  open_ = true;
  return {};
}

Status History::AwaitVisible(uint32_t xid) {
  const Deadline deadline = Deadline::After(kVisibleLimit);
  while (true) {
    // Released only when the transaction is no longer in progress for others (PostgreSQL, CommitTransaction).
    PGTIER_ASSIGN_OR_RETURN(auto running,
                            connection_->Query("SELECT FROM pg_locks WHERE locktype = 'transactionid'"
                                               " AND transactionid = $1::xid AND mode = 'ExclusiveLock' AND granted",
                                               {std::to_string(xid)}, deadline));
    if (running.empty()) return {};
    if (deadline.Expired()) {
      return MakeError(Code::kUnavailable, "transaction " + std::to_string(xid) +
                                               " is in the log, but its commit waits (for a synchronous standby?)");
    }
    std::this_thread::sleep_for(kVisiblePause);
  }
}

Result<const Target*> History::Find(const pgoutput::Relation& relation, const RowContext& context) {
  const Lsn commit = context.commit;
  auto found = targets_.find(relation.id);
  if (found != targets_.end() && found->second.generation == relation.generation && commit < found->second.until) {
    return &found->second;
  }
  PGTIER_RETURN_IF_ERROR(Begin());
  PGTIER_RETURN_IF_ERROR(AwaitVisible(context.xid));
  PGTIER_ASSIGN_OR_RETURN(Target target, FindTarget(*connection_, policy_, relation, commit, Limit()));
  return &(targets_[relation.id] = std::move(target));
}

Status History::Add(const pgoutput::Change& change, const RowContext& context) {
  PGTIER_ASSIGN_OR_RETURN(const Target* target, Find(*change.relation, context));
  if (target->dropped) return {};
  std::string_view missing =
      target->table == 0 ? "the relation is of no table of the policy" : Missing(*change.message);
  ++rows_;
  if (!missing.empty()) {
    return DeadLetter(target->source, context, "", RawRow(*change.message), std::string(missing));
  }
  Pending& pending = pending_[target->table];
  if (pending.target.copy != target->copy) {
    PGTIER_RETURN_IF_ERROR(Flush(pending));
    pending.target = *target;
  }
  const size_t before = pending.text.size();
  pending.starts.push_back(before);
  pending.commits.push_back(context.commit);
  pending.epochs.push_back(context.epoch);
  AppendLine(pending.text, *target, *change.message, context);
  bytes_ += pending.text.size() - before;
  if (pending.text.size() >= kTableBytes || pending.starts.size() >= kTableRows) return Flush(pending);
  return bytes_ >= kAllBytes ? FlushAll() : Status();
}

Status History::Flush(Pending& pending) {
  const size_t count = pending.starts.size();
  if (count == 0) return {};
  // One consumer draws in the order of the commits, so positions grow with them.
  PGTIER_ASSIGN_OR_RETURN(auto drawn, connection_->Query("SELECT nextval($1::regclass) FROM generate_series(1, $2)",
                                                         {pending.target.sequence, std::to_string(count)}, Limit()));
  std::vector<std::string> positions;
  positions.reserve(count);
  for (const postgres::Row row : drawn) {
    PGTIER_ASSIGN_OR_RETURN(std::string position, row.Get<std::string>(0));
    positions.push_back(std::move(position));
  }
  PGTIER_RETURN_IF_ERROR(Copy(pending, positions, 0, count));
  bytes_ -= pending.text.size();
  pending.text.clear();
  if (pending.text.capacity() > 2 * kTableBytes) pending.text.shrink_to_fit();
  pending.starts.clear();
  pending.commits.clear();
  pending.epochs.clear();
  return {};
}

Status History::FlushAll() {
  for (auto& [table, pending] : pending_) PGTIER_RETURN_IF_ERROR(Flush(pending));
  return {};
}

Status History::Copy(const Pending& pending, const std::vector<std::string>& positions, size_t first, size_t last) {
  PGTIER_ASSIGN_OR_RETURN(auto saved, connection_->Execute("SAVEPOINT pgtier", Limit()));
  auto line = [&](size_t i) {
    const size_t end = i + 1 < pending.starts.size() ? pending.starts[i + 1] : pending.text.size();
    return std::string_view(pending.text).substr(pending.starts[i], end - pending.starts[i]);
  };
  auto attempt = [&]() -> Status {
    PGTIER_ASSIGN_OR_RETURN(auto copy, postgres::CopyIn::Begin(*connection_, pending.target.copy, Limit()));
    std::string piece;
    for (size_t i = first; i < last; ++i) {
      std::string_view text = line(i);
      if (!pending.target.position) text.remove_suffix(1);  // the last tab
      if (text.size() >= kPieceBytes) {                     // a large row is not copied once more
        PGTIER_RETURN_IF_ERROR(copy.Write(piece, Limit()));
        PGTIER_RETURN_IF_ERROR(copy.Write(text, Limit()));
        piece.clear();
      } else {
        piece += text;
      }
      if (pending.target.position) piece += positions[i];
      piece += '\n';
      if (piece.size() < kPieceBytes) continue;
      PGTIER_RETURN_IF_ERROR(copy.Write(piece, Limit()));
      piece.clear();
    }
    PGTIER_RETURN_IF_ERROR(copy.Write(piece, Limit()));
    PGTIER_ASSIGN_OR_RETURN(int64_t taken, copy.Finish(Limit()));
    // A trigger of the history's own may have swallowed rows.
    if (taken == static_cast<int64_t>(last - first)) return {};
    return postgres::MakeSqlError(
        "P0001", "the history took " + std::to_string(taken) + " of " + std::to_string(last - first) + " rows");
  };
  Status done = attempt();
  if (done.has_value()) {
    written_[pending.target.source] += static_cast<int64_t>(last - first);
    PGTIER_ASSIGN_OR_RETURN(auto released, connection_->Execute("RELEASE SAVEPOINT pgtier", Limit()));
    return {};
  }
  if (!IsRowsFault(done.error()) || !connection_->Usable()) {
    return std::move(done).error().WithContext("writing " + pending.target.history);
  }
  PGTIER_ASSIGN_OR_RETURN(auto undone,
                          connection_->Execute("ROLLBACK TO SAVEPOINT pgtier; RELEASE SAVEPOINT pgtier", Limit()));
  if (last - first == 1) {
    RowContext context;
    context.commit = pending.commits[first];
    context.epoch = pending.epochs[first];
    return DeadLetter(pending.target.source, context, positions[first], line(first), done.error().message);
  }
  const size_t middle = first + (last - first) / 2;
  PGTIER_RETURN_IF_ERROR(Copy(pending, positions, first, middle));
  return Copy(pending, positions, middle, last);
}

Status History::DeadLetter(const std::string& source, const RowContext& context, const std::string& position,
                           std::string_view payload, const std::string& error) {
  PGTIER_RETURN_IF_ERROR(Begin());
  const std::optional<std::string> at = position.empty() ? std::nullopt : std::optional(position);
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection_->Query("INSERT INTO pgtier.shadow_dead_letters"
                                                        " (policy, source, epoch, position, lsn, payload, error)"
                                                        " VALUES ($1, $2, $3, $4, $5::pg_lsn, $6::bytea, $7)",
                                                        {policy_, source, std::to_string(context.epoch), at,
                                                         context.commit.ToString(), Hex(payload), error},
                                                        Limit()));
  // One line a batch says it.
  if (dead_[source]++ == 0)
    log::Warn("changes can't be written into their history", {{"source", source}, {"error", error}});
  return {};
}

Result<Lsn> History::Commit(const Checkpoint& next) {
  PGTIER_RETURN_IF_ERROR(Begin());
  PGTIER_RETURN_IF_ERROR(FlushAll());
  PGTIER_RETURN_IF_ERROR(MoveCheckpoint(*connection_, policy_, checkpoint_.lsn, next, Limit()));
  PGTIER_ASSIGN_OR_RETURN(auto answers,
                          connection_->Execute("COMMIT; SELECT pg_current_wal_flush_lsn() AS lsn", Limit()));
  if (answers.size() != 2 || answers[0].command() != "COMMIT") {
    return MakeError(Code::kAborted, "the history's transaction was rolled back");
  }
  PGTIER_ASSIGN_OR_RETURN(std::string durable, answers[1][0].Get<std::string>("lsn"));
  open_ = false;
  targets_.clear();  // nothing holds their columns any more
  pending_.clear();
  rows_ = bytes_ = 0;
  checkpoint_ = next;
  committed_ = std::exchange(written_, {});
  committed_dead_ = std::exchange(dead_, {});
  return Lsn::Parse(durable);
}

}  // namespace pgtier::workers
