#include <set>
#include <thread>

#include "shadow/internal.h"
#include "shadow/outbox.h"

namespace pgtier::shadow {
namespace {

using postgres::Connection;

constexpr Duration kDrainPause = std::chrono::milliseconds(50);

Status Call(Connection& admin, const std::string& sql, const postgres::Params& params, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(admin.Query(sql, params, deadline));
  return {};
}

Status RefuseWhatBlocks(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    if (!finding.blocks) continue;
    return MakeError(Code::kFailedPrecondition, finding.code + ": " + finding.message + "; " + finding.cure);
  }
  return {};
}

// The number of a table that is in the policy as the spec and the tier want it; nothing when there is work to do.
Result<std::optional<int64_t>> Agreeing(Connection& admin, const Spec& spec, const Table& table, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, admin.Query("SELECT t.id FROM pgtier.shadow_tables AS t, pgtier.shadow_names($2) AS n"
                             " WHERE t.policy = $1 AND t.installed AND t.source_schema = n.schema_name"
                             "  AND t.source_name = n.table_name AND pgtier.shadow_agrees(t.id)"
                             "  AND CASE WHEN $3 = '' THEN t.history_schema = n.schema_name AND"
                             "                             t.history_name = (n.table_name || '_history')::name::text"
                             "      ELSE (t.history_schema, t.history_name)"
                             "           = (SELECT h.schema_name, h.table_name FROM"
                             "              pgtier.shadow_names(coalesce(nullif($3, ''), 'x')) AS h) END",
                             {spec.policy, table.source, table.history}, deadline));
  if (rows.empty()) return std::optional<int64_t>();
  PGTIER_ASSIGN_OR_RETURN(auto id, rows[0].Get<int64_t>(0));
  return std::optional<int64_t>(id);
}

Result<int64_t> InstallTable(Connection& admin, const Spec& spec, const Table& table, Deadline deadline) {
  // In a transaction of its own, for it may read all of a history: nobody is to wait for a lock meanwhile.
  std::optional<std::string> epoch, position;
  PGTIER_RETURN_IF_ERROR(WithLockRetries(
      admin, "reading the newest position of the history of " + table.source, deadline, [&]() -> Status {
        PGTIER_ASSIGN_OR_RETURN(
            auto rows, admin.Query("SELECT newest_epoch::text, newest_position::text FROM pgtier.shadow_newest($1, $2)",
                                   {table.source, table.history}, deadline));
        PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
        PGTIER_ASSIGN_OR_RETURN(epoch, row.Find<std::string>(0));
        PGTIER_ASSIGN_OR_RETURN(position, row.Find<std::string>(1));
        return {};
      }));
  int64_t id = 0;
  PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "installing " + table.source, deadline, [&]() -> Status {
    PGTIER_ASSIGN_OR_RETURN(auto rows,
                            admin.Query("SELECT pgtier.shadow_install_table($1, $2, $3, $4, $5)",
                                        {spec.policy, table.source, table.history, epoch, position}, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
    PGTIER_ASSIGN_OR_RETURN(id, row.Get<int64_t>(0));
    // Once more, when nobody can change the history any more: it belongs to pgtier now.
    Spec one = spec;
    one.tables = {table};
    PGTIER_ASSIGN_OR_RETURN(auto findings, HistoryFindings(admin, one, Tier::kTriggers, deadline));
    return RefuseWhatBlocks(findings);
  }));
  return id;
}

// Takes the policy's tables out of it, but for those in `stay`.
Status RemoveOthers(Connection& admin, const Spec& spec, const std::optional<std::string>& tier,
                    const std::set<int64_t>& stay, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto rows,
      admin.Query("SELECT id, format('%I.%I', source_schema, source_name) AS source FROM pgtier.shadow_tables"
                  " WHERE policy = $1 AND installed ORDER BY id",
                  {spec.policy}, deadline));
  for (const auto& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<int64_t>("id"));
    if (stay.contains(id)) continue;
    PGTIER_ASSIGN_OR_RETURN(auto source, row.Get<std::string>("source"));
    if (tier == "cdc") {
      return MakeError(Code::kFailedPrecondition, "TablesFixedInCdc: " + source +
                                                      " is to leave the policy, which is in cdc; go back to triggers, "
                                                      "then change the tables");
    }
    PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "removing " + source + " from the policy", deadline, [&]() -> Status {
      return Call(admin, "SELECT pgtier.shadow_remove_table($1)", {std::to_string(id)}, deadline);
    }));
  }
  return {};
}

Result<std::optional<std::string>> TierOf(Connection& admin, const Spec& spec, Deadline deadline) {
  return Value(admin, "SELECT tier FROM pgtier.shadow_state WHERE policy = $1", {spec.policy}, deadline);
}

// What was taken from the tables that cdc needs (a place in the publication, say), as a part of a sentence.
Result<std::string> LacksInCdc(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto lacks, Value(admin,
                                            "SELECT string_agg(pgtier.shadow_table_lacks_cdc(id), '; ' ORDER BY id)"
                                            " FROM pgtier.shadow_tables WHERE policy = $1 AND installed",
                                            {spec.policy}, deadline));
  return lacks.has_value() ? " (" + *lacks + ": its changes may be missing in the history)" : std::string();
}

// Drops the outboxes that no table of the policy writes to any more, those that the worker has emptied. Gives whether
// none is left.
Result<bool> Sweep(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows,
                          admin.Query("SELECT t.id FROM pgtier.shadow_tables AS t, pgtier.shadow_places(t.id) AS p"
                                      " WHERE t.policy = $1 AND NOT t.installed AND p.outbox IS NOT NULL ORDER BY t.id",
                                      {spec.policy}, deadline));
  bool swept = true;
  for (const auto& row : rows) {
    PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<std::string>(0));
    PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "dropping outboxes", deadline, [&]() -> Status {
      PGTIER_ASSIGN_OR_RETURN(auto gone, Value(admin, "SELECT pgtier.shadow_sweep($1::integer)", {id}, deadline));
      swept = swept && gone == "t";
      return {};
    }));
  }
  return swept;
}

// A batch of one outbox, moved with no right of the caller's: see shadow_seal.
Result<Batch> MoveSealed(Connection& admin, const Outbox& outbox, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto rows, admin.Query("SELECT moved, buried, next FROM pgtier.shadow_drain_sealed($1)",
                                                 {std::to_string(outbox.id)}, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto row, rows.Single());
  Batch batch;
  PGTIER_ASSIGN_OR_RETURN(batch.moved, row.Get<int64_t>("moved"));
  PGTIER_ASSIGN_OR_RETURN(batch.buried, row.Get<int64_t>("buried"));
  PGTIER_ASSIGN_OR_RETURN(auto next, row.Get<std::string>("next"));
  batch.next = next == "rest" ? Next::kRest : Next::kAgain;
  return batch;
}

// A batch of each outbox; one whose rows can't be moved does not stop the others. Gives how many rows went.
Result<int64_t> DrainAll(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto outboxes, Outboxes(admin, spec.policy, deadline));
  int64_t gone = 0;
  Status failed;
  for (const Outbox& outbox : outboxes) {
    Status moved = WithLockRetries(admin, "moving the rows of " + outbox.source, deadline, [&]() -> Status {
      PGTIER_ASSIGN_OR_RETURN(Batch batch, MoveSealed(admin, outbox, deadline));
      gone += batch.moved + batch.buried;
      return {};
    });
    if (!moved.has_value() && failed.has_value()) failed = std::move(moved);
  }
  if (gone == 0 && !failed.has_value()) return std::move(failed).error();
  return gone;
}

}  // namespace

Status Install(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto findings, Preflight(admin, spec, Tier::kTriggers, deadline));
  PGTIER_RETURN_IF_ERROR(RefuseWhatBlocks(findings));
  PGTIER_ASSIGN_OR_RETURN(bool known, KnowsShadows(admin, deadline));
  std::optional<std::string> version;
  if (known) {
    PGTIER_ASSIGN_OR_RETURN(
        version, Value(admin, "SELECT version FROM pgtier.shadow_state WHERE policy = $1 AND installed", {spec.policy},
                       deadline));
  }
  if (version != InstalledVersion()) PGTIER_RETURN_IF_ERROR(InstallScripts(admin, deadline));
  Status noted = WithLockRetries(admin, "noting the policy " + spec.policy, deadline, [&]() -> Status {
    PGTIER_RETURN_IF_ERROR(Call(admin, "SELECT pgtier.shadow_settle_database()", {}, deadline));
    return Call(admin, "SELECT pgtier.shadow_set_policy($1, $2, $3, $4, $5)",
                {spec.policy, spec.actor_setting, spec.channel, spec.slot, InstalledVersion()}, deadline);
  });
  PGTIER_RETURN_IF_ERROR(noted);
  PGTIER_ASSIGN_OR_RETURN(auto tier, TierOf(admin, spec, deadline));
  std::set<int64_t> stay;
  for (const Table& table : spec.tables) {
    PGTIER_ASSIGN_OR_RETURN(auto agreeing, Agreeing(admin, spec, table, deadline));
    if (!agreeing.has_value()) {
      if (tier == "cdc") {
        PGTIER_ASSIGN_OR_RETURN(auto lacks, LacksInCdc(admin, spec, deadline));
        return MakeError(Code::kFailedPrecondition, "TablesFixedInCdc: " + table.source +
                                                        " is not installed as it should be" + lacks +
                                                        ", and the policy is in cdc; "
                                                        "go back to triggers, then change the tables");
      }
      PGTIER_ASSIGN_OR_RETURN(agreeing, InstallTable(admin, spec, table, deadline));
    }
    stay.insert(*agreeing);
  }
  PGTIER_RETURN_IF_ERROR(RemoveOthers(admin, spec, tier, stay, deadline));
  PGTIER_RETURN_IF_ERROR(Sweep(admin, spec, deadline));
  return {};
}

Status Uninstall(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(bool known, KnowsShadows(admin, deadline));
  if (!known) return {};
  PGTIER_ASSIGN_OR_RETURN(auto tier, TierOf(admin, spec, deadline));
  if (!tier.has_value()) return {};
  if (tier == "cdc") {
    return MakeError(Code::kFailedPrecondition,
                     "the policy is in cdc: go back to triggers first, so that nothing is lost");
  }
  PGTIER_RETURN_IF_ERROR(RemoveOthers(admin, spec, tier, {}, deadline));
  // No writer is left; what the outboxes hold is moved here, for the worker may be gone.
  while (true) {
    PGTIER_ASSIGN_OR_RETURN(bool swept, Sweep(admin, spec, deadline));
    if (swept) break;
    PGTIER_ASSIGN_OR_RETURN(auto moved, DrainAll(admin, spec, deadline));
    if (moved == 0) std::this_thread::sleep_for(kDrainPause);
  }
  return WithLockRetries(admin, "ending the policy " + spec.policy, deadline, [&]() -> Status {
    return Call(admin, "SELECT set_config('lock_timeout', '600ms', true), pgtier.shadow_end_policy($1)", {spec.policy},
                deadline);
  });
}

Status Retain(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(bool known, KnowsShadows(admin, deadline));
  if (!known) return {};
  return Call(admin, "SELECT pgtier.shadow_retain($1)", {spec.policy}, deadline);
}

}  // namespace pgtier::shadow
