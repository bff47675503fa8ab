// pgtier.migrations: what the steps of a migration have come to, in the database that they change.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "migrations/config.h"
#include "migrations/step.h"

namespace pgtier::migrations {

enum class State { kPending, kRunning, kDone, kFailed };

struct Entry {
  State state = State::kPending;
  std::string hash;
  StepState saved;
  Progress progress;
  double rate = 0;  // of progress.finished, a second
  std::optional<WallTime> started, finished;

  // What it did counts on being what it was.
  [[nodiscard]] bool Fixed() const { return state == State::kDone || !saved.checkpoint.is_null(); }
};

// The entries of a migration by step; none where nothing has run in this database yet. For the operator too.
Result<std::map<std::string, Entry>> ReadLedger(postgres::Connection& connection, const std::string& migration,
                                                Deadline deadline);

// The key of the advisory lock that keeps two runners of a migration apart.
int64_t LockOf(const std::string& migration);

// Why a step can't go on as it is written now; empty: it can. "StepEdited: …"
std::string WhyEdited(const StepConfig& step, const Entry& entry);

class Ledger {
 public:
  explicit Ledger(std::string migration) : migration_(std::move(migration)) {}

  // Makes schema and table if they are missing.
  static Status Prepare(postgres::Connection& connection, Deadline deadline);

  // A step runs now, as it is written now.
  Status Begin(postgres::Connection& connection, const StepConfig& step, size_t position, Deadline deadline) const;
  // With the transaction that is open, if one is. `progress.done`: it is done.
  Status Save(postgres::Connection& connection, const std::string& step, const StepState& state,
              const Progress& progress, double rate, Deadline deadline) const;
  Status Finish(postgres::Connection& connection, const std::string& step, Deadline deadline) const;
  Status Fail(postgres::Connection& connection, const std::string& step, const std::string& message,
              Deadline deadline) const;
  // What it waits for, or what it does now.
  Status Say(postgres::Connection& connection, const std::string& step, const std::string& message,
             Deadline deadline) const;

 private:
  std::string migration_;
};

}  // namespace pgtier::migrations
