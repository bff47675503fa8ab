#include "lib/postgres/quote.h"

#include <memory>

#include "lib/postgres/connection_impl.h"

namespace pgtier::postgres {
namespace {

using Escape = char* (*)(PGconn*, const char*, size_t);

Result<std::string> Quoted(const Connection& connection, std::string_view text, Escape escape) {
  Connection::Impl& impl = connection.impl();
  PGTIER_RETURN_IF_ERROR(impl.Ready());
  if (text.find('\0') != std::string_view::npos) {
    return MakeError(Code::kInvalidArgument, "a zero byte can't be quoted");
  }
  std::unique_ptr<char, decltype(&PQfreemem)> quoted(escape(impl.conn, text.data(), text.size()), &PQfreemem);
  // libpq's message names the fault (an incomplete multibyte character), not the text.
  if (quoted == nullptr) return MakeError(Code::kInvalidArgument, OneLine(PQerrorMessage(impl.conn)));
  return std::string(quoted.get());
}

}  // namespace

Result<std::string> QuoteIdentifier(const Connection& connection, std::string_view name) {
  if (name.empty()) return MakeError(Code::kInvalidArgument, "an identifier can't be empty");
  return Quoted(connection, name, PQescapeIdentifier);
}

Result<std::string> QuoteQualified(const Connection& connection, std::string_view schema, std::string_view name) {
  PGTIER_ASSIGN_OR_RETURN(std::string quoted_schema, QuoteIdentifier(connection, schema));
  PGTIER_ASSIGN_OR_RETURN(std::string quoted_name, QuoteIdentifier(connection, name));
  return quoted_schema + "." + quoted_name;
}

Result<std::string> QuoteLiteral(const Connection& connection, std::string_view text) {
  return Quoted(connection, text, PQescapeLiteral);
}

}  // namespace pgtier::postgres
