// pgtier.shadow_checkpoint: up to where the consumer of cdc has written the history, kept in the transaction of the
// rows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/postgres/lsn.h"
#include "lib/postgres/replication.h"

namespace pgtier::workers {

struct Checkpoint {
  std::string system_identifier;
  int64_t timeline = 0;  // 0: not known; below: PrepareCdc is making the slot
  std::string slot;
  postgres::Lsn lsn;  // behind the last commit that the history holds: what commits before it is never written again
  int64_t epoch = 0;  // of the newest barrier into cdc that was reached; 0: none yet
  int64_t ended_epoch = 0;  // of the newest barrier out of cdc that was reached
  std::string secret;       // that barriers' messages carry: anybody may emit messages

  // Whether changes are to be written: the newest barrier led into cdc.
  [[nodiscard]] bool Applies() const { return epoch > ended_epoch; }
};

// A server's slot, as far as a consumer has to know.
struct SlotFacts {
  postgres::Lsn confirmed;  // what the server believes to be kept
  std::string wal_status;   // "lost": it can't be read any more
};

// Errors: kFailedPrecondition: the policy has none (PrepareCdc makes it).
Result<Checkpoint> ReadCheckpoint(postgres::Connection& connection, const std::string& policy, Deadline deadline);

// Nothing: there is no such slot.
Result<std::optional<SlotFacts>> ReadSlot(postgres::Connection& connection, const std::string& slot, Deadline deadline);

// Writes `to` in place of what stands at `from`, in the open transaction. Errors: kAborted: another consumer has moved
// it.
Status MoveCheckpoint(postgres::Connection& connection, const std::string& policy, postgres::Lsn from,
                      const Checkpoint& to, Deadline deadline);

// Holds the checkpoint against the server and the slot before reading starts. Where changes are missing between both
// (the slot's confirmed position is past the checkpoint, or the slot was lost) it writes that down as a dead letter
// once, for the loss is a fact, and moves the checkpoint to where reading can go on. True: a gap was found. Errors:
// kFailedPrecondition: another server's, or another slot's, checkpoint; no slot, or a slot that can't be read; a server
// whose timeline does not come from the checkpoint's. `ends` are those of the server's timeline: one that forked before
// the checkpoint is a gap too, for what the history holds from there on is of another past.
Result<bool> Reconcile(postgres::Connection& connection, const std::string& policy,
                       const postgres::SystemIdentity& server, const postgres::TimelineEnds& ends,
                       const std::string& slot, Checkpoint& checkpoint, Deadline deadline);

}  // namespace pgtier::workers
