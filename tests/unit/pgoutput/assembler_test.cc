#include "lib/pgoutput/assembler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/unit/pgoutput/bytes.h"

namespace pgtier::pgoutput {
namespace {

using testing::BeginOf;
using testing::Bytes;
using testing::CommitOf;
using ::testing::ElementsAre;
using testing::In;
using testing::InsertOf;
using testing::MessageOf;
using testing::RelationOf;
using testing::StreamAbort;
using testing::StreamCommit;
using testing::StreamStart;
using testing::StreamStop;

// Writes down what comes: "begin 100", "t5#1=a", "say p=c", "commit 108".
class Notes : public Sink {
 public:
  Status Begin(const Transaction& t) override {
    uncertain = t.uncertain_messages;
    return Add("begin " + std::to_string(t.commit.value) + (t.streamed ? " streamed" : ""));
  }
  Status Row(const Change& change) override {
    std::string value = change.message->new_row.empty() ? "-" : std::string(change.message->new_row[0].bytes);
    return Add(change.relation->name + "#" + std::to_string(change.seq) + "=" + value);
  }
  Status Logical(const Message& m) override { return Add("say " + std::string(m.name) + "=" + std::string(m.content)); }
  Status Commit(const Transaction& t) override { return Add("commit " + std::to_string(t.end.value)); }

  std::vector<std::string> lines;
  bool uncertain = false;

 private:
  Status Add(std::string line) {
    lines.push_back(std::move(line));
    return {};
  }
};

class AssemblerTest : public ::testing::Test {
 protected:
  void Feed(const std::vector<std::string>& messages) {
    for (const auto& message : messages) {
      Status fed = assembler.Feed(message);
      ASSERT_TRUE(fed.has_value()) << fed.error().message;
    }
  }
  std::vector<std::string> Taken() { return std::exchange(notes.lines, {}); }
  Notes notes;
  Assembler assembler{&notes, {}};
};

TEST_F(AssemblerTest, WholeTransactionsAreHandedOnAsTheyCome) {
  Feed({BeginOf(100, 7), RelationOf(5, {"a"}), InsertOf(5, "x")});
  EXPECT_TRUE(assembler.in_transaction());
  EXPECT_THAT(Taken(), ElementsAre("begin 100", "t5#1=x"));
  Feed({MessageOf("p", "c"), InsertOf(5, "y"), CommitOf(100)});
  EXPECT_FALSE(assembler.in_transaction());
  EXPECT_THAT(Taken(), ElementsAre("say p=c", "t5#2=y", "commit 108"));
  Feed({BeginOf(200, 8), InsertOf(5, "z"), CommitOf(200)});
  EXPECT_THAT(Taken(), ElementsAre("begin 200", "t5#1=z", "commit 208"));
}

TEST_F(AssemblerTest, TruncateCountsOnceATable) {
  Feed({BeginOf(100, 7), RelationOf(5, {"a"}), RelationOf(6, {"a"}), Bytes('T').U32(2).U8(0).U32(6).U32(5),
        InsertOf(5, "x"), CommitOf(100)});
  EXPECT_THAT(Taken(), ElementsAre("begin 100", "t6#1=-", "t5#2=-", "t5#3=x", "commit 108"));
}

TEST_F(AssemblerTest, StreamsAreKeptUntilTheirCommitThoughOthersCommitBetween) {
  Feed({StreamStart(7, true), RelationOf(5, {"a"}, 7), InsertOf(5, "x", 7), StreamStop()});
  Feed({StreamStart(9, true), RelationOf(5, {"a"}, 9), InsertOf(5, "other", 9), StreamStop()});
  EXPECT_THAT(Taken(), ElementsAre());
  Feed({BeginOf(100, 8), RelationOf(5, {"a"}), InsertOf(5, "between"), CommitOf(100)});
  EXPECT_THAT(Taken(), ElementsAre("begin 100", "t5#1=between", "commit 108"));
  Feed({StreamStart(7, false), InsertOf(5, "y", 7), StreamStop(), StreamCommit(7, 300)});
  EXPECT_THAT(Taken(), ElementsAre("begin 300 streamed", "t5#1=x", "t5#2=y", "commit 308"));
  Feed({StreamAbort(9, 9)});
  EXPECT_EQ(assembler.unfinished_streams(), 0U);
  EXPECT_THAT(Taken(), ElementsAre());
}

TEST_F(AssemblerTest, WhatASubtransactionDidGoesWithItAndTheNumbersCloseUp) {
  Feed({StreamStart(7, true), RelationOf(5, {"a"}, 7), InsertOf(5, "a", 7), InsertOf(5, "gone", 8), StreamStop(),
        StreamAbort(7, 8), StreamStart(7, false), InsertOf(5, "b", 7), InsertOf(5, "sub", 9), StreamStop(),
        StreamCommit(7, 300)});
  EXPECT_THAT(Taken(), ElementsAre("begin 300 streamed", "t5#1=a", "t5#2=b", "t5#3=sub", "commit 308"));
  EXPECT_FALSE(notes.uncertain) << "no message that could be in doubt";
}

TEST_F(AssemblerTest, ADescriptionOutlivesTheSubtransactionThatCameWithIt) {
  Feed({StreamStart(7, true), RelationOf(5, {"a"}, 8), InsertOf(5, "gone", 8), StreamStop(), StreamAbort(7, 8),
        StreamStart(7, false), InsertOf(5, "b", 7), StreamStop(), StreamCommit(7, 300)});
  EXPECT_THAT(Taken(), ElementsAre("begin 300 streamed", "t5#1=b", "commit 308"));
}

TEST_F(AssemblerTest, DescriptionsOfAnAbortedTransactionAreForgotten) {
  Feed({BeginOf(100, 6), RelationOf(5, {"a"}), CommitOf(100), StreamStart(7, true), RelationOf(5, {"a", "b"}, 7),
        In('I', 7).U32(5).Raw("N").Tuple({"x", "y"}), StreamStop(), StreamAbort(7, 7)});
  Taken();
  Feed({BeginOf(200, 8), InsertOf(5, "one column"), CommitOf(200)});
  EXPECT_THAT(Taken(), ElementsAre("begin 200", "t5#1=one column", "commit 208"));
}

TEST_F(AssemblerTest, MessagesOfAStreamWithARollbackAreInDoubt) {
  Feed({StreamStart(7, true), RelationOf(5, {"a"}, 7), MessageOf("pgtier.actor", "y", 7), InsertOf(5, "a", 7),
        StreamStop(), StreamCommit(7, 300)});
  EXPECT_THAT(Taken(), ElementsAre("begin 300 streamed", "say pgtier.actor=y", "t5#1=a", "commit 308"));
  EXPECT_FALSE(notes.uncertain);
  Feed({StreamStart(7, true), MessageOf("pgtier.actor", "y", 7), InsertOf(5, "a", 7), InsertOf(5, "b", 8), StreamStop(),
        StreamAbort(7, 8), StreamCommit(7, 400)});
  EXPECT_TRUE(notes.uncertain);
}

TEST_F(AssemblerTest, AboveTheBudgetItSpillsAndReplaysTheSame) {
  auto folder = std::filesystem::temp_directory_path() / "pgtier-assembler-test";
  std::filesystem::create_directories(folder);
  Notes spilled_notes;
  Assembler spilling(&spilled_notes, {4096, folder});
  std::vector<std::string> messages = {StreamStart(7, true), RelationOf(5, {"a"}, 7)};
  for (int i = 0; i < 3000; ++i) {
    messages.push_back(
        InsertOf(5, std::to_string(i) + std::string(static_cast<size_t>(i % 700), 'x'), i % 3 == 0 ? 8 : 7));
  }
  messages.push_back(InsertOf(5, std::string(1 << 20, 'L'), 7));
  messages.push_back(InsertOf(5, "last", 7));
  messages.push_back(StreamStop());
  for (const auto& message : messages) ASSERT_TRUE(spilling.Feed(message).has_value());
  EXPECT_LE(spilling.memory(), 4096U);
  EXPECT_GT(spilling.on_disk(), uint64_t{1} << 20U);
  EXPECT_TRUE(std::filesystem::is_empty(folder)) << "the file has no name: nothing is left by a crash";
  ASSERT_TRUE(spilling.Feed(StreamAbort(7, 8)).has_value());
  ASSERT_TRUE(spilling.Feed(StreamCommit(7, 300)).has_value());
  EXPECT_EQ(spilling.on_disk(), 0U);
  Feed(messages);
  Feed({StreamAbort(7, 8), StreamCommit(7, 300)});
  EXPECT_EQ(notes.lines.size(), 2004U);
  EXPECT_EQ(spilled_notes.lines, notes.lines);
  std::filesystem::remove(folder);

  Assembler nowhere(&spilled_notes, {4096, "/nonexistent"});
  Status failed;
  for (const auto& message : messages) {
    failed = nowhere.Feed(message);
    if (!failed.has_value()) break;
  }
  EXPECT_EQ(failed.error().code, Code::kResourceExhausted);
}

TEST_F(AssemblerTest, WhatCantBeIsRefused) {
  auto refused = [](const std::vector<std::string>& messages) {
    Notes ignored;
    Assembler fresh(&ignored, {});
    for (size_t i = 0; i + 1 < messages.size(); ++i) EXPECT_TRUE(fresh.Feed(messages[i]).has_value());
    Status last = fresh.Feed(messages.back());
    return last.has_value() ? std::string() : last.error().message;
  };
  EXPECT_NE(refused({BeginOf(1, 2), InsertOf(5, "x")}), "") << "never described";
  EXPECT_NE(refused({RelationOf(5, {"a"}), InsertOf(5, "x")}), "") << "outside of a transaction";
  EXPECT_NE(refused({BeginOf(1, 2), RelationOf(5, {"a", "b"}), InsertOf(5, "x")}), "") << "another number of columns";
  EXPECT_NE(refused({BeginOf(1, 2), BeginOf(2, 3)}), "");
  EXPECT_NE(refused({BeginOf(1, 2), CommitOf(3)}), "") << "another commit";
  EXPECT_NE(refused({CommitOf(3)}), "");
  EXPECT_NE(refused({StreamStart(7, false)}), "") << "no beginning";
  EXPECT_NE(refused({StreamCommit(7, 3)}), "");
  EXPECT_NE(refused({StreamAbort(7, 3)}), "");
  EXPECT_NE(refused({BeginOf(1, 2), StreamStart(7, true)}), "");
  EXPECT_NE(refused({MessageOf("p", "c")}), "") << "transactional, outside of a transaction";
}

TEST_F(AssemblerTest, AfterAResetTheSameComesAgainTheSame) {
  std::vector<std::string> messages = {BeginOf(100, 7), RelationOf(5, {"a"}), InsertOf(5, "x")};
  Feed(messages);
  Feed({InsertOf(5, "lost")});
  assembler.Reset();
  EXPECT_FALSE(assembler.in_transaction());
  Taken();
  Feed(messages);
  EXPECT_THAT(Taken(), ElementsAre("begin 100", "t5#1=x"));
}

}  // namespace
}  // namespace pgtier::pgoutput
