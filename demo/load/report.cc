#include "demo/load/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "lib/base/time_format.h"

namespace pgtier::load {
namespace {

using Json = nlohmann::ordered_json;

// Milliseconds with three digits: microseconds are what was measured.
double Milliseconds(Duration duration) {
  return std::round(std::chrono::duration<double, std::micro>(duration).count()) / 1000;
}

double Rounded(double value) { return std::round(value * 10) / 10; }

Json Percentiles(const LatencyHistogram& latencies) {
  return {{"count", latencies.count()},
          {"p50_ms", Milliseconds(latencies.Quantile(0.5))},
          {"p95_ms", Milliseconds(latencies.Quantile(0.95))},
          {"p99_ms", Milliseconds(latencies.Quantile(0.99))},
          {"max_ms", Milliseconds(latencies.max())}};
}

Json Stalls(const std::vector<Stall>& stalls) {
  Json list = Json::array();
  for (const Stall& stall : stalls) {
    list.push_back({{"began", FormatMicroTime(stall.began)}, {"ms", Milliseconds(stall.took)}, {"what", stall.what}});
  }
  return list;
}

bool Balanced(int64_t acknowledged, int64_t unknown, int64_t in_table) {
  return acknowledged <= in_table && in_table <= acknowledged + unknown;
}

}  // namespace

std::string WindowLine(WallTime at, const std::string& phase, int readers, Duration length, const Window& window) {
  double seconds = Seconds(length);
  auto latency = [&](Duration value) { return window.queries == 0 ? Json() : Json(Milliseconds(value)); };
  Json line = {{"ts", FormatMicroTime(at)},
               {"phase", phase},
               {"readers", readers},
               {"qps", Rounded(static_cast<double>(window.queries) / seconds)},
               {"p50", latency(window.p50)},
               {"p95", latency(window.p95)},
               {"max_ms", latency(window.max)},
               {"failed", window.failed},
               {"inflight", window.inflight},
               {"events_per_s", Rounded(static_cast<double>(window.events) / seconds)}};
  return line.dump();
}

std::string Summary(const std::string& run_id, WallTime started, WallTime ended, const Totals& totals,
                    const std::optional<Ledger>& ledger) {
  Json by_type;
  for (size_t i = 0; i < kQueryTypeNames.size(); ++i) by_type[kQueryTypeNames[i]] = Percentiles(totals.by_type[i]);
  Json summary = {{"summary", true},
                  {"run_id", run_id},
                  {"started", FormatMicroTime(started)},
                  {"ended", FormatMicroTime(ended)},
                  {"failed_total", totals.Failed()},
                  {"queries", totals.queries},
                  {"queries_failed", totals.queries_failed},
                  {"connects_failed", totals.connects_failed},
                  {"flushes", totals.flushes},
                  {"flushes_failed", totals.flushes_failed},
                  {"decisions", totals.decisions},
                  {"decisions_failed", totals.decisions_failed},
                  {"longest_stall_ms", Milliseconds(totals.LongestStall())},
                  {"longest_query_ms", Milliseconds(totals.longest_query)},
                  {"longest_flush_ms", Milliseconds(totals.longest_flush)},
                  {"longest_gap_ms", Milliseconds(totals.longest_gap)},
                  {"stalls", Stalls(totals.stalls)},
                  {"latency", Percentiles(totals.all)},
                  {"latency_by_type", by_type},
                  {"flush_latency", Percentiles(totals.flush)},
                  {"errors", totals.errors},
                  {"error_samples", totals.samples},
                  {"events_acknowledged", totals.events_acknowledged},
                  {"events_unknown", totals.events_unknown}};
  if (ledger.has_value()) {
    summary["events_in_table"] = ledger->events;
    summary["decisions_in_table"] = ledger->decisions;
    summary["ledger_ok"] = Balanced(totals.events_acknowledged, totals.events_unknown, ledger->events) &&
                           Balanced(totals.decisions, totals.decisions_unknown, ledger->decisions);
  } else {
    summary["events_in_table"] = nullptr;
    summary["decisions_in_table"] = nullptr;
    summary["ledger_ok"] = nullptr;
  }
  // Error texts come from servers: what isn't UTF-8 must not end the program.
  return summary.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace pgtier::load
