// Quoting of names and values for statements that take no parameters. Done by libpq, for the connection's encoding.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::postgres {

// "name" with double quotes. Errors: kInvalidArgument: empty, with a zero byte, or not valid in the encoding.
Result<std::string> QuoteIdentifier(const Connection& connection, std::string_view name);

// "schema"."name".
Result<std::string> QuoteQualified(const Connection& connection, std::string_view schema, std::string_view name);

// 'text' with single quotes (with E'' where it holds a backslash). Errors: kInvalidArgument.
Result<std::string> QuoteLiteral(const Connection& connection, std::string_view text);

}  // namespace pgtier::postgres
