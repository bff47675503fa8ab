// Roles, databases and extensions, made if absent. Names may hold anything; they are quoted by libpq.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::postgres {

struct RoleSpec {
  std::string name;
  bool login = true;
  bool superuser = false;
  bool replication = false;
  bool create_db = false;
  bool create_role = false;
  std::optional<int> connection_limit;  // nothing: leave as it is, no limit for a new role
  std::vector<std::string> member_of;   // memberships to have; others are left alone
};

enum class Ensured { kUnchanged, kCreated, kAltered };

// Makes the role with that password if it is absent, in one transaction; an existing role's attributes and memberships
// are altered where they differ, its password is not touched (nobody can see whether it differs: SetPassword).
// An empty password makes a role without one. The server gets a SCRAM-SHA-256 verifier, never the password.
Result<Ensured> EnsureRole(Connection& connection, const RoleSpec& role, const std::string& password,
                           Deadline deadline);
// Sets the password, as a verifier computed here. One that is of this password already stays, if the connection's user
// may see it: another salt would void the SCRAM keys of clients by which poolers log in. Errors: kNotFound: no such
// role.
Status SetPassword(Connection& connection, const std::string& role, const std::string& password, Deadline deadline);
// Nobody logs in by a password as that role any more.
Status ClearPassword(Connection& connection, const std::string& role, Deadline deadline);
// The verifier itself (SCRAM-SHA-256$…), for a pooler's userlist too. Each call draws another salt.
Result<std::string> ScramVerifier(const Connection& connection, const std::string& role, const std::string& password);

// Makes the database if it is absent. An empty owner is the connection's user; an existing one's owner is not changed.
Result<Ensured> EnsureDatabase(Connection& connection, const std::string& name, const std::string& owner,
                               Deadline deadline);
// CREATE EXTENSION IF NOT EXISTS in the connection's database.
// Errors: kNotFound: the server's installation lacks it.
Result<Ensured> EnsureExtension(Connection& connection, const std::string& name, Deadline deadline);
// Whether the server's installation has the extension's files.
Result<bool> ExtensionAvailable(Connection& connection, const std::string& name, Deadline deadline);

// Has the server make the next files of its write-ahead log now, as many as min_wal_size keeps and at most 8, and write
// all else back: for a new server, of which nobody wants anything yet (docs/decisions/0073). As superuser, on a primary.
Status PrepareWal(Connection& connection, Deadline deadline);

}  // namespace pgtier::postgres
