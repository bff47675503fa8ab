#include "lib/postgres/sqlstate.h"

#include <gtest/gtest.h>

namespace pgtier::postgres {
namespace {

TEST(SqlState, DecidesTheCode) {
  const std::pair<const char*, Code> cases[] = {
      {"08006", Code::kUnavailable},
      {"57P01", Code::kUnavailable},
      {"57P03", Code::kUnavailable},
      {"40001", Code::kAborted},
      {"40P01", Code::kAborted},
      {"55P03", Code::kAborted},
      {"57014", Code::kDeadlineExceeded},
      {"42501", Code::kPermissionDenied},
      {"28P01", Code::kUnauthenticated},
      {"28000", Code::kUnauthenticated},
      {"42P01", Code::kNotFound},
      {"3D000", Code::kNotFound},
      {"42704", Code::kNotFound},
      {"23505", Code::kAlreadyExists},
      {"42710", Code::kAlreadyExists},
      {"42P04", Code::kAlreadyExists},
      {"42P07", Code::kAlreadyExists},
      {"53300", Code::kResourceExhausted},
      {"53100", Code::kResourceExhausted},
      {"25006", Code::kFailedPrecondition},
      {"55006", Code::kFailedPrecondition},
      {"23503", Code::kFailedPrecondition},
      {"42601", Code::kInvalidArgument},
      {"22P02", Code::kInvalidArgument},
      {"0A000", Code::kUnimplemented},
      {"XX000", Code::kInternal},
      {"", Code::kInternal},
  };
  for (const auto& [state, code] : cases) EXPECT_EQ(CodeOfSqlState(state), code) << state;
}

TEST(SqlState, StaysInTheMessageBelowContexts) {
  Error error = MakeSqlError("42P01", "relation \"x\" does not exist").WithContext("reading").WithContext("policy a");
  EXPECT_EQ(error.message, "policy a: reading: relation \"x\" does not exist [42P01]");
  EXPECT_EQ(SqlStateOf(error), "42P01");
}

TEST(SqlState, IsEmptyWhereThereIsNone) {
  for (const char* message : {"", "]", "[42P01", "42P01]", "x [42p01]", "x [42P0]", "x [42P01] y", "[]", "x 42P01]"}) {
    EXPECT_EQ(SqlStateOf(MakeError(Code::kInternal, message)), "") << message;
  }
}

}  // namespace
}  // namespace pgtier::postgres
