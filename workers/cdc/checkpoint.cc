#include "workers/cdc/checkpoint.h"

namespace pgtier::workers {
namespace {

using postgres::Lsn;

// Dead letters of gaps have no source.
Status RecordGap(postgres::Connection& connection, const std::string& policy, const std::string& what, Lsn lsn,
                 Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query("INSERT INTO pgtier.shadow_dead_letters"
                                                      " (policy, source, lsn, payload, error)"
                                                      " VALUES ($1, '', $2::pg_lsn, '', $3)",
                                                      {policy, lsn.ToString(), what}, deadline));
  return rows.affected() == 1 ? Status() : MakeError(Code::kInternal, "no dead letter was written");
}

Result<Lsn> GetLsn(const postgres::Row& row, const char* column) {
  PGTIER_ASSIGN_OR_RETURN(std::string text, row.Get<std::string>(column));
  return Lsn::Parse(text);
}

}  // namespace

Result<Checkpoint> ReadCheckpoint(postgres::Connection& connection, const std::string& policy, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows,
                          connection.Query("SELECT system_identifier, timeline, slot, lsn, epoch, ended_epoch, secret"
                                           " FROM pgtier.shadow_checkpoint WHERE policy = $1",
                                           {policy}, deadline));
  if (rows.empty()) {
    return MakeError(Code::kFailedPrecondition, "policy " + policy + " has no checkpoint: cdc was not prepared");
  }
  Checkpoint checkpoint;
  const postgres::Row row = rows[0];
  PGTIER_ASSIGN_OR_RETURN(checkpoint.system_identifier, row.Get<std::string>("system_identifier"));
  PGTIER_ASSIGN_OR_RETURN(checkpoint.timeline, row.Get<int64_t>("timeline"));
  PGTIER_ASSIGN_OR_RETURN(checkpoint.slot, row.Get<std::string>("slot"));
  PGTIER_ASSIGN_OR_RETURN(checkpoint.lsn, GetLsn(row, "lsn"));
  PGTIER_ASSIGN_OR_RETURN(checkpoint.epoch, row.Get<int64_t>("epoch"));
  PGTIER_ASSIGN_OR_RETURN(checkpoint.ended_epoch, row.Get<int64_t>("ended_epoch"));
  PGTIER_ASSIGN_OR_RETURN(checkpoint.secret, row.Get<std::string>("secret"));
  return checkpoint;
}

Result<std::optional<SlotFacts>> ReadSlot(postgres::Connection& connection, const std::string& slot,
                                          Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query("SELECT coalesce(confirmed_flush_lsn, '0/0') AS confirmed,"
                                                      " coalesce(wal_status, '') AS wal_status"
                                                      " FROM pg_catalog.pg_replication_slots"
                                                      " WHERE slot_name = $1 AND database = current_database()",
                                                      {slot}, deadline));
  if (rows.empty()) return std::optional<SlotFacts>();
  SlotFacts facts;
  PGTIER_ASSIGN_OR_RETURN(facts.confirmed, GetLsn(rows[0], "confirmed"));
  PGTIER_ASSIGN_OR_RETURN(facts.wal_status, rows[0].Get<std::string>("wal_status"));
  return std::optional(facts);
}

Status MoveCheckpoint(postgres::Connection& connection, const std::string& policy, Lsn from, const Checkpoint& to,
                      Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      connection.Query("UPDATE pgtier.shadow_checkpoint SET system_identifier = $3, timeline = $4, slot = $5,"
                       " lsn = $6::pg_lsn, epoch = $7, ended_epoch = $8, updated_at = clock_timestamp()"
                       " WHERE policy = $1 AND lsn = $2::pg_lsn",
                       {policy, from.ToString(), to.system_identifier, std::to_string(to.timeline), to.slot,
                        to.lsn.ToString(), std::to_string(to.epoch), std::to_string(to.ended_epoch)},
                       deadline));
  if (rows.affected() == 1) return {};
  return MakeError(Code::kAborted, "the checkpoint of " + policy + " was moved by somebody else");
}

Result<bool> Reconcile(postgres::Connection& connection, const std::string& policy,
                       const postgres::SystemIdentity& server, const postgres::TimelineEnds& ends,
                       const std::string& slot, Checkpoint& checkpoint, Deadline deadline) {
  auto refuse = [&](const std::string& why) { return MakeError(Code::kFailedPrecondition, why); };
  const std::string of = "the checkpoint of " + policy + " is of ";
  const std::string anew = ": prepare cdc anew by way of the tier triggers";
  if (!checkpoint.system_identifier.empty() && checkpoint.system_identifier != server.system_identifier) {
    return refuse(of + "the server " + checkpoint.system_identifier + ", this one is " + server.system_identifier +
                  anew);
  }
  if (!checkpoint.slot.empty() && checkpoint.slot != slot) {
    return refuse(of + "slot " + checkpoint.slot + ", not of " + slot);
  }
  if (checkpoint.timeline < 0) return refuse("slot " + slot + " is still being made");
  const Lsn was = checkpoint.lsn;
  std::optional<Lsn> fork;
  if (checkpoint.timeline > 0 && checkpoint.timeline != server.timeline) {
    const auto end = ends.find(checkpoint.timeline);
    if (end == ends.end()) {
      return refuse(of + "timeline " + std::to_string(checkpoint.timeline) + ", from which this server's, " +
                    std::to_string(server.timeline) + ", does not come" + anew);
    }
    if (end->second < was) fork = end->second;
  }
  PGTIER_ASSIGN_OR_RETURN(auto facts, ReadSlot(connection, slot, deadline));
  Checkpoint next = checkpoint;
  next.system_identifier = server.system_identifier;
  next.timeline = server.timeline;
  const bool lost = !facts.has_value() || facts->wal_status == "lost";
  if (lost) {
    // Written down once the slot that takes its place says where it begins.
    return refuse("slot " + slot + (facts.has_value() ? " has lost its WAL" : " does not exist") +
                  ": changes of the sources after " + was.ToString() + " are in no history any more");
  }
  next.slot = slot;
  std::string gap;
  if (fork.has_value()) {
    gap = "gap: timeline " + std::to_string(server.timeline) + " of this server forked at " + fork->ToString() +
          ", before the history's end at " + was.ToString() + " on timeline " + std::to_string(checkpoint.timeline) +
          ": what it holds of commits behind the fork may never have happened here";
    next.lsn = *fork;
  }
  if (facts->confirmed > next.lsn) {
    gap += (gap.empty() ? "gap: slot " : "; slot ") + slot + " begins at " + facts->confirmed.ToString() +
           ", the history ends at " + next.lsn.ToString() + ": changes that committed between are missing";
    next.lsn = facts->confirmed;
  }
  if (gap.empty() && next.timeline == checkpoint.timeline && next.slot == checkpoint.slot &&
      next.system_identifier == checkpoint.system_identifier) {
    return false;
  }
  PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
  if (!gap.empty()) PGTIER_RETURN_IF_ERROR(RecordGap(connection, policy, gap, was, deadline));
  PGTIER_RETURN_IF_ERROR(MoveCheckpoint(connection, policy, was, next, deadline));
  PGTIER_RETURN_IF_ERROR(transaction.Commit(deadline));
  checkpoint = next;
  return !gap.empty();
}

}  // namespace pgtier::workers
