#include "demo/load/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pgtier::load {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

TEST(WindowLine, IsOneJsonObject) {
  Window window{300, 1, milliseconds(12), milliseconds(48), milliseconds(90), 7, 2000};
  auto line = WindowLine(WallTime{}, "peak", 40, milliseconds(2000), window);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  auto parsed = json::parse(line);
  EXPECT_EQ(parsed["ts"], "1970-01-01T00:00:00.000000Z");
  EXPECT_EQ(parsed["qps"], 150);
  EXPECT_EQ(parsed["p95"], 48);
  EXPECT_EQ(parsed["failed"], 1);
  EXPECT_EQ(parsed["inflight"], 7);
  EXPECT_EQ(parsed["events_per_s"], 1000);
}

TEST(WindowLine, HasNoLatencyWithoutQueries) {
  EXPECT_TRUE(json::parse(WindowLine(WallTime{}, "warmup", 0, milliseconds(1000), {}))["p95"].is_null());
}

TEST(Summary, BalancesTheLedger) {
  Recorder recorder;
  recorder.FlushEnds(1000, milliseconds(3), {});
  recorder.FlushEnds(500, milliseconds(3), MakeError(Code::kUnavailable, "lost \xFF"));
  auto ledger_ok = [&](int64_t in_table) {
    auto text = Summary("r", WallTime{}, WallTime{}, recorder.totals(), Ledger{in_table, 0});
    return json::parse(text)["ledger_ok"].get<bool>();
  };
  EXPECT_FALSE(ledger_ok(999));  // an acknowledged row is missing
  EXPECT_TRUE(ledger_ok(1000));
  EXPECT_TRUE(ledger_ok(1500));   // the failed batch was committed before the connection was lost
  EXPECT_FALSE(ledger_ok(1501));  // a row came twice
  auto uncounted = json::parse(Summary("r", WallTime{}, WallTime{}, recorder.totals(), std::nullopt));
  EXPECT_TRUE(uncounted["ledger_ok"].is_null());
  EXPECT_EQ(uncounted["events_acknowledged"], 1000);
  EXPECT_EQ(uncounted["failed_total"], 1);
}

}  // namespace
}  // namespace pgtier::load
