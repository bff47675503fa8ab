// What kyoyu-load prints: a JSON line a second, and the summary at the end.
#pragma once

#include <optional>
#include <string>

#include "demo/load/recorder.h"
#include "demo/load/schema.h"

namespace pgtier::load {

// {"ts","phase","readers","qps","p50","p95","max_ms","failed","inflight","events_per_s"}: times in milliseconds, null
// without an answered query.
std::string WindowLine(WallTime at, const std::string& phase, int readers, Duration length, const Window& window);

// The run's totals against the rows in the tables; `ledger` is nothing when they could not be counted.
// "ledger_ok": every acknowledged row is there, and no row beyond the acknowledged and the unknown ones.
std::string Summary(const std::string& run_id, WallTime started, WallTime ended, const Totals& totals,
                    const std::optional<Ledger>& ledger);

}  // namespace pgtier::load
