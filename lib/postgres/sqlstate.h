// How PostgreSQL's error codes reach callers: the pgtier::Code to decide by, and the SQLSTATE kept in the message.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier::postgres {

// The canonical code of a SQLSTATE ("40001" is kAborted). Classes without a meaning of their own are kInternal.
Code CodeOfSqlState(std::string_view sqlstate);

// Makes the Error of a failed statement: `message [sqlstate]`, on one line. The server's DETAIL is left out on
// purpose: it quotes rows.
Error MakeSqlError(std::string_view sqlstate, std::string_view message);

// The SQLSTATE that MakeSqlError put into an error, also below added contexts; empty when the error has none
// (a lost connection, a deadline that passed in the client).
std::string_view SqlStateOf(const Error& error);

}  // namespace pgtier::postgres
