#include "lib/postgres/objects.h"

#include <algorithm>
#include <memory>

#include "lib/postgres/connection_impl.h"
#include "lib/postgres/quote.h"
#include "lib/postgres/scram.h"

namespace pgtier::postgres {
namespace {

struct Attribute {
  const char* column;  // of pg_roles
  const char* keyword;
  bool wanted;
};

std::vector<Attribute> Attributes(const RoleSpec& role) {
  return {{"rolcanlogin", "LOGIN", role.login},
          {"rolsuper", "SUPERUSER", role.superuser},
          {"rolreplication", "REPLICATION", role.replication},
          {"rolcreatedb", "CREATEDB", role.create_db},
          {"rolcreaterole", "CREATEROLE", role.create_role}};
}

// The attributes that have to be named. Not all of them: before 16, ALTER ROLE refuses to name some to a role that may
// not give them, even where nothing changes.
Result<std::string> AttributeClauses(const RoleSpec& role, const std::optional<Row>& existing) {
  std::string clauses;
  for (const Attribute& attribute : Attributes(role)) {
    bool now = false;
    if (existing.has_value()) {
      PGTIER_ASSIGN_OR_RETURN(now, existing->Get<bool>(attribute.column));
    }
    if (now == attribute.wanted) continue;
    clauses += attribute.wanted ? " " : " NO";
    clauses += attribute.keyword;
  }
  if (role.connection_limit.has_value()) {
    int64_t now = -1;
    if (existing.has_value()) {
      PGTIER_ASSIGN_OR_RETURN(now, existing->Get<int64_t>("rolconnlimit"));
    }
    if (now != *role.connection_limit) clauses += " CONNECTION LIMIT " + std::to_string(*role.connection_limit);
  }
  return clauses;
}

Result<std::string> PasswordClause(const Connection& connection, const std::string& role, const std::string& password) {
  PGTIER_ASSIGN_OR_RETURN(std::string verifier, ScramVerifier(connection, role, password));
  PGTIER_ASSIGN_OR_RETURN(std::string literal, QuoteLiteral(connection, verifier));
  return " PASSWORD " + literal;
}

// Grants what is missing of role.member_of. True when something was.
Result<bool> GrantMemberships(Connection& connection, const RoleSpec& role, const std::string& quoted_role,
                              Deadline deadline) {
  if (role.member_of.empty()) return false;
  PGTIER_ASSIGN_OR_RETURN(Rows rows,
                          connection.Query("SELECT parent.rolname FROM pg_auth_members m"
                                           " JOIN pg_roles parent ON parent.oid = m.roleid"
                                           " JOIN pg_roles child ON child.oid = m.member WHERE child.rolname = $1",
                                           {role.name}, deadline));
  bool granted = false;
  for (const std::string& parent : role.member_of) {
    bool has = std::any_of(rows.begin(), rows.end(), [&](const Row& row) { return row.Text(size_t{0}) == parent; });
    if (has) continue;
    PGTIER_ASSIGN_OR_RETURN(std::string quoted_parent, QuoteIdentifier(connection, parent));
    std::string sql = "GRANT ";
    sql.append(quoted_parent).append(" TO ").append(quoted_role);
    PGTIER_RETURN_IF_ERROR(connection.Execute(sql, deadline));
    granted = true;
  }
  return granted;
}

Result<Ensured> EnsureRoleInTransaction(Connection& connection, const RoleSpec& role, const std::string& password,
                                        Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(std::string quoted, QuoteIdentifier(connection, role.name));
  PGTIER_ASSIGN_OR_RETURN(Rows rows,
                          connection.Query("SELECT rolcanlogin, rolsuper, rolreplication, rolcreatedb, rolcreaterole,"
                                           " rolconnlimit FROM pg_roles WHERE rolname = $1",
                                           {role.name}, deadline));
  std::optional<Row> existing;
  if (!rows.empty()) existing = rows[0];
  PGTIER_ASSIGN_OR_RETURN(std::string clauses, AttributeClauses(role, existing));
  if (!existing.has_value()) {
    if (!password.empty()) {
      PGTIER_ASSIGN_OR_RETURN(std::string password_clause, PasswordClause(connection, role.name, password));
      clauses += password_clause;
    }
    PGTIER_RETURN_IF_ERROR(connection.Execute("CREATE ROLE " + quoted + clauses, deadline));
  } else if (!clauses.empty()) {
    PGTIER_RETURN_IF_ERROR(connection.Execute("ALTER ROLE " + quoted + clauses, deadline));
  }
  PGTIER_ASSIGN_OR_RETURN(bool granted, GrantMemberships(connection, role, quoted, deadline));
  if (!existing.has_value()) return Ensured::kCreated;
  return granted || !clauses.empty() ? Ensured::kAltered : Ensured::kUnchanged;
}

// Whether the role has this password, as far as the connection's user may see.
Result<bool> HasPassword(Connection& connection, const std::string& role, const std::string& password,
                         Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(
      Rows allowed, connection.Query("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS may", deadline));
  PGTIER_ASSIGN_OR_RETURN(Row row, allowed.Single());
  PGTIER_ASSIGN_OR_RETURN(bool may, row.Get<bool>("may"));
  if (!may) return false;
  PGTIER_ASSIGN_OR_RETURN(
      Rows found, connection.Query("SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = $1",
                                   {role}, deadline));
  if (found.empty()) return false;
  PGTIER_ASSIGN_OR_RETURN(auto verifier, found[0].Get<std::string>(0));
  return IsVerifierOf(verifier, password);
}

Result<bool> Exists(Connection& connection, const std::string& sql, const std::string& name, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(Rows rows, connection.Query(sql, {name}, deadline));
  return !rows.empty();
}

}  // namespace

Result<std::string> ScramVerifier(const Connection& connection, const std::string& role, const std::string& password) {
  Connection::Impl& impl = connection.impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  if (password.empty() || password.find('\0') != std::string::npos) {
    return MakeError(Code::kInvalidArgument, "the password of " + role + " is empty or has a zero byte");
  }
  std::unique_ptr<char, decltype(&PQfreemem)> verifier(
      PQencryptPasswordConn(impl.conn, password.c_str(), role.c_str(), "scram-sha-256"), &PQfreemem);
  if (verifier == nullptr) {
    return MakeError(Code::kInternal, "password of " + role + ": " + OneLine(PQerrorMessage(impl.conn)));
  }
  return std::string(verifier.get());
}

Result<Ensured> EnsureRole(Connection& connection, const RoleSpec& role, const std::string& password,
                           Deadline deadline) {
  std::string context = "role " + role.name;
  auto transaction = Transaction::Begin(connection, deadline);
  if (!transaction.has_value()) return std::move(transaction).error().WithContext(context);
  auto ensured = EnsureRoleInTransaction(connection, role, password, deadline);
  if (!ensured.has_value()) return std::move(ensured).error().WithContext(context);
  auto committed = transaction->Commit(deadline);
  if (!committed.has_value()) return std::move(committed).error().WithContext(context);
  return ensured;
}

Status SetPassword(Connection& connection, const std::string& role, const std::string& password, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(bool has, HasPassword(connection, role, password, deadline));
  if (has) return {};
  PGTIER_ASSIGN_OR_RETURN(std::string quoted, QuoteIdentifier(connection, role));
  PGTIER_ASSIGN_OR_RETURN(std::string clause, PasswordClause(connection, role, password));
  auto altered = connection.Execute("ALTER ROLE " + quoted + clause, deadline);
  if (!altered.has_value()) return std::move(altered).error().WithContext("password of " + role);
  return {};
}

Status ClearPassword(Connection& connection, const std::string& role, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(std::string quoted, QuoteIdentifier(connection, role));
  auto altered = connection.Execute("ALTER ROLE " + quoted + " PASSWORD NULL", deadline);
  return altered.has_value() ? Status() : altered.error().WithContext("password of " + role);
}

Result<Ensured> EnsureDatabase(Connection& connection, const std::string& name, const std::string& owner,
                               Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(bool there,
                          Exists(connection, "SELECT 1 FROM pg_database WHERE datname = $1", name, deadline));
  if (there) return Ensured::kUnchanged;
  PGTIER_ASSIGN_OR_RETURN(std::string sql, QuoteIdentifier(connection, name));
  sql.insert(0, "CREATE DATABASE ");
  if (!owner.empty()) {
    PGTIER_ASSIGN_OR_RETURN(std::string quoted_owner, QuoteIdentifier(connection, owner));
    sql += " OWNER " + quoted_owner;
  }
  auto created = connection.Execute(sql, deadline);
  if (created.has_value()) return Ensured::kCreated;
  // Somebody else made it between the two statements.
  if (created.error().code == Code::kAlreadyExists) return Ensured::kUnchanged;
  return std::move(created).error().WithContext("database " + name);
}

Result<bool> ExtensionAvailable(Connection& connection, const std::string& name, Deadline deadline) {
  return Exists(connection, "SELECT 1 FROM pg_available_extensions WHERE name = $1", name, deadline);
}

Result<Ensured> EnsureExtension(Connection& connection, const std::string& name, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(bool there,
                          Exists(connection, "SELECT 1 FROM pg_extension WHERE extname = $1", name, deadline));
  if (there) return Ensured::kUnchanged;
  PGTIER_ASSIGN_OR_RETURN(bool available, ExtensionAvailable(connection, name, deadline));
  if (!available) return MakeError(Code::kNotFound, "extension " + name + " is not installed on the server");
  PGTIER_ASSIGN_OR_RETURN(std::string quoted, QuoteIdentifier(connection, name));
  auto created = connection.Execute("CREATE EXTENSION IF NOT EXISTS " + quoted, deadline);
  if (!created.has_value()) return std::move(created).error().WithContext("extension " + name);
  return Ensured::kCreated;
}

Status PrepareWal(Connection& connection, Deadline deadline) {
  // There is no function that makes a file ahead. The checkpoint renames the files that are done with into the next
  // ones.
  constexpr const char* kSwitch =
      "DO $$ BEGIN"
      " FOR i IN 1..least(8, pg_size_bytes(current_setting('min_wal_size'))"
      "                      / pg_size_bytes(current_setting('wal_segment_size'))) LOOP"
      "  PERFORM pg_logical_emit_message(false, 'pgtier', '');"  // An empty file is not switched away from.
      "  PERFORM pg_switch_wal();"
      " END LOOP; END $$";
  for (const char* sql : {kSwitch, "CHECKPOINT"}) {
    Result<std::vector<Rows>> done = connection.Execute(sql, deadline);
    if (!done.has_value()) return std::move(done).error().WithContext("preparing the write-ahead log");
  }
  return {};
}

}  // namespace pgtier::postgres
