// A step of a migration: what the runner calls until it is done. Whoever implements one knows nothing of the runner.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::migrations {

struct Progress {
  bool done = false;
  // In what the step counts (rows, partitions); total 0: nobody knows.
  int64_t finished = 0, total = 0;
  std::string message;  // What it does or waits for, for a person; may be empty.
};

struct StepState {
  nlohmann::json checkpoint;  // What the step stored last; null at first.
};

// Writes state.checkpoint and progress into the database, with the transaction that is open on the connection: both are
// seen together with the rows that they cover, or not at all. Without an open transaction it is one of its own.
using SaveCheckpoint = std::function<Status(const StepState& state, const Progress& progress, Deadline deadline)>;

class Step {
 public:
  virtual ~Step() = default;

  // For a dry run: what it would do and which locks it takes, a line each. Changes nothing.
  virtual Result<std::vector<std::string>> Plan(postgres::Connection& connection, Deadline deadline) = 0;

  // One bounded batch of work, a few seconds at most, each batch in a transaction of its own that it begins and commits
  // and that `save` is called in; called again until `done`. The process may be killed at any point, so whatever it did
  // without having saved, it must find out or do again without harm. No transaction is open when it returns.
  //
  // The runner has set lock_timeout, and statement_timeout to zero; it alone waits (throttles, pauses, retries):
  // an error of SQLSTATE 55P03, 40P01 or 40001 or kUnavailable is tried again, with the state that was saved last; any
  // other error stops the migration, its message in front of a person. `state` is the runner's copy: what is changed in
  // it without `save` is lost at the next failure.
  virtual Result<Progress> Advance(postgres::Connection& connection, StepState& state, const SaveCheckpoint& save,
                                   Deadline deadline) = 0;
};

}  // namespace pgtier::migrations
