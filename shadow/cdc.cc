// Tier cdc: preparing it, the barrier, and taking it away.
#include "shadow/cdc.h"

#include <sql/shadow.h>

#include <thread>

#include "lib/postgres/quote.h"
#include "shadow/internal.h"

namespace pgtier::shadow {
namespace {

using postgres::Connection;

Status Do(Connection& admin, const std::string& sql, const postgres::Params& params, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(admin.Query(sql, params, deadline));
  return {};
}

Status DoWithRetries(Connection& admin, const std::string& what, const std::string& sql, const std::string& param,
                     Deadline deadline) {
  return WithLockRetries(admin, what, deadline, [&]() -> Status {
    PGTIER_RETURN_IF_ERROR(Do(admin, "SELECT pgtier.shadow_own_ddl(true)", {}, deadline));
    return Do(admin, sql, {param}, deadline);
  });
}

Status NeedsSlot(const Spec& spec) {
  if (!spec.slot.empty()) return {};
  return MakeError(Code::kInvalidArgument, "the policy " + spec.policy + " names no slot");
}

// Publication and rights. The publication comes before the slot: decoding fails from a position where there is none.
Status Publish(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto exists, Value(admin, "SELECT true FROM pg_publication WHERE pubname = $1",
                                             {PublicationName(spec)}, deadline));
  if (!exists.has_value()) {
    PGTIER_ASSIGN_OR_RETURN(std::string name, postgres::QuoteIdentifier(admin, PublicationName(spec)));
    PGTIER_RETURN_IF_ERROR(
        admin.Execute("CREATE PUBLICATION " + name + " WITH (publish_via_partition_root = false)", deadline));
  }
  // One that a standby's slots may not outlive: by name, so that a promoted server has it too.
  PGTIER_RETURN_IF_ERROR(Do(admin,
                            "SELECT pg_replication_origin_create($1)"
                            " WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = $1)",
                            {OriginName(spec)}, deadline));
  PGTIER_RETURN_IF_ERROR(
      admin.Execute("DO $do$ BEGIN IF NOT has_function_privilege('pgtier_shadow_cdc',"
                    " 'pg_replication_origin_session_setup(text)', 'EXECUTE') THEN"
                    " GRANT EXECUTE ON FUNCTION pg_replication_origin_session_setup(text) TO pgtier_shadow_cdc;"
                    " END IF; END $do$",
                    deadline));
  return {};
}

Status PrepareTables(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto leaves,
                          admin.Query("SELECT leaf::text AS leaf, format('%s', leaf::regclass) AS name"
                                      " FROM pgtier.shadow_tables AS t, pgtier.shadow_leaf_oids(t.source) AS leaf"
                                      " JOIN pg_class AS c ON c.oid = leaf"
                                      " WHERE t.policy = $1 AND t.installed AND c.relreplident <> 'f' ORDER BY leaf",
                                      {spec.policy}, deadline));
  for (const auto& row : leaves) {
    PGTIER_ASSIGN_OR_RETURN(auto leaf, row.Get<std::string>("leaf"));
    PGTIER_ASSIGN_OR_RETURN(auto name, row.Get<std::string>("name"));
    const std::string what = "setting the replica identity of " + name;
    Status set = WithLockRetries(admin, what, deadline, [&]() -> Status {
      PGTIER_RETURN_IF_ERROR(Do(admin,
                                "SELECT pgtier.shadow_own_ddl(true),"
                                " pgtier.shadow_lock(ARRAY[$1::oid], 'ACCESS EXCLUSIVE')",
                                {leaf}, deadline));
      return Do(admin, "SELECT pgtier.shadow_set_identity($1, $2::oid)", {spec.policy, leaf}, deadline);
    });
    if (!set.has_value()) return set;
  }
  PGTIER_RETURN_IF_ERROR(DoWithRetries(admin, "making the actor's function",
                                       "SELECT pgtier.shadow_set_actor_function($1)", spec.policy, deadline));
  PGTIER_ASSIGN_OR_RETURN(auto tables, admin.Query("SELECT id FROM pgtier.shadow_tables"
                                                   " WHERE policy = $1 AND installed ORDER BY id",
                                                   {spec.policy}, deadline));
  for (const auto& row : tables) {
    PGTIER_ASSIGN_OR_RETURN(auto id, row.Get<std::string>("id"));
    PGTIER_RETURN_IF_ERROR(DoWithRetries(admin, "publishing", "SELECT pgtier.shadow_publish($1)", id, deadline));
    PGTIER_ASSIGN_OR_RETURN(auto lacks,
                            Value(admin, "SELECT true WHERE pgtier.shadow_actor_lacks($1)", {id}, deadline));
    if (!lacks.has_value()) continue;
    PGTIER_RETURN_IF_ERROR(
        DoWithRetries(admin, "making the actor's triggers",
                      "SELECT pgtier.shadow_lock(pgtier.shadow_relations(t.source), 'SHARE ROW EXCLUSIVE'),"
                      " pgtier.shadow_set_actor_triggers(t.id) FROM pgtier.shadow_tables AS t WHERE t.id = $1::integer",
                      id, deadline));
  }
  return {};
}

// Notes that the slot is this policy's, before it is made: one that is there without that is somebody else's.
Status ClaimSlot(Connection& admin, const Spec& spec, bool exists, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto claimed,
                          Value(admin, "SELECT true FROM pgtier.shadow_checkpoint WHERE policy = $1 AND slot = $2",
                                {spec.policy, spec.slot}, deadline));
  if (claimed.has_value()) return {};
  PGTIER_ASSIGN_OR_RETURN(auto other,
                          Value(admin, "SELECT policy FROM pgtier.shadow_checkpoint WHERE policy <> $1 AND slot = $2",
                                {spec.policy, spec.slot}, deadline));
  if (exists || other.has_value()) {
    return MakeError(Code::kFailedPrecondition,
                     "slot " + spec.slot + " is " +
                         (other.has_value() ? "the policy " + *other + "'s" : "somebody else's") +
                         ": name another one");
  }
  return Do(admin,
            "INSERT INTO pgtier.shadow_checkpoint AS c (policy, slot) VALUES ($1, $2) ON CONFLICT (policy) DO UPDATE"
            " SET slot = excluded.slot, lsn = excluded.lsn, ended_epoch = greatest(c.ended_epoch, c.wanted_end)"
            " WHERE c.slot = ''",
            {spec.policy, spec.slot}, deadline);
}

// What the tables look like to the catalogue, for comparing; and which files all tables of the database have, for the
// server looks for the table of each change that it reads, before it leaves those of others out.
Result<std::string> Shape(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      auto shape,
      Value(admin,
            "WITH leaf AS (SELECT c.oid, c.xmin, c.reltoastrelid FROM pgtier.shadow_tables AS t,"
            "               pgtier.shadow_leaf_oids(t.source) AS l JOIN pg_class AS c ON c.oid = l"
            "              WHERE t.policy = $1 AND t.installed),"
            " part AS (SELECT oid, 0 AS n, xmin FROM leaf"
            "          UNION ALL SELECT o.oid, 0, o.xmin FROM leaf JOIN pg_class AS o ON o.oid = leaf.reltoastrelid"
            "          UNION ALL SELECT a.attrelid, a.attnum, a.xmin FROM leaf JOIN pg_attribute AS a ON a.attrelid = "
            "leaf.oid"
            "          UNION ALL SELECT e.oid, 0, e.xmin FROM leaf JOIN pg_attribute AS a ON a.attrelid = leaf.oid"
            "                    JOIN pg_type AS y ON y.oid = a.atttypid JOIN pg_enum AS e"
            "                      ON e.enumtypid IN (y.oid, y.typelem, y.typbasetype))"
            " SELECT md5(string_agg(format('%s %s %s', oid, n, xmin), ',' ORDER BY oid, n))"
            "  || (SELECT md5(string_agg(oid || ' ' || relfilenode, ',' ORDER BY oid)) FROM pg_class"
            "      WHERE relkind IN ('r', 't', 'm') AND relpersistence = 'p' AND relfilenode <> 0) FROM part",
            {spec.policy}, deadline));
  return shape.value_or("");
}

// Making a slot takes as long as the transactions that are open. Postgres does not see what commits changes of tables
// meanwhile ("Historic snapshot doesn't track txns committed in BUILDING_SNAPSHOT state"): the slot would be read with
// the tables of before, without a column that was added, or not at all after a TRUNCATE of whichever table, or with one
// that was made ("could not map filenumber").
// Such a slot is made again.
Status CreateSlot(Connection& admin, const Spec& spec, Deadline deadline) {
  const std::string failover = admin.ServerVersion() >= 170000 ? ", false, false, true" : "";
  while (true) {
    PGTIER_ASSIGN_OR_RETURN(std::string before, Shape(admin, spec, deadline));
    PGTIER_RETURN_IF_ERROR(
        Do(admin, "SELECT pg_create_logical_replication_slot($1, 'pgoutput'" + failover + ")", {spec.slot}, deadline));
    PGTIER_ASSIGN_OR_RETURN(std::string after, Shape(admin, spec, deadline));
    if (before == after) return {};
    PGTIER_RETURN_IF_ERROR(Do(admin, "SELECT pg_drop_replication_slot($1)", {spec.slot}, deadline));
    if (!deadline.Expired()) continue;
    return MakeError(Code::kDeadlineExceeded,
                     "tables of " + spec.policy +
                         " were altered, or tables of the database truncated, rewritten or made," +
                         " each time that slot " + spec.slot +
                         " was being made, which waits for open transactions: leave them alone for a moment");
  }
}

// The slot, and the checkpoint where it begins. A slot that can't be read any more is replaced; in cdc the checkpoint
// then stays where it is, so that the consumer sees what is missing between both, and says so.
Status MakeSlot(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto slots,
                          admin.Query("SELECT plugin = 'pgoutput' AND database = current_database() AS ours,"
                                      " wal_status = 'lost' AS lost"
                                      " FROM pg_replication_slots WHERE slot_name = $1",
                                      {spec.slot}, deadline));
  PGTIER_RETURN_IF_ERROR(ClaimSlot(admin, spec, !slots.empty(), deadline));
  bool made = slots.empty();
  if (!made) {
    PGTIER_ASSIGN_OR_RETURN(auto ours, slots[0].Find<bool>("ours"));
    if (ours != true) return MakeError(Code::kFailedPrecondition, "slot " + spec.slot + " is somebody else's");
    PGTIER_ASSIGN_OR_RETURN(auto lost, slots[0].Find<bool>("lost"));
    // One that was made, and then nobody came to see whether it can be read rightly, is made again.
    PGTIER_ASSIGN_OR_RETURN(auto unproved, Value(admin,
                                                 "SELECT true FROM pgtier.shadow_checkpoint"
                                                 " WHERE policy = $1 AND timeline < 0",
                                                 {spec.policy}, deadline));
    made = lost == true || unproved.has_value();
    if (made) PGTIER_RETURN_IF_ERROR(Do(admin, "SELECT pg_drop_replication_slot($1)", {spec.slot}, deadline));
  }
  if (made) {
    PGTIER_RETURN_IF_ERROR(SettleCdc(admin, spec, deadline));
    PGTIER_RETURN_IF_ERROR(
        Do(admin, "UPDATE pgtier.shadow_checkpoint SET timeline = -1 WHERE policy = $1", {spec.policy}, deadline));
    PGTIER_RETURN_IF_ERROR(CreateSlot(admin, spec, deadline));
  }
  // Nothing is written where it is as it should be. (pg_control_checkpoint() may tell of the timeline before a
  // promotion.)
  const std::string timeline = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer";
  PGTIER_RETURN_IF_ERROR(Do(admin,
                            "UPDATE pgtier.shadow_checkpoint AS c SET lsn = confirmed_flush_lsn,"
                            "  system_identifier = p.system_identifier::text, timeline = " +
                                timeline +
                                ", updated_at = now()"
                                " FROM pg_replication_slots AS r, pg_control_system() AS p"
                                " WHERE c.policy = $1 AND c.slot = $2 AND r.slot_name = $2 AND ($3 OR c.lsn = '0/0')"
                                "  AND NOT EXISTS (SELECT FROM pgtier.shadow_state WHERE policy = $1 AND tier = 'cdc')",
                            {spec.policy, spec.slot, made ? "true" : "false"}, deadline));
  return Do(admin, "UPDATE pgtier.shadow_checkpoint SET timeline = " + timeline + " WHERE policy = $1 AND timeline < 0",
            {spec.policy}, deadline);
}

}  // namespace

Result<std::vector<Finding>> CdcFindings(Connection& connection, const Spec& spec, Deadline deadline) {
  std::vector<std::string> sources;
  std::vector<std::string> histories;
  for (const Table& table : spec.tables) {
    sources.push_back(table.source);
    histories.push_back(table.history);
  }
  PGTIER_ASSIGN_OR_RETURN(
      auto rows, connection.Query(sql::kShadowPreflightCdc, {ArrayLiteral(sources), spec.slot, ArrayLiteral(histories)},
                                  deadline));
  std::vector<Finding> findings;
  for (const auto& row : rows) {
    Finding& finding = findings.emplace_back();
    PGTIER_ASSIGN_OR_RETURN(finding.code, row.Get<std::string>("code"));
    PGTIER_ASSIGN_OR_RETURN(finding.object, row.Get<std::string>("object"));
    PGTIER_ASSIGN_OR_RETURN(finding.message, row.Get<std::string>("message"));
    PGTIER_ASSIGN_OR_RETURN(finding.cure, row.Get<std::string>("cure"));
    PGTIER_ASSIGN_OR_RETURN(finding.blocks, row.Get<bool>("blocks"));
  }
  return findings;
}

Status PrepareCdc(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(NeedsSlot(spec));
  PGTIER_RETURN_IF_ERROR(Publish(admin, spec, deadline));
  PGTIER_RETURN_IF_ERROR(PrepareTables(admin, spec, deadline));
  return MakeSlot(admin, spec, deadline);
}

Status Barrier(Connection& admin, const Spec& spec, Tier to, Deadline deadline) {
  if (to == Tier::kCdc) PGTIER_RETURN_IF_ERROR(NeedsSlot(spec));
  return WithLockRetries(admin, "changing " + spec.policy + " to " + std::string(TierName(to)), deadline, [&] {
    return Do(admin, "SELECT pgtier.shadow_barrier($1, $2)", {spec.policy, std::string(TierName(to))}, deadline);
  });
}

Result<bool> CdcEnded(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto behind, Value(admin,
                                             "SELECT true FROM pgtier.shadow_checkpoint"
                                             " WHERE policy = $1 AND ended_epoch < wanted_end",
                                             {spec.policy}, deadline));
  return !behind.has_value();
}

Status SettleCdc(Connection& admin, const Spec& spec, Deadline deadline) {
  return Do(
      admin,
      "WITH settled AS ("
      "  UPDATE pgtier.shadow_checkpoint AS c SET ended_epoch = wanted_end"
      "  WHERE policy = $1 AND ended_epoch < wanted_end"
      "   AND NOT EXISTS (SELECT FROM pg_replication_slots AS r WHERE r.slot_name = c.slot AND r.plugin = 'pgoutput'"
      "                    AND r.database = current_database() AND r.wal_status IS DISTINCT FROM 'lost')"
      "  RETURNING policy, slot, lsn)"
      " INSERT INTO pgtier.shadow_dead_letters (policy, source, lsn, payload, error)"
      " SELECT policy, '', lsn, '', format('gap: slot %s is gone, the history ends at %s: changes that committed"
      " between that and the way out of cdc are missing', slot, lsn) FROM settled",
      {spec.policy}, deadline);
}

Status DropCdc(Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(NeedsSlot(spec));
  PGTIER_ASSIGN_OR_RETURN(bool known, KnowsShadows(admin, deadline));
  if (known) {
    PGTIER_ASSIGN_OR_RETURN(auto in_cdc,
                            Value(admin, "SELECT true FROM pgtier.shadow_state WHERE policy = $1 AND tier = 'cdc'",
                                  {spec.policy}, deadline));
    if (in_cdc.has_value()) {
      return MakeError(Code::kFailedPrecondition,
                       "the policy " + spec.policy + " is in cdc: leave it by a barrier first");
    }
    PGTIER_ASSIGN_OR_RETURN(bool ended, CdcEnded(admin, spec, deadline));
    if (!ended) {
      return MakeError(
          Code::kFailedPrecondition,
          "the consumer has not reached the barrier out of cdc: its slot holds changes that no history has");
    }
  }
  PGTIER_RETURN_IF_ERROR(Do(admin,
                            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                            " WHERE slot_name = $1 AND plugin = 'pgoutput' AND database = current_database()",
                            {spec.slot}, deadline));
  PGTIER_ASSIGN_OR_RETURN(std::string name, postgres::QuoteIdentifier(admin, PublicationName(spec)));
  PGTIER_RETURN_IF_ERROR(admin.Execute("DROP PUBLICATION IF EXISTS " + name, deadline));
  PGTIER_RETURN_IF_ERROR(Do(admin,
                            "SELECT pg_replication_origin_drop($1)"
                            " WHERE EXISTS (SELECT FROM pg_replication_origin WHERE roname = $1)",
                            {OriginName(spec)}, deadline));
  if (!known) return {};
  PGTIER_ASSIGN_OR_RETURN(
      auto relations,
      admin.Query("SELECT relation::text FROM pgtier.shadow_identities JOIN pg_class AS c ON c.oid = relation"
                  " WHERE policy = $1 UNION SELECT g.tgrelid::text FROM pg_trigger AS g JOIN pgtier.shadow_state AS s"
                  " ON g.tgfoid = to_regproc('pgtier.shadow_actor_' || s.number) WHERE s.policy = $1",
                  {spec.policy}, deadline));
  for (const auto& row : relations) {
    PGTIER_ASSIGN_OR_RETURN(auto relation, row.Get<std::string>(0));
    PGTIER_RETURN_IF_ERROR(DoWithRetries(admin, "giving a table its replica identity back",
                                         "SELECT pgtier.shadow_unprepare($1::oid)", relation, deadline));
  }
  PGTIER_RETURN_IF_ERROR(
      Do(admin,
         "DELETE FROM pgtier.shadow_parts WHERE table_id IN (SELECT id FROM pgtier.shadow_tables WHERE policy = $1)",
         {spec.policy}, deadline));
  // Last: it says that this has still to be done.
  return Do(admin, "UPDATE pgtier.shadow_checkpoint SET slot = '', lsn = '0/0' WHERE policy = $1", {spec.policy},
            deadline);
}

}  // namespace pgtier::shadow
