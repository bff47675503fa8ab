#include "controllers/scale_tier/bootstrap.h"

#include <vector>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "lib/postgres/catalogue.h"
#include "lib/postgres/objects.h"
#include "lib/postgres/quote.h"
#include "sql/scale_tier.h"

namespace pgtier::controllers::scale_tier {
namespace {

Status EnsureRoles(postgres::Connection& connection, const std::string& app, const Credentials& credentials,
                   Deadline deadline) {
  struct Wanted {
    postgres::RoleSpec role;
    std::string password;
  };
  auto role = [](const std::string& name) {
    postgres::RoleSpec spec;
    spec.name = name;
    return spec;
  };
  // The owner, and who has the rights of looking up, are there in any case.
  const PasswordRotation& rotation = credentials.rotation;
  bool even = rotation.number % 2 == 0;
  std::vector<Wanted> roles = {{role(app), even ? credentials.app : ""},
                               {role(kPoolerRole), even ? credentials.pooler : ""},
                               {role(kReplicationRole), credentials.replication},
                               {role(kMonitorRole), credentials.monitor}};
  roles[2].role.replication = true;
  roles[3].role.member_of = {"pg_monitor"};
  if (rotation.number > 0) {
    roles.push_back({role(kAlternateAppRole), even ? "" : credentials.app});
    roles.back().role.member_of = {app};
    roles.push_back({role(kAlternatePoolerRole), even ? "" : credentials.pooler});
    roles.back().role.member_of = {kPoolerRole};
  }
  for (Wanted& wanted : roles) {
    bool is_former = wanted.password.empty();
    wanted.role.login = !is_former || rotation.former;
    PGTIER_ASSIGN_OR_RETURN(postgres::Ensured ensured,
                            postgres::EnsureRole(connection, wanted.role, wanted.password, deadline));
    if (is_former && !rotation.former) {
      PGTIER_RETURN_IF_ERROR(postgres::ClearPassword(connection, wanted.role.name, deadline));
    }
    if (is_former || ensured == postgres::Ensured::kCreated) continue;
    PGTIER_RETURN_IF_ERROR(postgres::SetPassword(connection, wanted.role.name, wanted.password, deadline));
  }
  if (rotation.number == 0) return {};
  // What it makes belongs to the owner, and it may do what the owner may.
  PGTIER_ASSIGN_OR_RETURN(std::string owner, postgres::QuoteLiteral(connection, app));
  auto acts = connection.Execute(std::string("ALTER ROLE ") + kAlternateAppRole + " SET role = " + owner, deadline);
  if (!acts.has_value()) return acts.error();
  return postgres::SetPassword(connection, kSuperuser, credentials.superuser, deadline);
}

Status InstallExtensions(postgres::Connection& database, const std::vector<std::string>& extensions,
                         Deadline deadline) {
  // Extensions go where applications look for them, not into pg_catalog.
  PGTIER_ASSIGN_OR_RETURN(std::vector<postgres::Rows> set, database.Execute("SET search_path = public", deadline));
  for (const std::string& extension : extensions) {
    Result<postgres::Ensured> ensured = postgres::EnsureExtension(database, extension, deadline);
    if (ensured.has_value()) continue;
    // One that the image does not hold will not be there at the next try either.
    Code code = ensured.error().code == Code::kNotFound ? Code::kInvalidArgument : ensured.error().code;
    return MakeError(code, "spec.postgres.managed.extensions: " + extension + ": " + ensured.error().message);
  }
  PGTIER_ASSIGN_OR_RETURN(set, database.Execute("SET search_path = pg_catalog", deadline));
  return {};
}

}  // namespace

Result<postgres::Connection> OpenToAct(const Peer& peer, const Credentials& credentials, Deadline deadline,
                                       const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(
      postgres::Connection connection,
      postgres::Connection::Open(ConnectTo(peer, credentials.AsSuperuser(), "postgres"), deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(bool locked, postgres::TryAdvisoryLock(connection, kActLock, deadline));
  if (!locked) return MakeError(Code::kAborted, "another pgtier acts on this server now");
  return connection;
}

Status InstallOnPrimary(const Peer& peer, const crds::ManagedPostgres& managed, const Credentials& credentials,
                        const std::string& hash, Deadline deadline, const std::stop_token& stop) {
  // The database's own role, of the same name, owns it: what an application expects.
  const std::string& app = managed.database;
  if (app == kSuperuser || app.starts_with("pg_") || app.starts_with("pgtier")) {
    // The schema refuses it; a stored object may be older. The superuser's password would become the application's.
    return MakeError(Code::kInvalidArgument, "spec.postgres.managed.database: " + app + " is taken by the system");
  }
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection server, OpenToAct(peer, credentials, deadline, stop));
  PGTIER_RETURN_IF_ERROR(EnsureRoles(server, app, credentials, deadline));
  PGTIER_RETURN_IF_ERROR(postgres::EnsureDatabase(server, managed.database, app, deadline));

  PGTIER_ASSIGN_OR_RETURN(
      postgres::Connection database,
      postgres::Connection::Open(ConnectTo(peer, credentials.AsSuperuser(), managed.database), deadline, stop));
  Result<std::vector<postgres::Rows>> schema = database.Execute(sql::kScaleTierSchema, deadline);
  if (schema.has_value()) schema = database.Execute(sql::kScaleTierMaterializedViews, deadline);
  if (!schema.has_value()) return schema.error().WithContext("schema pgtier");
  // After the schema: one that can't be installed must not leave the schema's name to whoever takes it.
  PGTIER_RETURN_IF_ERROR(InstallExtensions(database, managed.extensions, deadline));
  // A new database's files are some 500, and its log has one. Written back and made now, when nobody waits, and not
  // while the first replica is cloned, under which commits of a database in need of replicas would wait for seconds.
  Result<postgres::Rows> first = database.Query("SELECT installed = '' FROM pgtier.state", deadline);
  if (!first.has_value()) return first.error();
  PGTIER_ASSIGN_OR_RETURN(bool is_first, (*first)[0].Get<bool>(0));
  if (is_first) PGTIER_RETURN_IF_ERROR(postgres::PrepareWal(database, deadline));
  Result<postgres::Rows> recorded = database.Query("UPDATE pgtier.state SET installed = $1", {hash}, deadline);
  return recorded.has_value() ? Status() : Status(recorded.error());
}

Status SetViewsOnPrimary(const Peer& peer, const crds::ManagedPostgres& managed, const Credentials& credentials,
                         const std::map<std::string, Duration>& views, Deadline deadline, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection lock, OpenToAct(peer, credentials, deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(
      postgres::Connection database,
      postgres::Connection::Open(ConnectTo(peer, credentials.AsSuperuser(), managed.database), deadline, stop));
  nlohmann::json wanted = nlohmann::json::object();
  for (const auto& [name, every] : views) wanted[name] = std::chrono::ceil<std::chrono::milliseconds>(every).count();
  Result<postgres::Rows> set =
      database.Query("SELECT pgtier.set_materialized_views($1::jsonb)", {wanted.dump()}, deadline);
  return set.has_value() ? Status() : Status(set.error());
}

Status RecordTierOnPrimary(const Peer& peer, const crds::ManagedPostgres& managed, const Credentials& credentials,
                           const std::string& tier, int64_t epoch, Deadline deadline, const std::stop_token& stop) {
  // Held until the end: advisory locks are of one database, so all who act take theirs in `postgres`.
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection lock, OpenToAct(peer, credentials, deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(
      postgres::Connection database,
      postgres::Connection::Open(ConnectTo(peer, credentials.AsSuperuser(), managed.database), deadline, stop));
  return RecordTierIn(database, tier, epoch, deadline);
}

Status RecordTierIn(postgres::Connection& database, const std::string& tier, int64_t epoch, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows,
                          database.Query("UPDATE pgtier.state SET tier = $1, epoch = epoch + 1, changed_at = now() "
                                         "WHERE epoch = $2::bigint",
                                         {tier, std::to_string(epoch)}, deadline));
  if (rows.affected() == 1) return {};
  return MakeError(Code::kAborted, "the epoch in pgtier.state moved on: another operator acts on this database");
}

Result<postgres::Lsn> Demote(const Peer& peer, const Credentials& credentials, Deadline deadline,
                             const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection primary, OpenToAct(peer, credentials, deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(bool in_recovery, postgres::IsInRecovery(primary, deadline));
  if (in_recovery) return MakeError(Code::kFailedPrecondition, "the primary is a standby");
  PGTIER_RETURN_IF_ERROR(postgres::PlantStandbySignal(primary, deadline));
  PGTIER_ASSIGN_OR_RETURN(postgres::Lsn fence, postgres::CurrentLsn(primary, deadline));
  // What the shutdown would have to write then is little.
  PGTIER_ASSIGN_OR_RETURN(auto done, primary.Execute("CHECKPOINT", deadline));
  std::ignore = done;
  return fence;
}

Status PromoteServer(const PromoteInstance& action, const Peer& peer, const std::string& database,
                     const Credentials& credentials, Deadline deadline, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection server, OpenToAct(peer, credentials, deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(bool in_recovery, postgres::IsInRecovery(server, deadline));
  if (in_recovery && action.proof) {
    // A restartpoint: only by it does the server know of the last checkpoint that it replayed.
    PGTIER_ASSIGN_OR_RETURN(auto done, server.Execute("CHECKPOINT", deadline));
    std::ignore = done;
    PGTIER_ASSIGN_OR_RETURN(postgres::WalPosition position, postgres::ReadWalPosition(server, deadline));
    if (!postgres::EndsInShutdown(position) || position.checkpoint <= action.fence) {
      return MakeError(Code::kFailedPrecondition, NotProven(action.instance, action.old));
    }
  }
  for (const std::string& slot : action.slots) {
    PGTIER_ASSIGN_OR_RETURN(bool made, postgres::EnsurePhysicalSlot(server, slot, deadline));
    std::ignore = made;  // Either way it is there.
  }
  PGTIER_RETURN_IF_ERROR(postgres::Promote(server, deadline));
  PGTIER_ASSIGN_OR_RETURN(
      postgres::Connection state,
      postgres::Connection::Open(ConnectTo(peer, credentials.AsSuperuser(), database), deadline, stop));
  // Where commits wait for a standby there may be none yet.
  PGTIER_ASSIGN_OR_RETURN(auto moved, state.Execute("SET synchronous_commit = local;"
                                                    "UPDATE pgtier.state SET epoch = epoch + 1, changed_at = now()",
                                                    deadline));
  std::ignore = moved;
  return {};
}

}  // namespace pgtier::controllers::scale_tier
