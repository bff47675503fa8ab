// The outboxes of a policy, as the worker of tier notify moves them. All of it may be called by kNotifyRole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::shadow {

struct Outbox {
  int64_t id = 0;      // of the table in pgtier.shadow_tables
  std::string source;  // as SQL writes it
};

// All outboxes that there are for the policy, also those that nothing is written into any more.
Result<std::vector<Outbox>> Outboxes(postgres::Connection& connection, const std::string& policy, Deadline deadline);

struct Queue {
  int64_t depth = 0;          // rows, counted up to the bound that was asked for
  double oldest_seconds = 0;  // for how long the first has waited
};

Result<Queue> QueueOf(postgres::Connection& connection, const Outbox& outbox, int64_t most, Deadline deadline);

enum class Next {
  kRest,        // nothing more to do
  kAgain,       // there is more
  kBusy,        // others hold all shards
  kEverything,  // the next row belongs to shards of others too: call again with `everything`
};

struct Batch {
  int64_t moved = 0;          // rows that went into the history
  int64_t buried = 0;         // rows that went into pgtier.shadow_dead_letters
  double oldest_seconds = 0;  // for how long the oldest of them had waited
  Next next = Next::kRest;
};

// Moves at most `rows` rows in one transaction. `workers` is how many share the outbox: this one takes that part of the
// shards. With `everything` it waits for all shards. Errors: those of Connection::Query.
Result<Batch> MoveBatch(postgres::Connection& connection, const Outbox& outbox, int64_t rows, int64_t workers,
                        bool everything, Deadline deadline);

}  // namespace pgtier::shadow
