// Writes messages as the server does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pgtier::testing {

class Bytes {
 public:
  explicit Bytes(char kind) { text_ += kind; }
  Bytes& U8(uint64_t v) { return Number(v, 1); }
  Bytes& U16(uint64_t v) { return Number(v, 2); }
  Bytes& U32(uint64_t v) { return Number(v, 4); }
  Bytes& U64(uint64_t v) { return Number(v, 8); }
  Bytes& Raw(const std::string& v) {
    text_ += v;
    return *this;
  }
  Bytes& String(const std::string& v) { return Raw(v).U8(0); }
  // Nothing is NULL.
  Bytes& Tuple(const std::vector<std::optional<std::string>>& values) {
    U16(values.size());
    for (const auto& value : values) {
      if (value.has_value()) {
        Raw("t").U32(value->size()).Raw(*value);
      } else {
        Raw("n");
      }
    }
    return *this;
  }
  operator std::string() const { return text_; }  // NOLINT: implicit by design

 private:
  Bytes& Number(uint64_t v, int length) {
    for (int i = length - 1; i >= 0; --i) text_ += static_cast<char>(v >> (8U * static_cast<unsigned>(i)));
    return *this;
  }
  std::string text_;
};

inline std::string BeginOf(uint64_t lsn, uint32_t xid, uint64_t time = 7) {
  return Bytes('B').U64(lsn).U64(time).U32(xid);
}
inline std::string CommitOf(uint64_t lsn, uint64_t time = 7) {
  return Bytes('C').U8(0).U64(lsn).U64(lsn + 8).U64(time);
}
// The (sub)transaction's id stands only inside a stream's block; 0: outside.
inline Bytes In(char kind, uint32_t xid) { return xid == 0 ? Bytes(kind) : Bytes(kind).U32(xid); }
inline std::string RelationOf(uint32_t id, const std::vector<std::string>& columns, uint32_t xid = 0) {
  Bytes out = In('R', xid).U32(id).String("public").String("t" + std::to_string(id)).Raw("f").U16(columns.size());
  for (const auto& column : columns) out.U8(1).String(column).U32(25).U32(0xFFFFFFFFU);
  return out;
}
inline std::string InsertOf(uint32_t id, const std::string& value, uint32_t xid = 0) {
  return In('I', xid).U32(id).Raw("N").Tuple({value});
}
inline std::string MessageOf(const std::string& prefix, const std::string& content, uint32_t xid = 0) {
  return In('M', xid).U8(1).U64(9).String(prefix).U32(content.size()).Raw(content);
}
inline std::string StreamStart(uint32_t xid, bool first) { return Bytes('S').U32(xid).U8(first ? 1 : 0); }
inline std::string StreamStop() { return Bytes('E'); }
inline std::string StreamCommit(uint32_t xid, uint64_t lsn) {
  return Bytes('c').U32(xid).U8(0).U64(lsn).U64(lsn + 8).U64(7);
}
inline std::string StreamAbort(uint32_t xid, uint32_t subxid) { return Bytes('A').U32(xid).U32(subxid); }

}  // namespace pgtier::testing
