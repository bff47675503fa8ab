#include "cli/table.h"

#include <gtest/gtest.h>

namespace pgtier::cli {
namespace {

TEST(Table, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({"A", "LONG", "END"});
  table.Add({{"wider"}, {"x", Tone::kBad}, {"y"}});
  table.Add({{"z"}, {""}, {""}});
  EXPECT_EQ(table.Render({}), "A       LONG   END\nwider   x      y\nz\n");
  EXPECT_EQ(table.Render({true}),
            "\x1b[2mA\x1b[0m       \x1b[2mLONG\x1b[0m   \x1b[2mEND\x1b[0m\nwider   \x1b[31mx\x1b[0m      y\nz\n");
}

TEST(Colours, OnATerminalOnlyAndNotWhereTheyAreUnwanted) {
  EXPECT_TRUE(WantsColours(true, nullptr, "xterm"));
  EXPECT_TRUE(WantsColours(true, "", nullptr));
  EXPECT_FALSE(WantsColours(false, nullptr, "xterm"));
  EXPECT_FALSE(WantsColours(true, "1", "xterm"));
  EXPECT_FALSE(WantsColours(true, nullptr, "dumb"));
}

}  // namespace
}  // namespace pgtier::cli
