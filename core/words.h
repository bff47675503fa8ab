// Decisions in words: what conditions, events and columns say.
#pragma once

#include <string>

#include "core/ladder.h"

namespace pgtier::core {

// A value as people write it in its unit: 0.031 Seconds is "31ms", 0.87 Ratio is "87%", 13421772800 Bytes "12.5Gi".
std::string FormatValue(double value, Unit unit);

// "pool-utilisation" is "PoolUtilisation".
std::string PascalCase(const std::string& name);

// A condition's reason for a tier entered by this trigger: "PoolUtilisationAboveThreshold", "IsolatedReadsDemanded".
std::string TriggerReason(const Trigger& trigger);

// "pool-utilisation 87% > 80% since 16:52:10Z (10m)": value, threshold and window of a trigger that fired or is about
// to.
std::string DescribeBreach(const Trigger& trigger, const TriggerMemory& memory);

// "disk 62%/80%": the column CLOSEST.
std::string DescribeClosest(const Trigger& trigger, const TriggerMemory& memory);

// What the ladder waits for before it enters `tier`: the nearest trigger's state, or why nothing is known.
std::string DescribeWaiting(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories, WallTime now);

// Why `tier` is left: "query-p95 12ms < 20ms since 16:52:10Z (1d)" of each trigger whose `leave` holds.
std::string DescribeCalm(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories);

// What the ladder waits for before it leaves `tier`: "leaves when query-p95 < 20ms (1d), now 31ms"; empty where no
// trigger says when.
std::string DescribeLeaving(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories);

// "< 20ms (1d)": when a trigger's reason is over; empty without `leave`.
std::string DescribeLeave(const Trigger& trigger);

}  // namespace pgtier::core
