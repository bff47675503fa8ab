// The application's own table of events (ADR-0063: customer_audit_events). Only the application writes it, in every
// tier; pgtier makes it where it is missing, looks whether it is fit, and counts it. See docs/decisions/0055.
#pragma once

#include <string>

#include "lib/postgres/connection.h"

namespace pgtier::shadow {

struct AuditEventsState {
  std::string name;  // As SQL writes it.
  bool exists = false;
  int64_t rows = 0;        // By the planner's statistics.
  bool readable = true;    // By the role that counts.
  bool may_grant = false;  // The role that asks may grant that.
  std::string finding;     // "ColumnMissing: …" with its cure; empty: nothing is wrong.

  // Whether MakeAuditEvents has something to do that it can do.
  [[nodiscard]] bool Unmade() const { return finding.empty() && (!exists || (!readable && may_grant)); }
};

// Changes nothing. `reader`: the role by which `sql` triggers count; empty, or one that is not there: nobody.
Result<AuditEventsState> InspectAuditEvents(postgres::Connection& connection, const std::string& table,
                                            const std::string& reader, Deadline deadline);

// Makes the table where it is missing, owned by the owner of `source`, and lets `reader` read it. Idempotent.
Status MakeAuditEvents(postgres::Connection& admin, const std::string& table, const std::string& source,
                       const std::string& reader, Deadline deadline);

}  // namespace pgtier::shadow
