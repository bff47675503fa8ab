// What controllers ask of a server and do to it beside the application's data: recovery, replication, slots, advisory
// locks. Every function is one round trip or says otherwise; errors are those of Connection::Query.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/postgres/lsn.h"

namespace pgtier::postgres {

// A setting as SHOW prints it, with its unit ("128MB"). Errors: kNotFound: no such setting.
Result<std::string> Setting(Connection& connection, const std::string& name, Deadline deadline);

struct SettingState {
  std::string name;
  std::string value;  // as SHOW prints it
  bool pending_restart = false;
};
// All settings, or those named; unknown names are left out.
Result<std::vector<SettingState>> Settings(Connection& connection, const std::vector<std::string>& names,
                                           Deadline deadline);

Result<bool> IsInRecovery(Connection& connection, Deadline deadline);

// On a primary the write position; on a standby the newest position received or replayed (the greater of the two).
Result<Lsn> CurrentLsn(Connection& connection, Deadline deadline);

// Where the oldest WAL file of a server begins. Rights: pg_monitor. Errors: kNotFound: it has none.
Result<Lsn> OldestWal(Connection& connection, Deadline deadline);

struct ServerIdentity {
  std::string system_identifier;  // equal on a primary and its standbys
  int64_t timeline = 0;           // of the last checkpoint
};
Result<ServerIdentity> Identity(Connection& connection, Deadline deadline);

// A row of pg_stat_replication, seen on the primary. Rights: pg_monitor, else all but the name is empty.
struct Replica {
  std::string application_name;
  std::string client_address;  // empty for a Unix socket
  std::string state;           // "streaming", "catchup", "backup", "startup", "stopping"
  std::string sync_state;      // "async", "sync", "quorum", "potential"
  std::optional<Lsn> sent, write, flush, replay;
  // How long recent WAL took until it was replayed there; nothing on an idle, caught-up standby.
  std::optional<Duration> replay_lag;
};
Result<std::vector<Replica>> Replicas(Connection& connection, Deadline deadline);

struct ReplicationSlot {
  std::string name;
  bool physical = true;
  bool active = false;
  std::optional<int64_t> active_pid;
  std::optional<Lsn> restart_lsn;
  std::string wal_status;  // "reserved", "extended", "unreserved", "lost"; empty when nothing was reserved yet
};
Result<std::vector<ReplicationSlot>> ReplicationSlots(Connection& connection, Deadline deadline);

// Makes a physical slot that reserves WAL at once. True when it was made, false when it was there already.
// Errors: kAlreadyExists: a logical slot has that name; kResourceExhausted: max_replication_slots.
Result<bool> EnsurePhysicalSlot(Connection& connection, const std::string& name, Deadline deadline);
// Drops it. True when it was dropped, false when it was not there. Errors: kFailedPrecondition: it is in use.
Result<bool> DropSlot(Connection& connection, const std::string& name, Deadline deadline);

// A session-level advisory lock. False when another session has it. Not through a transaction pooler.
Result<bool> TryAdvisoryLock(Connection& connection, int64_t key, Deadline deadline);
// False when this session did not have it.
Result<bool> ReleaseAdvisoryLock(Connection& connection, int64_t key, Deadline deadline);

}  // namespace pgtier::postgres
