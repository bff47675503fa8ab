#include "lib/pgoutput/decoder.h"

#include <string>

namespace pgtier::pgoutput {
namespace {

constexpr int kMaxColumns = 1664;  // MaxTupleAttributeNumber; more is no row of a table

// Reads big-endian numbers and strings, and remembers whether any was missing: checked once a message.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  uint8_t Byte() { return static_cast<uint8_t>(Number<1>()); }
  uint16_t Short() { return static_cast<uint16_t>(Number<2>()); }
  uint32_t Int() { return static_cast<uint32_t>(Number<4>()); }
  uint64_t Long() { return Number<8>(); }
  postgres::Lsn Position() { return postgres::Lsn{Long()}; }
  Timestamp Time() { return static_cast<Timestamp>(Long()); }

  // Up to a zero byte, which is skipped.
  std::string_view String() {
    size_t end = rest_.find('\0');
    if (end == std::string_view::npos) return Fail();
    std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::string_view Bytes(size_t length) {
    if (length > rest_.size()) return Fail();
    std::string_view bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return bytes;
  }

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] size_t left() const { return rest_.size(); }
  std::string_view Fail() {
    ok_ = false;
    rest_ = {};
    return {};
  }

 private:
  template <size_t kLength>
  uint64_t Number() {
    if (rest_.size() < kLength) {
      Fail();
      return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < kLength; ++i) value = value << 8U | static_cast<uint8_t>(rest_[i]);
    rest_.remove_prefix(kLength);
    return value;
  }
  std::string_view rest_;
  bool ok_ = true;
};

void ReadTuple(Reader& in, std::vector<Value>& out) {
  const int count = in.Short();
  if (count > kMaxColumns) in.Fail();
  out.clear();
  for (int i = 0; i < count && in.ok(); ++i) {
    Value& value = out.emplace_back();
    switch (in.Byte()) {
      case 'n':
        value.kind = Value::Kind::kNull;
        break;
      case 'u':
        value.kind = Value::Kind::kUnchanged;
        break;
      case 't':
        value.kind = Value::Kind::kText;
        value.bytes = in.Bytes(in.Int());
        break;
      case 'b':
        value.kind = Value::Kind::kBinary;
        value.bytes = in.Bytes(in.Int());
        break;
      default:
        in.Fail();
    }
  }
}

std::string_view ReadSchema(Reader& in) {
  std::string_view schema = in.String();
  return schema.empty() ? "pg_catalog" : schema;
}

void ReadRelation(Reader& in, Message& out) {
  out.relation = in.Int();
  out.schema = ReadSchema(in);
  out.name = in.String();
  out.replica_identity = static_cast<char>(in.Byte());
  const int count = in.Short();
  if (count > kMaxColumns) in.Fail();
  out.columns.clear();
  for (int i = 0; i < count && in.ok(); ++i) {
    Column& column = out.columns.emplace_back();
    column.key = (in.Byte() & 1U) != 0;
    column.name = in.String();
    column.type = in.Int();
    column.modifier = static_cast<int32_t>(in.Int());
  }
}

void ReadUpdate(Reader& in, Message& out) {
  out.relation = in.Int();
  out.old = Old::kNone;
  out.old_row.clear();
  uint8_t mark = in.Byte();
  if (mark == 'K' || mark == 'O') {
    out.old = static_cast<Old>(mark);
    ReadTuple(in, out.old_row);
    mark = in.Byte();
  }
  if (mark != 'N') in.Fail();
  ReadTuple(in, out.new_row);
}

void ReadDelete(Reader& in, Message& out) {
  out.relation = in.Int();
  const uint8_t mark = in.Byte();
  if (mark != 'K' && mark != 'O') in.Fail();
  out.old = static_cast<Old>(mark);
  ReadTuple(in, out.old_row);
  out.new_row.clear();
}

void ReadTruncate(Reader& in, Message& out) {
  const uint32_t count = in.Int();
  const uint8_t flags = in.Byte();
  out.cascade = (flags & 1U) != 0;
  out.restart_identity = (flags & 2U) != 0;
  out.relations.clear();
  if (count > in.left() / 4) in.Fail();
  for (uint32_t i = 0; i < count && in.ok(); ++i) out.relations.push_back(in.Int());
}

void ReadCommit(Reader& in, Message& out) {
  if (in.Byte() != 0) in.Fail();  // flags; none are known
  out.lsn = in.Position();
  out.end_lsn = in.Position();
  out.time = in.Time();
}

bool CarriesXid(Kind kind) {
  switch (kind) {
    case Kind::kRelation:
    case Kind::kType:
    case Kind::kInsert:
    case Kind::kUpdate:
    case Kind::kDelete:
    case Kind::kTruncate:
    case Kind::kMessage:
      return true;
    default:
      return false;
  }
}

// The body; false for a kind that does not exist.
bool Read(Reader& in, Message& out) {
  switch (out.kind) {
    case Kind::kBegin:
      out.lsn = in.Position();
      out.time = in.Time();
      out.xid = in.Int();
      return true;
    case Kind::kCommit:
      ReadCommit(in, out);
      return true;
    case Kind::kOrigin:
      out.lsn = in.Position();
      out.name = in.String();
      return true;
    case Kind::kRelation:
      ReadRelation(in, out);
      return true;
    case Kind::kType:
      out.relation = in.Int();
      out.schema = ReadSchema(in);
      out.name = in.String();
      return true;
    case Kind::kInsert:
      out.relation = in.Int();
      if (in.Byte() != 'N') in.Fail();
      out.old = Old::kNone;
      out.old_row.clear();
      ReadTuple(in, out.new_row);
      return true;
    case Kind::kUpdate:
      ReadUpdate(in, out);
      return true;
    case Kind::kDelete:
      ReadDelete(in, out);
      return true;
    case Kind::kTruncate:
      ReadTruncate(in, out);
      return true;
    case Kind::kMessage:
      out.transactional = (in.Byte() & 1U) != 0;
      out.lsn = in.Position();
      out.name = in.String();
      out.content = in.Bytes(in.Int());
      return true;
    case Kind::kStreamStart:
      out.xid = in.Int();
      out.first_segment = in.Byte() != 0;
      return true;
    case Kind::kStreamStop:
      return true;
    case Kind::kStreamCommit:
      out.xid = in.Int();
      ReadCommit(in, out);
      return true;
    case Kind::kStreamAbort:
      out.xid = in.Int();
      out.subxid = in.Int();
      out.lsn = {};
      out.time = 0;
      if (in.left() > 0) {  // streaming 'parallel'
        out.lsn = in.Position();
        out.time = in.Time();
      }
      return true;
  }
  return false;
}

// The name of a message that belongs to two-phase commit; empty for others.
std::string_view TwoPhase(char kind) {
  switch (kind) {
    case 'b':
      return "Begin Prepare";
    case 'P':
      return "Prepare";
    case 'K':
      return "Commit Prepared";
    case 'r':
      return "Rollback Prepared";
    case 'p':
      return "Stream Prepare";
    default:
      return {};
  }
}

std::string Shown(char kind) {
  if (kind >= ' ' && kind <= '~') return std::string("'") + kind + "'";
  return "byte " + std::to_string(static_cast<uint8_t>(kind));
}

}  // namespace

Status Decoder::DecodeOne(std::string_view bytes, bool in_stream, Message& out) {
  if (bytes.empty()) return MakeError(Code::kInvalidArgument, "pgoutput: an empty message");
  const char kind = bytes.front();
  if (std::string_view name = TwoPhase(kind); !name.empty()) {
    return MakeError(Code::kUnimplemented, "pgoutput: " + std::string(name) + ": the slot decodes two-phase commits " +
                                               "(two_phase), which pgtier does not read");
  }
  out.kind = static_cast<Kind>(kind);
  out.xid = 0;
  Reader in(bytes.substr(1));
  if (in_stream && CarriesXid(out.kind)) out.xid = in.Int();
  if (!Read(in, out)) return MakeError(Code::kInvalidArgument, "pgoutput: no message is of kind " + Shown(kind));
  if (!in.ok()) {
    return MakeError(Code::kInvalidArgument, "pgoutput: a message of kind " + Shown(kind) + " and " +
                                                 std::to_string(bytes.size()) + " bytes is cut short or malformed");
  }
  if (in.left() > 0) {
    return MakeError(Code::kInvalidArgument, "pgoutput: " + std::to_string(in.left()) +
                                                 " bytes are left over in a message of kind " + Shown(kind));
  }
  return {};
}

Status Decoder::Decode(std::string_view bytes, Message& out) {
  PGTIER_RETURN_IF_ERROR(DecodeOne(bytes, in_stream_, out));
  const bool block = out.kind == Kind::kStreamStop || CarriesXid(out.kind) || out.kind == Kind::kOrigin;
  if (in_stream_ && !block) {
    return MakeError(Code::kInvalidArgument,
                     "pgoutput: a message of kind " + Shown(bytes.front()) + " inside a stream's block");
  }
  if (!in_stream_ && out.kind == Kind::kStreamStop) {
    return MakeError(Code::kInvalidArgument, "pgoutput: the end of a stream's block that never began");
  }
  if (out.kind == Kind::kStreamStart) in_stream_ = true;
  if (out.kind == Kind::kStreamStop) in_stream_ = false;
  return {};
}

}  // namespace pgtier::pgoutput
