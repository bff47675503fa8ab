// Times and durations as Kubernetes objects write them.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier {

// RFC 3339 in UTC with whole seconds, as metav1.Time: "2026-11-20T17:02:11Z".
std::string FormatTime(WallTime time);
// RFC 3339 in UTC with microseconds, as metav1.MicroTime (leases, events): "2026-11-20T17:02:11.123456Z".
std::string FormatMicroTime(WallTime time);
// Only the clock, for messages: "17:02:11Z".
std::string FormatClockTime(WallTime time);
// Reads RFC 3339 with or without a fraction, with Z or an offset.
Result<WallTime> ParseTime(std::string_view text);

// A duration of the API: one or more of <number>(ms|s|m|h|d|w), such as "300ms", "1h30m", "90d".
Result<Duration> ParseDuration(std::string_view text);
// The shortest such text, largest units first: 90 minutes is "1h30m"; zero is "0s". Below a millisecond is dropped.
std::string FormatDuration(Duration duration);

}  // namespace pgtier
