#include "migrations/ledger.h"

#include "lib/postgres/catalogue.h"
#include "sql/migrations.h"

namespace pgtier::migrations {
namespace {

State StateOf(const std::string& text) {
  if (text == "Done") return State::kDone;
  if (text == "Failed") return State::kFailed;
  return State::kRunning;
}

std::optional<WallTime> TimeOf(std::optional<double> epoch) {
  if (!epoch.has_value()) return std::nullopt;
  return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::duration<double>(*epoch)));
}

Status OneRow(const Result<postgres::Rows>& rows, const std::string& step) {
  if (!rows.has_value()) return rows.error().WithContext("pgtier.migrations");
  if (rows->affected() == 1) return {};
  return MakeError(Code::kInternal, "pgtier.migrations has lost its row of step " + step);
}

}  // namespace

int64_t LockOf(const std::string& migration) {
  // FNV-1a: the same number in every build.
  uint64_t hash = 14695981039346656037U;
  for (unsigned char c : "pgtier migration " + migration) hash = (hash ^ c) * 1099511628211U;
  return static_cast<int64_t>(hash);
}

std::string WhyEdited(const StepConfig& step, const Entry& entry) {
  if (!entry.Fixed() || entry.hash == HashOfStep(step.definition)) return "";
  std::string ran = entry.state == State::kDone ? "has run" : "has begun";
  return "StepEdited: step " + step.name + " " + ran +
         " as something else than it is written now; write it as it was, or give what is new another name";
}

Result<std::map<std::string, Entry>> ReadLedger(postgres::Connection& connection, const std::string& migration,
                                                Deadline deadline) {
  std::map<std::string, Entry> entries;
  PGTIER_ASSIGN_OR_RETURN(auto there, connection.Query("SELECT pg_catalog.to_regclass('pgtier.migrations') IS NOT NULL "
                                                       "AS there",
                                                       deadline));
  PGTIER_ASSIGN_OR_RETURN(auto answer, there.Single());
  PGTIER_ASSIGN_OR_RETURN(bool exists, answer.Get<bool>("there"));
  if (!exists) return entries;
  PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query("SELECT step, hash, state, checkpoint::text AS checkpoint, done, "
                                                      "total, rate, message, extract(epoch FROM started_at) AS started,"
                                                      " extract(epoch FROM finished_at) AS finished FROM "
                                                      "pgtier.migrations WHERE migration = $1",
                                                      {migration}, deadline));
  for (postgres::Row row : rows) {
    Entry entry;
    PGTIER_ASSIGN_OR_RETURN(auto step, row.Get<std::string>("step"));
    PGTIER_ASSIGN_OR_RETURN(entry.hash, row.Get<std::string>("hash"));
    PGTIER_ASSIGN_OR_RETURN(auto state, row.Get<std::string>("state"));
    entry.state = StateOf(state);
    PGTIER_ASSIGN_OR_RETURN(auto checkpoint, row.Find<std::string>("checkpoint"));
    if (checkpoint.has_value()) entry.saved.checkpoint = nlohmann::json::parse(*checkpoint, nullptr, false);
    if (entry.saved.checkpoint.is_discarded()) {
      return MakeError(Code::kInternal, "the checkpoint of step " + step + " is no JSON");
    }
    PGTIER_ASSIGN_OR_RETURN(entry.progress.finished, row.Get<int64_t>("done"));
    PGTIER_ASSIGN_OR_RETURN(entry.progress.total, row.Get<int64_t>("total"));
    PGTIER_ASSIGN_OR_RETURN(entry.rate, row.Get<double>("rate"));
    PGTIER_ASSIGN_OR_RETURN(entry.progress.message, row.Get<std::string>("message"));
    PGTIER_ASSIGN_OR_RETURN(auto started, row.Find<double>("started"));
    PGTIER_ASSIGN_OR_RETURN(auto finished, row.Find<double>("finished"));
    entry.started = TimeOf(started);
    entry.finished = TimeOf(finished);
    entry.progress.done = entry.state == State::kDone;
    entries.emplace(std::move(step), std::move(entry));
  }
  return entries;
}

Status Ledger::Prepare(postgres::Connection& connection, Deadline deadline) {
  // IF NOT EXISTS asks for the right to make it first, and two who make it at once get in each other's way.
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query("SELECT pg_catalog.to_regclass('pgtier.migrations') IS NOT NULL AS there", deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  PGTIER_ASSIGN_OR_RETURN(bool there, row.Get<bool>("there"));
  if (there) return {};
  PGTIER_ASSIGN_OR_RETURN(auto transaction, postgres::Transaction::Begin(connection, deadline));
  PGTIER_RETURN_IF_ERROR(
      connection.Query("SELECT pg_catalog.pg_advisory_xact_lock($1)", {std::to_string(LockOf("schema"))}, deadline));
  auto made = connection.Execute(sql::kMigrationsSchema, deadline);
  if (!made.has_value()) return made.error().WithContext("make pgtier.migrations");
  return transaction.Commit(deadline);
}

Status Ledger::Begin(postgres::Connection& connection, const StepConfig& step, size_t position,
                     Deadline deadline) const {
  PGTIER_RETURN_IF_ERROR(connection.Query(
      "INSERT INTO pgtier.migrations AS m (migration, step, position, hash, state) VALUES ($1, $2, $3, $4, 'Running')"
      " ON CONFLICT (migration, step) DO UPDATE SET position = excluded.position, hash = excluded.hash,"
      " state = 'Running', message = '', rate = 0, finished_at = NULL, updated_at = pg_catalog.now()",
      {migration_, step.name, std::to_string(position), HashOfStep(step.definition)}, deadline));
  return {};
}

Status Ledger::Save(postgres::Connection& connection, const std::string& step, const StepState& state,
                    const Progress& progress, double rate, Deadline deadline) const {
  postgres::Params params{migration_,
                          step,
                          state.checkpoint.is_null() ? std::nullopt : std::optional(state.checkpoint.dump()),
                          std::to_string(progress.finished),
                          std::to_string(progress.total),
                          progress.message,
                          progress.done ? "Done" : "Running",
                          std::to_string(rate)};
  return OneRow(connection.Query("UPDATE pgtier.migrations SET checkpoint = $3::jsonb, done = $4, total = $5,"
                                 " message = $6, state = $7, rate = $8, finished_at = CASE WHEN $7 = 'Done' THEN"
                                 " pg_catalog.clock_timestamp() END, updated_at = pg_catalog.clock_timestamp()"
                                 " WHERE migration = $1 AND step = $2",
                                 params, deadline),
                step);
}

Status Ledger::Finish(postgres::Connection& connection, const std::string& step, Deadline deadline) const {
  return OneRow(connection.Query("UPDATE pgtier.migrations SET state = 'Done', message = '', finished_at ="
                                 " coalesce(finished_at, pg_catalog.now()), updated_at = pg_catalog.now()"
                                 " WHERE migration = $1 AND step = $2",
                                 {migration_, step}, deadline),
                step);
}

Status Ledger::Fail(postgres::Connection& connection, const std::string& step, const std::string& message,
                    Deadline deadline) const {
  return OneRow(connection.Query("UPDATE pgtier.migrations SET state = 'Failed', message = $3, rate = 0,"
                                 " updated_at = pg_catalog.now() WHERE migration = $1 AND step = $2",
                                 {migration_, step, message}, deadline),
                step);
}

Status Ledger::Say(postgres::Connection& connection, const std::string& step, const std::string& message,
                   Deadline deadline) const {
  return OneRow(connection.Query("UPDATE pgtier.migrations SET message = $3, updated_at = pg_catalog.now()"
                                 " WHERE migration = $1 AND step = $2",
                                 {migration_, step, message}, deadline),
                step);
}

}  // namespace pgtier::migrations
