#include "lib/postgres/promotion.h"

#include <algorithm>

#include "lib/postgres/catalogue.h"
#include "lib/postgres/quote.h"

namespace pgtier::postgres {
namespace {

Result<Lsn> ReadLsn(const Row& row, const char* name) {
  PGTIER_ASSIGN_OR_RETURN(auto text, row.Get<std::string>(name));
  return Lsn::Parse(text);
}

}  // namespace

Result<WalPosition> ReadWalPosition(Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      Rows rows,
      connection.Query("SELECT r.recovering, (SELECT system_identifier FROM pg_control_system())::text AS id,"
                       " c.checkpoint_lsn::text AS checkpoint, c.redo_lsn::text AS redo,"
                       " CASE WHEN r.recovering THEN coalesce(pg_last_wal_receive_lsn(), '0/0') ELSE '0/0' END::text"
                       "   AS received,"
                       " CASE WHEN r.recovering THEN coalesce(pg_last_wal_replay_lsn(), '0/0')"
                       "   ELSE pg_current_wal_lsn() END::text AS replayed,"
                       " greatest(c.timeline_id, (SELECT received_tli FROM pg_stat_wal_receiver))::bigint AS timeline"
                       " FROM pg_control_checkpoint() c, (SELECT pg_is_in_recovery() AS recovering) r",
                       deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
  WalPosition position;
  PGTIER_ASSIGN_OR_RETURN(position.in_recovery, row.Get<bool>("recovering"));
  PGTIER_ASSIGN_OR_RETURN(position.system_identifier, row.Get<std::string>("id"));
  PGTIER_ASSIGN_OR_RETURN(position.timeline, row.Get<int64_t>("timeline"));
  PGTIER_ASSIGN_OR_RETURN(position.checkpoint, ReadLsn(row, "checkpoint"));
  PGTIER_ASSIGN_OR_RETURN(position.redo, ReadLsn(row, "redo"));
  PGTIER_ASSIGN_OR_RETURN(position.received, ReadLsn(row, "received"));
  PGTIER_ASSIGN_OR_RETURN(position.replayed, ReadLsn(row, "replayed"));
  return position;
}

bool EndsInShutdown(const WalPosition& position) {
  // The record takes 120 bytes on 17, and a page's header may fall into it (40 bytes at a segment's begin). The least
  // that can follow and matter, a row and its commit, is longer than what this allows for.
  constexpr uint64_t kLongest = 160;
  if (!position.in_recovery || position.checkpoint.value == 0 || position.checkpoint != position.redo) return false;
  if (position.replayed <= position.checkpoint || position.replayed < position.received) return false;
  return BytesBehind(position.checkpoint, position.replayed) <= kLongest;
}

Status PlantStandbySignal(Connection& primary, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(std::string directory, Setting(primary, "data_directory", deadline));
  PGTIER_ASSIGN_OR_RETURN(std::string path, QuoteLiteral(primary, directory + "/standby.signal"));
  PGTIER_ASSIGN_OR_RETURN(auto done, primary.Execute("COPY (SELECT 1 WHERE false) TO " + path, deadline));
  std::ignore = done;  // No row; that the file is there, COPY has checked.
  return {};
}

Status Promote(Connection& standby, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(bool in_recovery, IsInRecovery(standby, deadline));
  if (!in_recovery) return {};
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(deadline.Remaining()).count();
  PGTIER_ASSIGN_OR_RETURN(Rows rows, standby.Query("SELECT pg_promote(true, $1::int) AS done",
                                                   {std::to_string(std::max<long long>(1, seconds - 1))}, deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
  PGTIER_ASSIGN_OR_RETURN(bool done, row.Get<bool>("done"));
  PGTIER_ASSIGN_OR_RETURN(in_recovery, IsInRecovery(standby, deadline));
  if (done && !in_recovery) return {};
  return MakeError(Code::kUnavailable, "the server was told to end recovery and has not ended it yet");
}

}  // namespace pgtier::postgres
