#include "lib/postgres/sqlstate.h"

#include <cctype>
#include <utility>

namespace pgtier::postgres {
namespace {

constexpr size_t kSqlStateLength = 5;

// Whole codes where they differ from their class.
constexpr std::pair<std::string_view, Code> kByCode[] = {
    {"23505", Code::kAlreadyExists},       // unique_violation
    {"25006", Code::kFailedPrecondition},  // read_only_sql_transaction: a standby was asked to write
    {"25P02", Code::kAborted},             // in_failed_sql_transaction
    {"3D000", Code::kNotFound},            // invalid_catalog_name
    {"3F000", Code::kNotFound},            // invalid_schema_name
    {"42501", Code::kPermissionDenied},    // insufficient_privilege
    {"42701", Code::kAlreadyExists},       // duplicate_column
    {"42703", Code::kNotFound},            // undefined_column
    {"42704", Code::kNotFound},            // undefined_object
    {"42710", Code::kAlreadyExists},       // duplicate_object
    {"42723", Code::kAlreadyExists},       // duplicate_function
    {"42883", Code::kNotFound},            // undefined_function
    {"42P01", Code::kNotFound},            // undefined_table
    {"42P04", Code::kAlreadyExists},       // duplicate_database
    {"42P06", Code::kAlreadyExists},       // duplicate_schema
    {"42P07", Code::kAlreadyExists},       // duplicate_table
    {"55P03", Code::kAborted},             // lock_not_available
    {"57014", Code::kDeadlineExceeded},    // query_canceled
    {"57P01", Code::kUnavailable},         // admin_shutdown
    {"57P02", Code::kUnavailable},         // crash_shutdown
    {"57P03", Code::kUnavailable},         // cannot_connect_now
    {"57P04", Code::kUnavailable},         // database_dropped
    {"57P05", Code::kUnavailable},         // idle_session_timeout
};

constexpr std::pair<std::string_view, Code> kByClass[] = {
    {"08", Code::kUnavailable},         // connection_exception; PgBouncer's own errors too
    {"0A", Code::kUnimplemented},       // feature_not_supported
    {"22", Code::kInvalidArgument},     // data_exception
    {"23", Code::kFailedPrecondition},  // integrity_constraint_violation
    {"25", Code::kFailedPrecondition},  // invalid_transaction_state
    {"26", Code::kFailedPrecondition},  // invalid_sql_statement_name
    {"28", Code::kUnauthenticated},     // invalid_authorization_specification
    {"40", Code::kAborted},             // transaction_rollback: serialization, deadlock
    {"42", Code::kInvalidArgument},     // syntax_error_or_access_rule_violation
    {"53", Code::kResourceExhausted},   // insufficient_resources
    {"54", Code::kInvalidArgument},     // program_limit_exceeded
    {"55", Code::kFailedPrecondition},  // object_not_in_prerequisite_state
};

bool IsSqlState(std::string_view text) {
  if (text.size() != kSqlStateLength) return false;
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (std::isdigit(byte) == 0 && std::isupper(byte) == 0) return false;
  }
  return true;
}

}  // namespace

Code CodeOfSqlState(std::string_view sqlstate) {
  for (const auto& [state, code] : kByCode) {
    if (state == sqlstate) return code;
  }
  for (const auto& [state_class, code] : kByClass) {
    if (sqlstate.starts_with(state_class)) return code;
  }
  return Code::kInternal;
}

Error MakeSqlError(std::string_view sqlstate, std::string_view message) {
  return MakeError(CodeOfSqlState(sqlstate), std::string(message) + " [" + std::string(sqlstate) + "]");
}

std::string_view SqlStateOf(const Error& error) {
  std::string_view message = error.message;
  // It ends the message; contexts are put before it.
  if (message.size() < kSqlStateLength + 2 || message.back() != ']') return {};
  std::string_view candidate = message.substr(message.size() - kSqlStateLength - 1, kSqlStateLength);
  bool opened = message[message.size() - kSqlStateLength - 2] == '[';
  return opened && IsSqlState(candidate) ? candidate : std::string_view();
}

}  // namespace pgtier::postgres
