// Where the changes of a relation go: its table's history, and which column holds what.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/pgoutput/assembler.h"
#include "lib/postgres/connection.h"

namespace pgtier::workers {

struct Target {
  int64_t table = 0;  // pgtier.shadow_tables.id; 0: the relation is of no table of the policy
  bool dropped =
      false;  // its history is gone: its changes are not wanted any more. (That of a source which was dropped stays.)
  std::string source;    // "public.customers": the root's name, for people
  std::string history;   // as SQL writes it
  std::string sequence;  // that positions are drawn from, as SQL writes it
  std::string copy;      // the COPY statement: meta columns, `fresh`, `former`, and position at last
  bool epoch = false, at_utc = false, operation = false, actor = false, position = false;  // which the history has
  std::vector<size_t> fresh;   // of the relation's columns, those recorded as after the change
  std::vector<size_t> former;  // as before it, for UPDATE
  uint64_t generation = 0;     // of the relation's description
  // Descriptions say names; a name means a column only up to the next change of the table: commits from here on need
  // the target anew.
  postgres::Lsn until;
};

// Finds it for a change that commits at `commit`, which may be before renames that the catalogue shows already. In the
// open transaction it locks the history against changes of its columns, so the answer holds until its end. Errors:
// kFailedPrecondition: the history lacks a column that the source has, and must be brought into line (Install).
Result<Target> FindTarget(postgres::Connection& connection, const std::string& policy,
                          const pgoutput::Relation& relation, postgres::Lsn commit, Deadline deadline);

}  // namespace pgtier::workers
