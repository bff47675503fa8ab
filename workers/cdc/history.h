// Writes changes into histories on one connection: rows gather in memory as COPY's text, go to the server by COPY, and
// are committed together with the checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/pgoutput/assembler.h"
#include "lib/postgres/connection.h"
#include "workers/cdc/checkpoint.h"
#include "workers/cdc/target.h"

namespace pgtier::workers {

// What a transaction's rows have in common.
struct RowContext {
  uint32_t xid = 0;
  postgres::Lsn commit;
  pgoutput::Timestamp time = 0;  // of the commit
  int64_t epoch = 0;
  std::optional<std::string> actor;
};

// COPY's text of a point in time: "2026-01-31 12:00:00.000001+00". A column without time zone takes it as UTC.
std::string TimeText(pgoutput::Timestamp time);

class History {
 public:
  // The connection must outlive it. `checkpoint` is what stands in the database.
  History(postgres::Connection* connection, std::string policy, Checkpoint checkpoint)
      : connection_(connection), policy_(std::move(policy)), checkpoint_(std::move(checkpoint)) {}

  // Takes a change for its history. Errors: those of FindTarget, and of the server; after one only a new connection and
  // the checkpoint in the database are right.
  Status Add(const pgoutput::Change& change, const RowContext& context);

  // Commits what was added since the last commit, with `next` as checkpoint. Returns a position in the log by which all
  // of it is written down. Errors: as Add; kAborted: another consumer moved the checkpoint.
  Result<postgres::Lsn> Commit(const Checkpoint& next);

  [[nodiscard]] const Checkpoint& checkpoint() const { return checkpoint_; }
  // Since the last commit.
  [[nodiscard]] size_t rows() const { return rows_; }
  // What the last commit wrote: rows by source, and rows that could not be written.
  [[nodiscard]] const std::map<std::string, int64_t>& committed_rows() const { return committed_; }
  [[nodiscard]] const std::map<std::string, int64_t>& dead_letters() const { return committed_dead_; }

 private:
  // Rows of one table that were not sent: of all its leaves, for positions follow the order of the commits.
  struct Pending {
    Target target;               // of any of the leaves: they share what is used of it
    std::string text;            // lines without their end: the position comes last
    std::vector<size_t> starts;  // of the lines in it
    std::vector<postgres::Lsn> commits;
    std::vector<int64_t> epochs;
  };

  Status Begin();
  // The log tells of a commit before other sessions see it, with synchronous replication long before: what the
  // transaction made of the catalogue is not there yet. Errors: kUnavailable: not within half a minute.
  Status AwaitVisible(uint32_t xid);
  Result<const Target*> Find(const pgoutput::Relation& relation, const RowContext& context);
  Status Flush(Pending& pending);
  Status FlushAll();
  // Lines [first, last) by one COPY; halves them where a row can't be written, down to one, which is a dead letter.
  Status Copy(const Pending& pending, const std::vector<std::string>& positions, size_t first, size_t last);
  Status DeadLetter(const std::string& source, const RowContext& context, const std::string& position,
                    std::string_view payload, const std::string& error);

  postgres::Connection* connection_;
  std::string policy_;
  Checkpoint checkpoint_;
  bool open_ = false;
  size_t rows_ = 0, bytes_ = 0;
  std::map<uint32_t, Target> targets_;                                          // by relation
  std::map<int64_t, Pending> pending_;                                          // by table
  std::map<std::string, int64_t> written_, committed_, dead_, committed_dead_;  // by source
};

}  // namespace pgtier::workers
