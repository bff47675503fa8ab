// What a promotion asks of servers and does to them. Errors are those of Connection::Query.
#pragma once

#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/postgres/lsn.h"

namespace pgtier::postgres {

// Where a server's WAL ends, as it says itself.
struct WalPosition {
  bool in_recovery = false;
  std::string system_identifier;
  int64_t timeline = 0;  // Of the last checkpoint, or that is being received.
  Lsn received;          // On a standby: flushed from the primary; 0: nothing since its start.
  Lsn replayed;          // On a standby; on a primary the write position.
  // The last checkpoint, on a standby the last restartpoint: its record, and where replay from it would begin.
  Lsn checkpoint, redo;
};
Result<WalPosition> ReadWalPosition(Connection& connection, Deadline deadline);

// Whether the last that a standby has replayed is the checkpoint with which its primary shut down: then it holds all
// that the primary ever wrote. A shutdown checkpoint is where its own redo begins (an online one has a record between
// the two), and nothing but itself lies between it and the end of replay. The standby must have made a restartpoint
// since (CHECKPOINT), or it knows of an older one only. A crash recovery ends with such a record too, so the caller
// must know that this one is later than some position at which the primary was fenced.
bool EndsInShutdown(const WalPosition& position);

// Makes a running primary come up as a standby from its next start on, by the file standby.signal in its data
// directory. Now it goes on as it is. Superuser.
Status PlantStandbySignal(Connection& primary, Deadline deadline);

// Ends recovery, and waits until the server takes writes. No error where it does already. Superuser.
Status Promote(Connection& standby, Deadline deadline);

}  // namespace pgtier::postgres
