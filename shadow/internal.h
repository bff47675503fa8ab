// For the sources of shadow/ only.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "shadow/shadow.h"

namespace pgtier::shadow {

// Texts as an array's literal: {"a","b"}.
std::string ArrayLiteral(const std::vector<std::string>& texts);

// Makes schema, functions, roles and event triggers, or brings them to this program's version. One transaction.
Status InstallScripts(postgres::Connection& admin, Deadline deadline);

// Whether the database has pgtier's tables of shadow tables.
Result<bool> KnowsShadows(postgres::Connection& connection, Deadline deadline);

// One value of a statement with one row and one column; nothing for no row.
Result<std::optional<std::string>> Value(postgres::Connection& connection, const std::string& sql,
                                         const postgres::Params& params, Deadline deadline);

// What stands in the way of the histories that are there: see sql/shadow/preflight_history.sql.
Result<std::vector<Finding>> HistoryFindings(postgres::Connection& connection, const Spec& spec, Tier target,
                                             Deadline deadline);

// Runs `work` in a transaction, again and again while writers hold it off (lock_not_available, deadlock_detected), with
// random pauses between. Errors: those of `work`; kDeadlineExceeded with the last reason.
Status WithLockRetries(postgres::Connection& admin, const std::string& what, Deadline deadline,
                       const std::function<Status()>& work);

}  // namespace pgtier::shadow
