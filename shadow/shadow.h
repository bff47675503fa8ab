// Shadow tables: what writes the audit history of a set of tables, installed in the database and changed there. The SQL
// that does it stands in sql/shadow; docs/decisions/0033 and following say why it is so. Three tiers write the same
// history:
//   triggers  a row trigger writes the history row in the writer's own transaction;
//   notify    it writes into an outbox, which pgtier-worker moves into the history;
//   cdc       pgtier-worker reads the write-ahead log and writes the history.
//
// Every function takes a connection to the primary itself (no pooler) and to the database that holds the tables, and is
// idempotent: killed before, in or after, it is called again. Errors of all: those of Connection::Query, and
// kFailedPrecondition with a text for a person where the database's state forbids it. A role that is no superuser can
// do most of it; Preflight names what it can't.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/postgres/lsn.h"

namespace pgtier::shadow {

// Roles that Install makes, without passwords (postgres::SetPassword gives them one).
inline constexpr std::string_view kOwnerRole = "pgtier_shadow";          // NOLOGIN: owns histories and who writes them
inline constexpr std::string_view kNotifyRole = "pgtier_shadow_notify";  // LOGIN: the worker in notify
inline constexpr std::string_view kCdcRole = "pgtier_shadow_cdc";        // LOGIN REPLICATION: the worker in cdc

enum class Tier { kTriggers, kNotify, kCdc };
// "triggers", "notify", "cdc".
std::string_view TierName(Tier tier);
// Errors: kInvalidArgument.
Result<Tier> ParseTier(std::string_view name);

struct Table {
  std::string source;   // as SQL writes it: public.customers, "My Schema"."T"; without a schema: public
  std::string history;  // the same; empty: <source>_history beside the source
};

struct Spec {
  std::string policy;  // "<namespace>/<name>": the owner's name in the database
  std::vector<Table> tables;
  std::string actor_setting;  // "app.actor"; empty: no actor is recorded
  std::string channel;        // of NOTIFY
  std::string slot;           // of cdc; empty where the policy has no tier cdc
};

// `name`, or, where the server would cut it off, its beginning and the beginning of the hash of `hashed`.
std::string CutName(const std::string& name, const std::string& hashed);

// The publication of a policy's slot: "pgtier_<slot>", cut as by CutName.
std::string PublicationName(const Spec& spec);

// The replication origin of a policy's consumer: "pgtier_<slot>", whose length the server does not limit.
std::string OriginName(const Spec& spec);

// Something in the way, or worth knowing (`blocks` is false).
struct Finding {
  std::string code;     // PascalCase: "UnloggedTable"
  std::string object;   // what it is about: "public.customers", "wal_level"
  std::string message;  // what was found
  std::string cure;     // what to do about it
  bool blocks = true;
};

struct TableState {
  std::string source, history;  // as SQL writes them
  bool installed = false;       // triggers, function, history and outbox are as spec and tier want them
  int64_t history_rows_estimate = 0;
  int64_t queued = 0;  // rows of the outbox; exact up to 10,000
};

struct SlotState {
  bool exists = false, active = false, failover = false;
  bool synced_only = false;              // a copy from a primary (on a standby, or left behind by a promotion)
  std::string wal_status;                // "reserved", "extended", "unreserved", "lost"; empty: no slot
  int64_t retained_bytes = 0;            // WAL that the server keeps for it
  std::optional<int64_t> safe_wal_size;  // bytes until it is in danger; nothing where max_slot_wal_keep_size is -1
};

// pgtier.shadow_checkpoint: how far the consumer of cdc has come.
struct CheckpointState {
  std::string system_identifier;
  int64_t timeline = 0;
  std::string slot;
  postgres::Lsn lsn;
  int64_t epoch = 0;        // that it applies; 0: none yet
  int64_t ended_epoch = 0;  // of the newest barrier out of cdc that it has reached
  bool ended = true;        // the newest barrier out of cdc has been reached
  double age_seconds = 0;   // since it was written
};

// A source whose columns are others than its history knows.
struct Drift {
  std::string source;
  std::string what;  // "phone added, fax dropped"
};

// Rows in notifications (delivery Payload of tier notify).
struct PayloadState {
  bool sends = false;      // the triggers' text sends rows
  bool under_way = false;  // it does, or did, and not all that was sent has been heard
  bool listening = false;  // a worker listens; while none does rows go into the outbox
  int64_t gaps = 0;        // times of which rows that were sent may be missing (pgtier.shadow_gaps)
  std::string last_gap;    // the newest of them: "2026-11-21T16:00:00Z to 2026-11-21T16:00:07Z"
};

struct State {
  bool installed = false;  // the policy is known to the database
  std::string version;     // of the SQL that is installed; InstalledVersion() is this program's
  Tier tier = Tier::kTriggers;
  int64_t epoch = 0;
  bool draining = false;  // a swap away from notify has not been seen to end (Drained)
  // One for each table of the spec, in its order; then, with `installed` false, those that the spec no longer names.
  // All `installed` means that Install has nothing to do.
  std::vector<TableState> tables;
  int64_t queue_depth = 0;  // rows in all outboxes
  Duration oldest{};        // age of the oldest of them
  SlotState slot;
  std::optional<CheckpointState> checkpoint;
  bool follows_ddl = true;  // event triggers carry changes of the sources' columns over; else Install does
  PayloadState payload;
  std::vector<Drift> drifts;      // what of them no history has followed yet
  double notify_queue_usage = 0;  // pg_notification_queue_usage(): 0 to 1
  int64_t dead_letters = 0;
};

// What identifies this program's SQL.
std::string InstalledVersion();

// Reads everything, changes nothing. A policy that the database does not know is no error: `installed` is false.
Result<State> Inspect(postgres::Connection& connection, const Spec& spec, Deadline deadline);

// What stands in the way of `target`, or is worth knowing before; a history that is to be adopted is checked too.
// Changes nothing; call it with the role that acts.
Result<std::vector<Finding>> Preflight(postgres::Connection& connection, const Spec& spec, Tier target,
                                       Deadline deadline);

// Makes what is missing: schema pgtier, roles, state, and for each table of the spec its history (made, or adopted and
// checked), outbox, function and triggers; carries over columns that the source has got meanwhile; takes tables that
// the spec no longer names out of the policy (their histories stay). A new policy starts in triggers; an installed one
// stays in its tier. Takes SHARE ROW EXCLUSIVE on a source for some milliseconds, with retries while writers hold it; a
// table that is installed already is not locked. Errors: kFailedPrecondition: a blocking finding, by name;
// kDeadlineExceeded: writers did not let it in.
Status Install(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// Between triggers and notify, exact, without a lock on a source. To triggers: ask Drained until it is true before the
// worker ends. Nothing happens when the policy is in `to` already. Errors: kFailedPrecondition: the policy is in cdc,
// or not installed.
Status SwapBodies(postgres::Connection& admin, const Spec& spec, Tier to, Deadline deadline);

// Between the two deliveries of tier notify, exact, without a lock on a source: rows in notifications (`sends`), or in
// the outbox. Away from the former: ask Drained until it is true before the worker stops listening. Nothing happens
// where it is so already. Errors: kFailedPrecondition: the policy is in another tier, or not installed.
Status Deliver(postgres::Connection& admin, const Spec& spec, bool sends, Deadline deadline);

// After leaving notify, or its delivery by notifications (which the worker has to have heard): whether every
// transaction that may still run the old body has ended and the outbox is empty. The worker moves the rows; this only
// looks. Always true while nothing is left to do.
Result<bool> Drained(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// Publication, replica identity FULL, actor triggers, origin, slot (with failover where the server can) and checkpoint.
// Repeatable; call it again after a change of the actor's setting. Errors: kFailedPrecondition: wal_level, rights, a
// slot of somebody else; kDeadlineExceeded: writers, or an old transaction, hold it up.
Status PrepareCdc(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// The exact change of tier: one transaction that holds all writers of all tables off for less than a second, gives the
// new epoch and writes a message into the log that a consumer cuts at. Tries again, at random intervals, while writers
// hold it off. Into cdc call PrepareCdc before; out of cdc the consumer goes on until CdcEnded. Nothing happens when
// the policy is in `to` already. Errors: kFailedPrecondition: cdc is not prepared; kDeadlineExceeded: writers never let
// it in (the message says who).
Status Barrier(postgres::Connection& admin, const Spec& spec, Tier to, Deadline deadline);

// After a barrier out of cdc: whether the consumer has applied all that committed before it.
Result<bool> CdcEnded(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// After a barrier out of cdc whose log is gone (slot dropped, or lost): what was not read yet is written down as a gap
// in pgtier.shadow_dead_letters, and CdcEnded is true from then on. Does nothing while the slot can be read.
Status SettleCdc(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// Slot, publication, origin and actor triggers go, replica identities become what they were. Call it again after an
// error. Errors: kFailedPrecondition: the slot is in use (the server keeps it for a moment after the consumer has
// gone), or the policy is in cdc, or the consumer has not come to the barrier out of it; kDeadlineExceeded: writers.
Status DropCdc(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// Triggers, functions and outboxes (moved into the histories first) go; histories, positions and the epoch stay, so
// that a later Install goes on from there. Errors as Install; kFailedPrecondition: the policy is in cdc.
Status Uninstall(postgres::Connection& admin, const Spec& spec, Deadline deadline);

// Leaves the policy's triggers and functions at work, and notes that nobody keeps them: Install of a policy that names
// the same tables takes them over. Install of this one takes the note back.
Status Retain(postgres::Connection& admin, const Spec& spec, Deadline deadline);

}  // namespace pgtier::shadow
