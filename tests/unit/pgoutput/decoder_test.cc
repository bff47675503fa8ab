#include "lib/pgoutput/decoder.h"

#include <gtest/gtest.h>

#include "tests/unit/pgoutput/bytes.h"

namespace pgtier::pgoutput {
namespace {

using testing::Bytes;

Message Decoded(const std::string& bytes, bool in_stream = false) {
  static std::vector<std::string> kept;  // views point into it
  kept.reserve(1000);
  kept.push_back(bytes);
  Message out;
  Status decoded = Decoder::DecodeOne(kept.back(), in_stream, out);
  EXPECT_TRUE(decoded.has_value()) << decoded.error().message;
  return out;
}

Error Refused(const std::string& bytes) {
  Message out;
  Status decoded = Decoder::DecodeOne(bytes, false, out);
  EXPECT_FALSE(decoded.has_value()) << bytes;
  return decoded.has_value() ? Error() : decoded.error();
}

TEST(Decoder, BeginAndCommit) {
  Message begin = Decoded(Bytes('B').U64(0x1000).U64(815).U32(42));
  EXPECT_EQ(begin.kind, Kind::kBegin);
  EXPECT_EQ(begin.lsn.value, 0x1000U);
  EXPECT_EQ(begin.time, 815);
  EXPECT_EQ(begin.xid, 42U);
  Message commit = Decoded(Bytes('C').U8(0).U64(0x1000).U64(0x1030).U64(static_cast<uint64_t>(-5)));
  EXPECT_EQ(commit.lsn.value, 0x1000U);
  EXPECT_EQ(commit.end_lsn.value, 0x1030U);
  EXPECT_EQ(commit.time, -5) << "a commit before the year 2000";
  EXPECT_EQ(Refused(Bytes('C').U8(1).U64(1).U64(2).U64(3)).code, Code::kInvalidArgument) << "flags nobody knows";
}

TEST(Decoder, RelationWithKeyAndModifiers) {
  Message relation = Decoded(Bytes('R')
                                 .U32(16384)
                                 .String("")
                                 .String("na\"me")
                                 .Raw("f")
                                 .U16(2)
                                 .U8(1)
                                 .String("id")
                                 .U32(20)
                                 .U32(0xFFFFFFFFU)
                                 .U8(0)
                                 .String("sum")
                                 .U32(1700)
                                 .U32(655366));
  EXPECT_EQ(relation.relation, 16384U);
  EXPECT_EQ(relation.schema, "pg_catalog") << "the server leaves it out";
  EXPECT_EQ(relation.name, "na\"me");
  EXPECT_EQ(relation.replica_identity, 'f');
  ASSERT_EQ(relation.columns.size(), 2U);
  EXPECT_TRUE(relation.columns[0].key);
  EXPECT_EQ(relation.columns[0].modifier, -1);
  EXPECT_FALSE(relation.columns[1].key);
  EXPECT_EQ(relation.columns[1].name, "sum");
  EXPECT_EQ(relation.columns[1].type, 1700U);
  EXPECT_EQ(relation.columns[1].modifier, 655366);
}

TEST(Decoder, RowsWithNullUnchangedTextAndBinary) {
  Message insert =
      Decoded(Bytes('I').U32(5).Raw("N").U16(4).Raw("n").Raw("u").Raw("t").U32(2).Raw("ab").Raw("b").U32(0));
  ASSERT_EQ(insert.new_row.size(), 4U);
  EXPECT_EQ(insert.new_row[0].kind, Value::Kind::kNull);
  EXPECT_EQ(insert.new_row[1].kind, Value::Kind::kUnchanged);
  EXPECT_EQ(insert.new_row[2].kind, Value::Kind::kText);
  EXPECT_EQ(insert.new_row[2].bytes, "ab");
  EXPECT_EQ(insert.new_row[3].kind, Value::Kind::kBinary);
  EXPECT_EQ(insert.new_row[3].bytes, "");
  EXPECT_EQ(insert.old, Old::kNone);
}

TEST(Decoder, UpdateWithoutWithKeyAndWithOldRow) {
  Message plain = Decoded(Bytes('U').U32(5).Raw("N").Tuple({"b"}));
  EXPECT_EQ(plain.old, Old::kNone);
  EXPECT_TRUE(plain.old_row.empty());
  Message key = Decoded(Bytes('U').U32(5).Raw("K").Tuple({"a", std::nullopt}).Raw("N").Tuple({"b", "c"}));
  EXPECT_EQ(key.old, Old::kKey);
  EXPECT_EQ(key.old_row[0].bytes, "a");
  EXPECT_EQ(key.new_row[1].bytes, "c");
  EXPECT_EQ(Decoded(Bytes('U').U32(5).Raw("O").Tuple({"a"}).Raw("N").Tuple({"b"})).old, Old::kRow);
  EXPECT_EQ(Decoded(Bytes('D').U32(5).Raw("O").Tuple({"a"})).old, Old::kRow);
  EXPECT_EQ(Refused(Bytes('D').U32(5).Raw("N").Tuple({"a"})).code, Code::kInvalidArgument);
  EXPECT_EQ(Refused(Bytes('U').U32(5).Raw("O").Tuple({"a"})).code, Code::kInvalidArgument) << "no new row";
}

TEST(Decoder, TruncateAndMessage) {
  Message truncate = Decoded(Bytes('T').U32(2).U8(3).U32(7).U32(8));
  EXPECT_EQ(truncate.relations, (std::vector<uint32_t>{7, 8}));
  EXPECT_TRUE(truncate.cascade);
  EXPECT_TRUE(truncate.restart_identity);
  Message message = Decoded(Bytes('M').U8(1).U64(99).String("pgtier.actor").U32(3).Raw(std::string("a\0b", 3)));
  EXPECT_TRUE(message.transactional);
  EXPECT_EQ(message.name, "pgtier.actor");
  EXPECT_EQ(message.content, std::string("a\0b", 3));
  EXPECT_FALSE(Decoded(Bytes('M').U8(0).U64(99).String("").U32(0)).transactional);
}

TEST(Decoder, OnlyInsideABlockAMessageCarriesItsTransaction) {
  Decoder decoder;
  Message out;
  std::string start = testing::StreamStart(42, true), insert = testing::InsertOf(5, "x", 43),
              stop = testing::StreamStop();
  std::string plain = testing::InsertOf(5, "x");
  ASSERT_TRUE(decoder.Decode(start, out).has_value());
  EXPECT_TRUE(out.first_segment);
  EXPECT_EQ(out.xid, 42U);
  ASSERT_TRUE(decoder.Decode(insert, out).has_value());
  EXPECT_EQ(out.xid, 43U);
  EXPECT_EQ(out.relation, 5U);
  EXPECT_FALSE(decoder.Decode(testing::BeginOf(1, 2), out).has_value()) << "inside a block";
  ASSERT_TRUE(decoder.Decode(stop, out).has_value());
  ASSERT_TRUE(decoder.Decode(plain, out).has_value());
  EXPECT_EQ(out.xid, 0U);
  EXPECT_FALSE(decoder.Decode(stop, out).has_value()) << "none is open";
}

TEST(Decoder, StreamsEnd) {
  Message commit = Decoded(testing::StreamCommit(42, 0x500));
  EXPECT_EQ(commit.xid, 42U);
  EXPECT_EQ(commit.lsn.value, 0x500U);
  EXPECT_EQ(commit.end_lsn.value, 0x508U);
  Message abort = Decoded(testing::StreamAbort(42, 44));
  EXPECT_EQ(abort.subxid, 44U);
  Message parallel = Decoded(Bytes('A').U32(42).U32(44).U64(0x600).U64(8));
  EXPECT_EQ(parallel.lsn.value, 0x600U);
  EXPECT_EQ(parallel.time, 8);
}

TEST(Decoder, TwoPhaseIsRefusedByName) {
  for (auto [kind, name] : {std::pair{'b', "Begin Prepare"},
                            {'P', "Prepare"},
                            {'K', "Commit Prepared"},
                            {'r', "Rollback Prepared"},
                            {'p', "Stream Prepare"}}) {
    Error error = Refused(Bytes(kind).U64(1));
    EXPECT_EQ(error.code, Code::kUnimplemented);
    EXPECT_NE(error.message.find(name), std::string::npos) << error.message;
  }
}

TEST(Decoder, EveryMessageCutShortOrTooLongIsRefused) {
  const std::vector<std::string> messages = {
      testing::BeginOf(1, 2),
      testing::CommitOf(1),
      testing::RelationOf(5, {"a", "b"}),
      testing::InsertOf(5, "value"),
      Bytes('U').U32(5).Raw("O").Tuple({"a", std::nullopt}).Raw("N").Tuple({"b", "c"}),
      Bytes('D').U32(5).Raw("K").Tuple({"a"}),
      Bytes('T').U32(2).U8(0).U32(7).U32(8),
      testing::MessageOf("p", "content"),
      Bytes('O').U64(1).String("origin"),
      Bytes('Y').U32(9).String("s").String("mood"),
      testing::StreamStart(1, true),
      testing::StreamCommit(1, 2),
      testing::StreamStop()};
  for (const std::string& message : messages) {
    for (size_t length = 0; length < message.size(); ++length) {
      EXPECT_EQ(Refused(message.substr(0, length)).code, Code::kInvalidArgument) << message[0] << length;
    }
    EXPECT_EQ(Refused(message + "x").code, Code::kInvalidArgument) << message[0];
  }
  EXPECT_NE(Refused(Bytes('Z')).message.find("'Z'"), std::string::npos);
  EXPECT_NE(Refused(Bytes('\0')).message.find("byte 0"), std::string::npos);
}

TEST(Decoder, CountsThatCantBeAreRefusedBeforeMemoryIsTaken) {
  EXPECT_EQ(Refused(Bytes('T').U32(0xFFFFFFFFU).U8(0).U32(1)).code, Code::kInvalidArgument);
  EXPECT_EQ(Refused(Bytes('I').U32(5).Raw("N").U16(0xFFFF)).code, Code::kInvalidArgument);
  EXPECT_EQ(Refused(Bytes('I').U32(5).Raw("N").U16(1).Raw("t").U32(0xFFFFFFFFU)).code, Code::kInvalidArgument);
  EXPECT_EQ(Refused(Bytes('M').U8(1).U64(1).String("p").U32(0x7FFFFFFFU).Raw("x")).code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace pgtier::pgoutput
