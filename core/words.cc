#include "core/words.h"

#include <cctype>
#include <cmath>

#include "lib/base/quantity.h"
#include "lib/base/time_format.h"

namespace pgtier::core {
namespace {

std::string_view Sign(Comparison comparison) {
  switch (comparison) {
    case Comparison::kAbove:
      return ">";
    case Comparison::kAtLeast:
      return ">=";
    case Comparison::kBelow:
      return "<";
    case Comparison::kDemand:
      break;
  }
  return "";
}

std::string WindowInWords(const Trigger& trigger) {
  return trigger.window > Duration::zero() ? " (" + FormatDuration(trigger.window) + ")" : "";
}

}  // namespace

std::string FormatValue(double value, Unit unit) {
  // Tenths are enough for people, and spare a status from being rewritten for what nobody reads.
  auto tenths = [](double number) { return FormatNumber(std::round(number * 10) / 10); };
  switch (unit) {
    case Unit::kSeconds:
      return value < 1 ? tenths(value * 1000) + "ms" : FormatNumber(value) + "s";
    case Unit::kRatio:
      return tenths(value * 100) + "%";
    case Unit::kBytes:
      return FormatBytes(value);
    case Unit::kPerSecond:
      return FormatNumber(value) + "/s";
    case Unit::kNone:
    case Unit::kCount:
      break;
  }
  return FormatNumber(value);
}

std::string PascalCase(const std::string& name) {
  std::string result;
  bool upper = true;
  for (char c : name) {
    if (c == '-') {
      upper = true;
      continue;
    }
    result += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return result;
}

std::string TriggerReason(const Trigger& trigger) {
  switch (trigger.comparison) {
    case Comparison::kAbove:
      return PascalCase(trigger.name) + "AboveThreshold";
    case Comparison::kAtLeast:
      return PascalCase(trigger.name) + "AtThreshold";
    case Comparison::kBelow:
      return PascalCase(trigger.name) + "BelowThreshold";
    case Comparison::kDemand:
      break;
  }
  return PascalCase(trigger.name) + "Demanded";
}

std::string DescribeBreach(const Trigger& trigger, const TriggerMemory& memory) {
  if (trigger.comparison == Comparison::kDemand) return trigger.name + " demanded in spec.demands";
  std::string text = trigger.name;
  if (memory.observed.has_value()) text += " " + FormatValue(*memory.observed, trigger.unit);
  text += " " + std::string(Sign(trigger.comparison)) + " " + FormatValue(trigger.threshold, trigger.unit);
  if (memory.breached_since.has_value()) text += " since " + FormatClockTime(*memory.breached_since);
  return text + WindowInWords(trigger);
}

std::string DescribeClosest(const Trigger& trigger, const TriggerMemory& memory) {
  std::string observed = memory.observed.has_value() ? FormatValue(*memory.observed, trigger.unit) : "?";
  return trigger.name + " " + observed + "/" + FormatValue(trigger.threshold, trigger.unit);
}

std::string DescribeLeave(const Trigger& trigger) {
  if (!trigger.leave.has_value()) return "";
  std::string text = std::string(Sign(trigger.leave->comparison)) + " ";
  text += FormatValue(trigger.leave->threshold, trigger.unit);
  if (trigger.leave->window > Duration::zero()) text += " (" + FormatDuration(trigger.leave->window) + ")";
  return text;
}

std::string DescribeCalm(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories) {
  std::string text;
  for (const Trigger& trigger : tier.triggers) {
    auto found = memories.find({tier.name, trigger.name});
    if (!trigger.leave.has_value() || found == memories.end() || !found->second.leave_since.has_value()) continue;
    const TriggerMemory& memory = found->second;
    if (!text.empty()) text += ", ";
    text += trigger.name;
    if (memory.observed.has_value()) text += " " + FormatValue(*memory.observed, trigger.unit);
    text += " " + std::string(Sign(trigger.leave->comparison)) + " ";
    text += FormatValue(trigger.leave->threshold, trigger.unit) + " since " + FormatClockTime(*memory.leave_since);
    if (trigger.leave->window > Duration::zero()) text += " (" + FormatDuration(trigger.leave->window) + ")";
  }
  return text;
}

std::string DescribeLeaving(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories) {
  std::string text;
  std::string unknown;
  for (const Trigger& trigger : tier.triggers) {
    auto found = memories.find({tier.name, trigger.name});
    if (found == memories.end()) continue;
    const TriggerMemory& memory = found->second;
    if (IsMissing(memory)) unknown += "; " + trigger.name + " is unknown (" + memory.unknown_reason + ")";
    if (!trigger.leave.has_value()) continue;
    text += (text.empty() ? "leaves when " : " and ") + trigger.name + " " + DescribeLeave(trigger);
    // No time that is left: it would rewrite the status for as long as the window takes, and that may be days.
    if (memory.leave_since.has_value()) {
      text += ", which holds since " + FormatClockTime(*memory.leave_since);
    } else if (memory.observed.has_value()) {
      text += ", now " + FormatValue(*memory.observed, trigger.unit);
    }
  }
  return text.empty() ? "" : text + unknown;
}

std::string DescribeWaiting(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories, WallTime now) {
  std::string text;
  if (auto nearest = NearestTrigger(tier, memories)) {
    const Trigger& trigger = *nearest->trigger;
    const TriggerMemory& memory = *nearest->memory;
    if (memory.breached_since.has_value()) {
      auto left = trigger.window - (now - *memory.breached_since);
      text = DescribeBreach(trigger, memory);
      if (left > Duration::zero()) {
        text += ", fires in " + FormatDuration(std::chrono::ceil<std::chrono::seconds>(left)) + " if it holds";
      }
    } else {
      text = "closest: " + trigger.name + " " + FormatValue(*memory.observed, trigger.unit) + " of " +
             FormatValue(trigger.threshold, trigger.unit) + WindowInWords(trigger);
    }
  }
  for (const Trigger& trigger : tier.triggers) {
    auto found = memories.find({tier.name, trigger.name});
    if (found == memories.end() || !IsMissing(found->second)) continue;
    text += (text.empty() ? "" : "; ") + trigger.name + " is unknown (" + found->second.unknown_reason + ")";
  }
  return text.empty() ? "waiting for a demand" : text;
}

}  // namespace pgtier::core
