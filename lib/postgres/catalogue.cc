#include "lib/postgres/catalogue.h"

#include <cmath>

namespace pgtier::postgres {
namespace {

std::string TextOrEmpty(const Row& row, std::string_view column) { return std::string(row.Text(column).value_or("")); }

Result<std::optional<Lsn>> FindLsn(const Row& row, std::string_view column) {
  auto text = row.Text(column);
  if (!text.has_value()) return std::optional<Lsn>();
  PGTIER_ASSIGN_OR_RETURN(Lsn lsn, Lsn::Parse(*text));
  return std::optional<Lsn>(lsn);
}

// The one value of a statement that answers with one row and one column.
template <typename T>
Result<T> QueryValue(Connection& connection, const std::string& sql, const Params& params, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(Rows rows, connection.Query(sql, params, deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
  return row.Get<T>(0);
}

}  // namespace

Result<std::string> Setting(Connection& connection, const std::string& name, Deadline deadline) {
  return QueryValue<std::string>(connection, "SELECT current_setting($1)", {name}, deadline);
}

Result<std::vector<SettingState>> Settings(Connection& connection, const std::vector<std::string>& names,
                                           Deadline deadline) {
  std::string sql = "SELECT name, current_setting(name, true) AS value, pending_restart FROM pg_settings";
  Params params;
  for (const std::string& name : names) {
    sql += params.empty() ? " WHERE name IN (" : ", ";
    params.emplace_back(name);
    sql += "$" + std::to_string(params.size());
  }
  sql += params.empty() ? " ORDER BY name" : ") ORDER BY name";
  PGTIER_ASSIGN_OR_RETURN(Rows rows, connection.Query(sql, params, deadline));
  std::vector<SettingState> settings;
  settings.reserve(rows.size());
  for (const Row& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(bool pending, row.Get<bool>("pending_restart"));
    settings.push_back({TextOrEmpty(row, "name"), TextOrEmpty(row, "value"), pending});
  }
  return settings;
}

Result<bool> IsInRecovery(Connection& connection, Deadline deadline) {
  return QueryValue<bool>(connection, "SELECT pg_is_in_recovery()", {}, deadline);
}

Result<Lsn> CurrentLsn(Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto text,
                          QueryValue<std::string>(connection,
                                                  "SELECT CASE WHEN pg_is_in_recovery()"
                                                  " THEN greatest(coalesce(pg_last_wal_receive_lsn(), '0/0'),"
                                                  "               coalesce(pg_last_wal_replay_lsn(), '0/0'))"
                                                  " ELSE pg_current_wal_lsn() END",
                                                  {}, deadline));
  return Lsn::Parse(text);
}

Result<Lsn> OldestWal(Connection& connection, Deadline deadline) {
  // A file's name holds timeline, and the segment's number in two parts (PostgreSQL, xlog_internal.h). Timelines share
  // the numbers, and files that are kept for later have higher ones.
  PGTIER_ASSIGN_OR_RETURN(
      auto text, QueryValue<std::string>(
                     connection,
                     "SELECT coalesce(min('0/0'::pg_lsn + ('x' || substr(name, 9, 8))::bit(32)::bigint * 4294967296 + "
                     "  ('x' || substr(name, 17, 8))::bit(32)::bigint * (SELECT setting::bigint FROM pg_settings "
                     "    WHERE name = 'wal_segment_size'))::text, '') FROM pg_ls_waldir() "
                     "WHERE name ~ '^[0-9A-F]{24}$'",
                     {}, deadline));
  if (text.empty()) return MakeError(Code::kNotFound, "the server has no WAL file");
  return Lsn::Parse(text);
}

Result<ServerIdentity> Identity(Connection& connection, Deadline deadline) {
  // The control file lags behind a promotion until its checkpoint: the name of the WAL file in use does not.
  PGTIER_ASSIGN_OR_RETURN(
      Rows rows, connection.Query("SELECT (SELECT system_identifier FROM pg_control_system())::text AS id,"
                                  " CASE WHEN pg_is_in_recovery()"
                                  " THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()),"
                                  "               (SELECT received_tli FROM pg_stat_wal_receiver))"
                                  " ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END"
                                  " AS timeline",
                                  deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, rows.Single());
  PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<std::string>("id"));
  PGTIER_ASSIGN_OR_RETURN(auto timeline, row.Get<int64_t>("timeline"));
  return ServerIdentity{id, timeline};
}

Result<std::vector<Replica>> Replicas(Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      Rows rows, connection.Query("SELECT application_name, host(client_addr) AS client_address, state, sync_state,"
                                  " sent_lsn, write_lsn, flush_lsn, replay_lsn,"
                                  " extract(epoch FROM replay_lag)::float8 AS replay_lag_seconds"
                                  " FROM pg_stat_replication ORDER BY application_name, pid",
                                  deadline));
  std::vector<Replica> replicas;
  for (const Row& row : rows) {
    Replica replica;
    replica.application_name = TextOrEmpty(row, "application_name");
    replica.client_address = TextOrEmpty(row, "client_address");
    replica.state = TextOrEmpty(row, "state");
    replica.sync_state = TextOrEmpty(row, "sync_state");
    PGTIER_ASSIGN_OR_RETURN(replica.sent, FindLsn(row, "sent_lsn"));
    PGTIER_ASSIGN_OR_RETURN(replica.write, FindLsn(row, "write_lsn"));
    PGTIER_ASSIGN_OR_RETURN(replica.flush, FindLsn(row, "flush_lsn"));
    PGTIER_ASSIGN_OR_RETURN(replica.replay, FindLsn(row, "replay_lsn"));
    PGTIER_ASSIGN_OR_RETURN(auto lag, row.Find<double>("replay_lag_seconds"));
    if (lag.has_value()) replica.replay_lag = Duration(std::llround(*lag * 1e9));
    replicas.push_back(std::move(replica));
  }
  return replicas;
}

Result<std::vector<ReplicationSlot>> ReplicationSlots(Connection& connection, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(Rows rows,
                          connection.Query("SELECT slot_name, slot_type, active, active_pid, restart_lsn, wal_status"
                                           " FROM pg_replication_slots ORDER BY slot_name",
                                           deadline));
  std::vector<ReplicationSlot> slots;
  for (const Row& row : rows) {
    ReplicationSlot slot;
    slot.name = TextOrEmpty(row, "slot_name");
    slot.physical = TextOrEmpty(row, "slot_type") == "physical";
    PGTIER_ASSIGN_OR_RETURN(slot.active, row.Get<bool>("active"));
    PGTIER_ASSIGN_OR_RETURN(slot.active_pid, row.Find<int64_t>("active_pid"));
    PGTIER_ASSIGN_OR_RETURN(slot.restart_lsn, FindLsn(row, "restart_lsn"));
    slot.wal_status = TextOrEmpty(row, "wal_status");
    slots.push_back(std::move(slot));
  }
  return slots;
}

Result<bool> EnsurePhysicalSlot(Connection& connection, const std::string& name, Deadline deadline) {
  auto made = connection.Query("SELECT pg_create_physical_replication_slot($1, true)", {name}, deadline);
  if (made.has_value()) return true;
  if (made.error().code != Code::kAlreadyExists) return std::move(made).error().WithContext("slot " + name);
  PGTIER_ASSIGN_OR_RETURN(
      auto type, QueryValue<std::string>(connection, "SELECT slot_type FROM pg_replication_slots WHERE slot_name = $1",
                                         {name}, deadline));
  if (type != "physical") return MakeError(Code::kAlreadyExists, "slot " + name + " exists and is " + type);
  return false;
}

Result<bool> DropSlot(Connection& connection, const std::string& name, Deadline deadline) {
  auto dropped = connection.Query("SELECT pg_drop_replication_slot($1)", {name}, deadline);
  if (dropped.has_value()) return true;
  if (dropped.error().code == Code::kNotFound) return false;
  return std::move(dropped).error().WithContext("slot " + name);
}

Result<bool> TryAdvisoryLock(Connection& connection, int64_t key, Deadline deadline) {
  return QueryValue<bool>(connection, "SELECT pg_try_advisory_lock($1::bigint)", {std::to_string(key)}, deadline);
}

Result<bool> ReleaseAdvisoryLock(Connection& connection, int64_t key, Deadline deadline) {
  return QueryValue<bool>(connection, "SELECT pg_advisory_unlock($1::bigint)", {std::to_string(key)}, deadline);
}

}  // namespace pgtier::postgres
