// Errors as values. A function that can fail returns Result<T>; exceptions stay inside the adapters of libraries
// that throw them. The codes follow abseil's canonical ones, because callers decide by them:
// kUnavailable: retry the call; kAborted: retry the read-modify-write; kFailedPrecondition: wait for the world.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace pgtier {

enum class Code {
  kUnavailable,
  kAborted,
  kFailedPrecondition,
  kNotFound,
  kAlreadyExists,
  kInvalidArgument,
  kPermissionDenied,
  kUnauthenticated,
  kDeadlineExceeded,
  kCancelled,
  kResourceExhausted,
  kUnimplemented,
  kInternal,
};

// The code's name as abseil prints it, for logs: "UNAVAILABLE".
std::string_view CodeName(Code code);

// What went wrong, in words for a person: what failed, on what, and why. Never holds a secret.
struct Error {
  Code code = Code::kInternal;
  std::string message;

  // The same error with `context + ": "` before its message.
  [[nodiscard]] Error WithContext(std::string_view context) const {
    return {code, std::string(context) + ": " + message};
  }
};

// A value or an Error. May not be ignored; use `std::ignore = …` with the reason in a comment where that is right.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  Result(Error error) : tl::expected<T, Error>(tl::unexpect, std::move(error)) {}  // NOLINT: implicit by design
};

using Status = Result<void>;

// An Error of that code, ready to be returned from any function with a Result.
inline Error MakeError(Code code, std::string message) { return Error{code, std::move(message)}; }

}  // namespace pgtier

// Returns the error of `expr` (a Result) from the enclosing function, if it has one.
#define PGTIER_RETURN_IF_ERROR(expr)                                         \
  do {                                                                       \
    auto pgtier_status = (expr);                                             \
    if (!pgtier_status.has_value()) return std::move(pgtier_status).error(); \
  } while (false)

// A declaration and a fresh name cannot stand in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define PGTIER_CONCAT_INNER(a, b) a##b
#define PGTIER_CONCAT(a, b) PGTIER_CONCAT_INNER(a, b)

// Evaluates `expr` (a Result<T>), returns its error from the enclosing function, else assigns its value:
//   PGTIER_ASSIGN_OR_RETURN(auto rows, connection.Query(sql, deadline));
#define PGTIER_ASSIGN_OR_RETURN(declaration, expr) \
  PGTIER_ASSIGN_OR_RETURN_INNER(PGTIER_CONCAT(pgtier_result_, __LINE__), declaration, expr)
#define PGTIER_ASSIGN_OR_RETURN_INNER(name, declaration, expr) \
  auto name = (expr);                                          \
  if (!name.has_value()) return std::move(name).error();       \
  declaration = *std::move(name)
// NOLINTEND(bugprone-macro-parentheses)
