// For the sources of shadow/ only: what Preflight asks beside its own when cdc is the target.
#pragma once

#include <vector>

#include "shadow/shadow.h"

namespace pgtier::shadow {

Result<std::vector<Finding>> CdcFindings(postgres::Connection& connection, const Spec& spec, Deadline deadline);

}  // namespace pgtier::shadow
