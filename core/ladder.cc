#include "core/ladder.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace pgtier::core {

Result<MaintenanceWindow> ParseMaintenanceWindow(const std::string& text) {
  constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  MaintenanceWindow window;
  std::string clock = text;
  if (size_t space = text.find(' '); space == 3 || space == 5) {
    std::string_view day = std::string_view(text).substr(0, space);
    auto found = std::find(kDays.begin(), kDays.end(), day);
    if (found != kDays.end()) window.weekday = static_cast<unsigned>(found - kDays.begin());
    if (found == kDays.end() && day != "Daily") clock.clear();
    if (!clock.empty()) clock = text.substr(space + 1);
  }
  int from_hour = 0;
  int from_minute = 0;
  int to_hour = 0;
  int to_minute = 0;
  int used = 0;
  if (std::sscanf(clock.c_str(), "%2d:%2d-%2d:%2d UTC%n", &from_hour, &from_minute, &to_hour, &to_minute, &used) != 4 ||
      static_cast<size_t>(used) != clock.size() || from_hour > 23 || to_hour > 24 || from_minute > 59 ||
      to_minute > 59) {
    return MakeError(Code::kInvalidArgument, "not a window such as \"Sat 02:00-05:00 UTC\": \"" + text + "\"");
  }
  window.begin = std::chrono::hours(from_hour) + std::chrono::minutes(from_minute);
  window.end = std::chrono::hours(to_hour) + std::chrono::minutes(to_minute);
  return window;
}

bool IsOpen(const MaintenanceWindow& window, WallTime now) {
  auto today = std::chrono::floor<std::chrono::days>(now);
  auto length = window.end - window.begin;
  if (length < std::chrono::minutes(0)) length += std::chrono::days(1);
  // A span over midnight may have begun yesterday.
  for (auto day : {today, today - std::chrono::days(1)}) {
    if (window.weekday.has_value() && std::chrono::weekday(day).c_encoding() != *window.weekday) continue;
    if (now >= day + window.begin && now < day + window.begin + length) return true;
  }
  return false;
}

std::optional<size_t> FindTier(const Ladder& ladder, const std::string& name) {
  for (size_t i = 0; i < ladder.tiers.size(); ++i) {
    if (ladder.tiers[i].name == name) return i;
  }
  return std::nullopt;
}

std::optional<Nearest> NearestTrigger(const Tier& tier, const std::map<TriggerKey, TriggerMemory>& memories) {
  std::optional<Nearest> nearest;
  double best = -1;
  for (const Trigger& trigger : tier.triggers) {
    auto found = memories.find({tier.name, trigger.name});
    if (found == memories.end()) continue;
    std::optional<double> closeness = Closeness(trigger, found->second);
    if (!closeness.has_value() || *closeness <= best) continue;
    best = *closeness;
    nearest = Nearest{&trigger, &found->second};
  }
  return nearest;
}

}  // namespace pgtier::core
