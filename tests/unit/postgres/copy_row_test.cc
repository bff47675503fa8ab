#include <gtest/gtest.h>

#include "lib/postgres/connection.h"

namespace pgtier::postgres {
namespace {

TEST(AppendCopyRow, EscapesWhatTheFormatUses) {
  std::string out;
  AppendCopyRow(out, {"a", std::nullopt, "", "t\tn\nr\rb\\", "\\N"});
  EXPECT_EQ(out, "a\t\\N\t\tt\\tn\\nr\\rb\\\\\t\\\\N\n");
}

TEST(AppendCopyRow, AppendsRows) {
  std::string out;
  AppendCopyRow(out, {"1"});
  AppendCopyRow(out, {"2"});
  EXPECT_EQ(out, "1\n2\n");
}

}  // namespace
}  // namespace pgtier::postgres
