// Readings from the database itself.
#pragma once

#include <stop_token>
#include <string>

#include "core/trigger.h"
#include "lib/postgres/connection.h"

namespace pgtier::observe {

// What to ask; one of the two is set.
struct SqlQuestion {
  std::string query;    // One SELECT of one number.
  std::string rows_of;  // The table whose rows are counted, as SQL writes its name: "public.customers".
  bool exact = false;   // Count them (SELECT needed), or believe the planner's statistics.
};

// Asks as the role of `server`, which should be a monitoring role and never the superuser: in a read-only transaction,
// one statement, cancelled at `patience`. Everything but one finite number is Unknown, with the reason; where a right
// is missing the reason holds the GRANT to run.
core::Reading ReadSql(const postgres::ConnectOptions& server, const SqlQuestion& question, Duration patience,
                      Deadline deadline, const std::stop_token& stop);

}  // namespace pgtier::observe
