// Reads a slot through pgoutput and writes down what comes.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <thread>
#include <vector>

#include "lib/pgoutput/assembler.h"
#include "lib/postgres/replication.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {

// One line a change, as the differential test compares them; and its key.
class Lines : public pgoutput::Sink {
 public:
  Status Begin(const pgoutput::Transaction& transaction) override {
    began_ = lines.size();
    commit_ = transaction.commit;
    if (transaction.streamed) ++streamed;
    if (transaction.uncertain_messages) ++uncertain;
    lines.emplace_back("BEGIN");
    keys.emplace_back("");
    return {};
  }
  Status Row(const pgoutput::Change& change) override {
    const pgoutput::Message& m = *change.message;
    std::string line = change.relation->schema + "." + change.relation->name + " " + static_cast<char>(m.kind);
    if (m.kind != pgoutput::Kind::kTruncate) {
      if (m.old != pgoutput::Old::kNone) line += " old:" + Text(*change.relation, m.old_row, true);
      if (m.kind != pgoutput::Kind::kDelete) line += " new:" + Text(*change.relation, m.new_row, false);
    }
    return Add(line, commit_.ToString() + "#" + std::to_string(change.seq));
  }
  Status Logical(const pgoutput::Message& m) override {
    return Add("message " + std::string(m.name) + "=" + std::string(m.content), "");
  }
  Status Commit(const pgoutput::Transaction& transaction) override {
    end = transaction.end;
    ++transactions;
    if (lines.size() == began_ + 1) {  // empty
      lines.pop_back();
      keys.pop_back();
      return {};
    }
    return Add("COMMIT", "");
  }

  std::vector<std::string> lines, keys;
  postgres::Lsn end;
  int transactions = 0, streamed = 0, uncertain = 0;

 private:
  static std::string Text(const pgoutput::Relation& relation, const std::vector<pgoutput::Value>& row,
                          bool skip_nulls) {
    std::string out;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string value;
      switch (row[i].kind) {
        case pgoutput::Value::Kind::kNull:
          if (skip_nulls) continue;
          value = "null";
          break;
        case pgoutput::Value::Kind::kUnchanged:
          value = "unchanged-toast-datum";
          break;
        default:
          value = "'" + std::string(row[i].bytes) + "'";
      }
      out += " " + relation.columns[i].name + "=" + value;
    }
    return out;
  }
  Status Add(std::string line, std::string key) {
    lines.push_back(std::move(line));
    keys.push_back(std::move(key));
    return {};
  }
  size_t began_ = 0;
  postgres::Lsn commit_;
};

struct ReadOptions {
  std::string slot, publication;
  std::string session;  // server settings for the walsender's session
  std::string streaming = "off";
  std::string protocol = "4";
  size_t memory = 4096;
};

// Reads all that committed before `until` and asks for it again the next time.
inline Lines ReadSlot(const LocalPostgres& server, const ReadOptions& options, postgres::Lsn until) {
  Lines lines;
  pgoutput::Assembler assembler(&lines, {options.memory, "/tmp"});
  postgres::ConnectOptions connect = server.Options();
  connect.options = options.session;
  auto connection = postgres::ReplicationConnection::Open(connect, Soon());
  EXPECT_TRUE(connection.has_value()) << connection.error().message;
  if (!connection.has_value()) return lines;
  const postgres::LogicalStart start{options.slot,
                                     {},
                                     {{"proto_version", options.protocol},
                                      {"publication_names", "\"" + options.publication + "\""},
                                      {"messages", "true"},
                                      {"streaming", options.streaming}}};
  auto started = connection->Start(start, Soon());
  // The walsender of the reading before lets go of the slot a moment after its client is gone.
  for (Deadline free = Soon();
       !started.has_value() && started.error().code == Code::kFailedPrecondition && !free.Expired();) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    started = connection->Start(start, Soon());
  }
  EXPECT_TRUE(started.has_value()) << started.error().message;
  Deadline deadline = Deadline::After(std::chrono::seconds(120));
  while (started.has_value() && !deadline.Expired()) {
    auto piece = connection->Read(Deadline::After(std::chrono::milliseconds(200)));
    EXPECT_TRUE(piece.has_value()) << piece.error().message;
    if (!piece.has_value()) break;
    if (!piece->has_value()) {
      EXPECT_TRUE(connection->Report({}, {}, true, Soon()).has_value());
      continue;
    }
    if ((*piece)->keepalive) {
      if ((*piece)->end >= until) return lines;
      continue;
    }
    auto fed = assembler.Feed((*piece)->data);
    EXPECT_TRUE(fed.has_value()) << fed.error().message;
    if (!fed.has_value()) break;
  }
  ADD_FAILURE() << "not read up to " << until.ToString();
  return lines;
}

}  // namespace pgtier::testing
