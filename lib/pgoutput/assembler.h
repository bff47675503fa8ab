// Puts messages together to transactions, in the order of their commits.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/base/result.h"
#include "lib/pgoutput/decoder.h"
#include "lib/pgoutput/message.h"
#include "lib/pgoutput/spill.h"

namespace pgtier::pgoutput {

struct RelationColumn {
  std::string name;
  uint32_t type = 0;
  int32_t modifier = -1;
  bool key = false;
  auto operator<=>(const RelationColumn&) const = default;  // NOLINT(modernize-use-nullptr): misread by clang-tidy 14
};

// A table as the server last described it; its types may be trusted for the rows that follow, the catalogue's may not.
struct Relation {
  uint32_t id = 0;  // its OID
  std::string schema, name;
  char replica_identity = 0;
  std::vector<RelationColumn> columns;
  uint64_t generation = 0;  // another number after each description that says something new
};

struct Transaction {
  uint32_t xid = 0;
  postgres::Lsn commit;   // of the commit record: with `seq` the key of a change
  postgres::Lsn end;      // behind it: where a consumer that has it goes on; only at Sink::Commit
  Timestamp time = 0;     // of the commit
  bool streamed = false;  // came in pieces before its commit
  // It was streamed, a subtransaction of it was rolled back, and it holds messages: the server does not say which
  // messages belonged to that one. Only decoding it without streaming does.
  bool uncertain_messages = false;
};

struct Change {
  const Relation* relation = nullptr;
  // The number among the transaction's changes of rows, from 1 on: what was rolled back, messages and descriptions
  // don't count, so a redelivery, streamed or not, gives the same numbers. A TRUNCATE counts once a table.
  uint64_t seq = 0;
  const Message* message = nullptr;  // Insert, Update, Delete or Truncate
};

// Takes whole transactions, one after the other. An error ends Assembler::Feed with it.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual Status Begin(const Transaction& transaction) = 0;
  virtual Status Row(const Change& change) = 0;
  // Only transactional ones, at their place among the changes.
  virtual Status Logical(const Message& message) = 0;
  virtual Status Commit(const Transaction& transaction) = 0;
};

struct SpillOptions {
  size_t memory = size_t{16} << 20U;  // bytes of unfinished streamed transactions that stay in memory
  std::string directory = "/tmp";
};

// Transactions that come whole are handed on as they come, message by message: nothing is kept of them. Streamed ones
// are kept until their commit. Memory is the budget and about one message.
class Assembler {
 public:
  Assembler(Sink* sink, SpillOptions options) : sink_(sink), options_(std::move(options)) {}

  // The next message. Errors: the decoder's; kInvalidArgument: it can't come here; kResourceExhausted: nothing could be
  // spilled; the sink's. After an error nothing is right but Reset().
  Status Feed(std::string_view bytes);
  // Forgets everything: the connection was lost, and the server begins anew.
  void Reset();

  // Whether a transaction was begun and not committed; unfinished streamed ones don't count.
  [[nodiscard]] bool in_transaction() const { return current_.has_value(); }
  [[nodiscard]] size_t unfinished_streams() const { return streams_.size(); }
  [[nodiscard]] size_t memory() const;
  [[nodiscard]] uint64_t on_disk() const;

 private:
  struct Stream {
    Spill kept;
    std::set<uint32_t> aborted;
    bool messages = false;
  };

  Status Keep(std::string_view bytes);
  Status StreamCommit(const Message& message);
  Status StreamAbort(const Message& message);
  Status Deliver(const Message& message);
  Status DeliverRow(const Message& message, uint32_t relation);
  void Describe(const Message& message);
  Status MakeRoom();

  Sink* sink_;
  SpillOptions options_;
  Decoder decoder_;
  Message message_, replayed_;
  std::unordered_map<uint32_t, Relation> relations_;
  uint64_t generation_ = 0;
  std::map<uint32_t, Stream> streams_;  // by the top transaction
  uint32_t block_ = 0;                  // whose block is open
  std::optional<Transaction> current_;
  uint64_t seq_ = 0;
};

}  // namespace pgtier::pgoutput
