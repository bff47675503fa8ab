#include "lib/pgoutput/assembler.h"

#include <algorithm>
#include <utility>

namespace pgtier::pgoutput {
namespace {

Error Unexpected(const std::string& what) { return MakeError(Code::kInvalidArgument, "pgoutput: " + what); }

bool SameColumns(const std::vector<RelationColumn>& had, const std::vector<Column>& now) {
  return std::equal(had.begin(), had.end(), now.begin(), now.end(), [](const RelationColumn& a, const Column& b) {
    return a.name == b.name && a.type == b.type && a.modifier == b.modifier && a.key == b.key;
  });
}

}  // namespace

Status Assembler::Feed(std::string_view bytes) {
  const bool in_block = decoder_.in_stream();
  PGTIER_RETURN_IF_ERROR(decoder_.Decode(bytes, message_));
  if (in_block && message_.kind != Kind::kStreamStop) return Keep(bytes);
  switch (message_.kind) {
    case Kind::kStreamStart:
      if (current_.has_value()) return Unexpected("a stream's block inside a transaction");
      block_ = message_.xid;
      if (message_.first_segment) {
        streams_.erase(block_);
        streams_.emplace(block_, Stream());
      } else if (!streams_.contains(block_)) {
        return Unexpected("the streamed transaction " + std::to_string(block_) + " has no beginning");
      }
      return {};
    case Kind::kStreamStop:
      return {};
    case Kind::kStreamCommit:
      return StreamCommit(message_);
    case Kind::kStreamAbort:
      return StreamAbort(message_);
    case Kind::kBegin: {
      if (current_.has_value()) return Unexpected("a transaction inside a transaction");
      Transaction transaction;
      transaction.xid = message_.xid;
      transaction.commit = message_.lsn;
      transaction.time = message_.time;
      current_ = transaction;
      seq_ = 0;
      return sink_->Begin(*current_);
    }
    case Kind::kCommit: {
      if (!current_.has_value()) return Unexpected("a commit outside of a transaction");
      if (message_.lsn != current_->commit) return Unexpected("a commit that differs from its transaction's beginning");
      current_->end = message_.end_lsn;
      Transaction done = *std::exchange(current_, std::nullopt);
      return sink_->Commit(done);
    }
    default:
      return Deliver(message_);
  }
}

void Assembler::Reset() {
  decoder_.Reset();
  relations_.clear();
  streams_.clear();
  current_.reset();
}

size_t Assembler::memory() const {
  size_t sum = 0;
  for (const auto& [xid, stream] : streams_) sum += stream.kept.memory();
  return sum;
}

uint64_t Assembler::on_disk() const {
  uint64_t sum = 0;
  for (const auto& [xid, stream] : streams_) sum += stream.kept.on_disk();
  return sum;
}

Status Assembler::Keep(std::string_view bytes) {
  Stream& stream = streams_.at(block_);
  if (message_.kind == Kind::kOrigin || message_.kind == Kind::kType) return {};
  if (message_.kind == Kind::kMessage) {
    if (!message_.transactional) return {};
    stream.messages = true;
  }
  stream.kept.Append(message_.xid, bytes);
  return stream.kept.memory() > options_.memory / 8 ? MakeRoom() : Status();
}

// Spills the greatest until all of them fit.
Status Assembler::MakeRoom() {
  while (memory() > options_.memory) {
    auto greatest = std::max_element(streams_.begin(), streams_.end(), [](const auto& a, const auto& b) {
      return a.second.kept.memory() < b.second.kept.memory();
    });
    PGTIER_RETURN_IF_ERROR(greatest->second.kept.Flush(options_.directory));
  }
  return {};
}

Status Assembler::StreamCommit(const Message& message) {
  if (current_.has_value()) return Unexpected("the commit of a streamed transaction inside another one");
  auto found = streams_.find(message.xid);
  if (found == streams_.end()) {
    return Unexpected("the streamed transaction " + std::to_string(message.xid) + " has no beginning");
  }
  const Stream stream = std::move(found->second);
  streams_.erase(found);
  Transaction transaction;
  transaction.xid = message.xid;
  transaction.commit = message.lsn;
  transaction.time = message.time;
  transaction.streamed = true;
  transaction.uncertain_messages = stream.messages && !stream.aborted.empty();
  const postgres::Lsn end = message.end_lsn;
  current_ = transaction;
  seq_ = 0;
  PGTIER_RETURN_IF_ERROR(sink_->Begin(*current_));
  Status replayed = stream.kept.Replay([&](uint32_t xid, std::string_view bytes) -> Status {
    // A description stays true though the subtransaction that came with it ended: the server sends it once a
    // transaction, and anew where it changed.
    if (bytes.front() != static_cast<char>(Kind::kRelation) && stream.aborted.contains(xid)) return {};
    PGTIER_RETURN_IF_ERROR(Decoder::DecodeOne(bytes, true, replayed_));
    return Deliver(replayed_);
  });
  if (!replayed.has_value()) return replayed;
  current_->end = end;
  Transaction done = *std::exchange(current_, std::nullopt);
  return sink_->Commit(done);
}

Status Assembler::StreamAbort(const Message& message) {
  auto found = streams_.find(message.xid);
  if (found == streams_.end()) {
    return Unexpected("the streamed transaction " + std::to_string(message.xid) + " has no beginning");
  }
  if (message.subxid == message.xid) {
    streams_.erase(found);
  } else {
    found->second.aborted.insert(message.subxid);
  }
  return {};
}

Status Assembler::Deliver(const Message& message) {
  switch (message.kind) {
    case Kind::kRelation:
      Describe(message);
      return {};
    case Kind::kType:
    case Kind::kOrigin:
      return {};
    case Kind::kMessage:
      if (!message.transactional) return {};
      if (!current_.has_value()) return Unexpected("a transactional message outside of a transaction");
      return sink_->Logical(message);
    case Kind::kTruncate:
      for (uint32_t relation : message.relations) PGTIER_RETURN_IF_ERROR(DeliverRow(message, relation));
      return {};
    default:
      return DeliverRow(message, message.relation);
  }
}

Status Assembler::DeliverRow(const Message& message, uint32_t relation) {
  if (!current_.has_value()) return Unexpected("a change outside of a transaction");
  auto found = relations_.find(relation);
  if (found == relations_.end())
    return Unexpected("a change of table " + std::to_string(relation) + ", never described");
  const size_t columns = found->second.columns.size();
  const bool has_new = message.kind == Kind::kInsert || message.kind == Kind::kUpdate;
  if ((has_new && message.new_row.size() != columns) ||
      (message.kind != Kind::kTruncate && message.old != Old::kNone && message.old_row.size() != columns)) {
    return Unexpected("a row of " + found->second.schema + "." + found->second.name +
                      " has not as many columns as its table");
  }
  return sink_->Row({&found->second, ++seq_, &message});
}

void Assembler::Describe(const Message& message) {
  Relation& relation = relations_[message.relation];
  if (relation.generation != 0 && relation.schema == message.schema && relation.name == message.name &&
      relation.replica_identity == message.replica_identity && SameColumns(relation.columns, message.columns)) {
    return;
  }
  relation.id = message.relation;
  relation.schema = message.schema;
  relation.name = message.name;
  relation.replica_identity = message.replica_identity;
  relation.columns.clear();
  for (const Column& column : message.columns) {
    relation.columns.push_back({std::string(column.name), column.type, column.modifier, column.key});
  }
  relation.generation = ++generation_;
}

}  // namespace pgtier::pgoutput
