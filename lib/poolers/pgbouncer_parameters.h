// The [pgbouncer] section as a list, from which both the file and the comparison are made. lib/poolers' own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_config.h"

namespace pgtier::poolers {

struct Parameter {
  const char* key;
  std::optional<std::string> value;  // nothing: left out of the file, PgBouncer's default holds
};

// All parameters that pgtier knows, in the file's order, checked. Errors: kInvalidArgument.
Result<std::vector<Parameter>> Parameters(const PgBouncerSettings& settings);

// The hosts as PgBouncer writes them: "a,b,b".
std::string JoinHosts(const PgBouncerDatabase& database);

}  // namespace pgtier::poolers
