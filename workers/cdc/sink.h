// Decides what of the stream of transactions becomes history: cuts at the barriers, knows the actor, passes over what
// the checkpoint holds.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "lib/base/result.h"
#include "lib/pgoutput/assembler.h"
#include "workers/cdc/history.h"

namespace pgtier::workers {

class CdcSink : public pgoutput::Sink {
 public:
  // Called now and then while a long transaction is written, so that the server hears of us.
  using Heartbeat = std::function<Status()>;

  CdcSink(History* history, std::string policy, Heartbeat heartbeat)
      : history_(history),
        policy_(std::move(policy)),
        heartbeat_(std::move(heartbeat)),
        reached_(history->checkpoint()) {}

  Status Begin(const pgoutput::Transaction& transaction) override;
  Status Row(const pgoutput::Change& change) override;
  Status Logical(const pgoutput::Message& message) override;
  Status Commit(const pgoutput::Transaction& transaction) override;

  // The server says that all that committed before `lsn` was sent. Not to be called inside a transaction.
  void Passed(postgres::Lsn lsn);

  // What the checkpoint may say once the rows so far are committed.
  [[nodiscard]] const Checkpoint& reached() const { return reached_; }
  // Whether a barrier was reached that the committed checkpoint does not hold.
  [[nodiscard]] bool barrier_reached() const;
  // Set when Begin refused a transaction whose actors can't be told apart in pieces: where it committed. Everything
  // before it is in order; it has to be read without streaming.
  [[nodiscard]] std::optional<postgres::Lsn> refused() const { return refused_; }
  // Commit time of the oldest transaction with rows since the history's last commit.
  [[nodiscard]] std::optional<pgoutput::Timestamp> oldest() const { return oldest_; }
  void Committed() { oldest_.reset(); }
  // Rows that committed before the barrier into cdc or behind the one out of it.
  [[nodiscard]] int64_t passed_over() const { return passed_over_; }

 private:
  History* history_;
  std::string policy_;
  Heartbeat heartbeat_;
  Checkpoint reached_;
  bool skip_ = false;  // the transaction is in the history already
  RowContext context_;
  std::optional<postgres::Lsn> refused_;
  std::optional<pgoutput::Timestamp> oldest_;
  int64_t passed_over_ = 0;
};

}  // namespace pgtier::workers
