#include "lib/base/time_format.h"

#include <array>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <limits>

namespace pgtier {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::seconds;

std::tm ToUtc(WallTime time) {
  std::time_t whole = std::chrono::system_clock::to_time_t(std::chrono::floor<seconds>(time));
  std::tm utc{};
  gmtime_r(&whole, &utc);
  return utc;
}

struct Unit {
  std::string_view name;
  int64_t nanoseconds;
};

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMillisecond;
// Longest names first where one is the beginning of another ("ms" before "m").
constexpr std::array<Unit, 6> kUnits = {{{"ms", kMillisecond},
                                         {"w", 7 * 86'400 * kSecond},
                                         {"d", 86'400 * kSecond},
                                         {"h", 3'600 * kSecond},
                                         {"m", 60 * kSecond},
                                         {"s", kSecond}}};

}  // namespace

std::string FormatTime(WallTime time) {
  std::tm utc = ToUtc(time);
  std::array<char, 32> text{};
  size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return {text.data(), length};
}

std::string FormatMicroTime(WallTime time) {
  std::tm utc = ToUtc(time);
  std::array<char, 32> text{};
  size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  auto fraction = duration_cast<microseconds>(time - std::chrono::floor<seconds>(time)).count();
  std::array<char, 16> tail{};
  int tail_length = std::snprintf(tail.data(), tail.size(), ".%06ldZ", static_cast<long>(fraction));
  return std::string(text.data(), length) + std::string(tail.data(), static_cast<size_t>(tail_length));
}

std::string FormatClockTime(WallTime time) { return FormatTime(time).substr(11); }

Result<WallTime> ParseTime(std::string_view text) {
  auto bad = [&] { return MakeError(Code::kInvalidArgument, "not an RFC 3339 time: \"" + std::string(text) + "\""); };
  std::string copy(text);
  std::tm utc{};
  const char* rest = strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &utc);
  if (rest == nullptr) return bad();
  // Nanoseconds in 64 bits reach from 1678 to 2262; an offset and a fraction stay within with a year to spare.
  constexpr int kTmBase = 1900;
  if (utc.tm_year < 1679 - kTmBase || utc.tm_year > 2261 - kTmBase) return bad();
  WallTime time = std::chrono::system_clock::from_time_t(timegm(&utc));
  if (*rest == '.') {
    ++rest;
    int64_t scale = 100'000'000;
    int64_t fraction = 0;
    for (; std::isdigit(static_cast<unsigned char>(*rest)) != 0; ++rest, scale /= 10) fraction += (*rest - '0') * scale;
    time += duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(fraction));
  }
  if (std::string_view(rest) == "Z" || std::string_view(rest) == "z") return time;
  if (std::string_view(rest).size() == 6 && (*rest == '+' || *rest == '-') && rest[3] == ':') {
    int hours = 0;
    int minutes = 0;
    if (std::from_chars(rest + 1, rest + 3, hours).ptr != rest + 3) return bad();
    if (std::from_chars(rest + 4, rest + 6, minutes).ptr != rest + 6) return bad();
    auto offset = std::chrono::hours(hours) + std::chrono::minutes(minutes);
    return *rest == '+' ? time - offset : time + offset;
  }
  return bad();
}

Result<Duration> ParseDuration(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return MakeError(Code::kInvalidArgument,
                     "not a duration such as 300ms, 10m or 1h30m: \"" + std::string(text) + "\"" + std::string(why));
  };
  if (text.empty()) return bad("");
  int64_t total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    int64_t count = 0;
    auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), count);
    if (error != std::errc{} || count < 0 || rest.front() == '-') return bad("");
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (rest.starts_with(candidate.name)) {
        unit = &candidate;
        break;
      }
    }
    if (unit == nullptr) return bad("");
    rest.remove_prefix(unit->name.size());
    if (count > (std::numeric_limits<int64_t>::max() - total) / unit->nanoseconds) return bad(" (too long)");
    total += count * unit->nanoseconds;
  }
  return Duration(total);
}

std::string FormatDuration(Duration duration) {
  int64_t left = duration.count();
  std::string text = left < 0 ? "-" : "";
  if (left < 0) left = -left;
  bool any = false;
  // Weeks are read but not written: "14d" says more than "2w".
  for (const Unit& unit : {kUnits[2], kUnits[3], kUnits[4], kUnits[5], kUnits[0]}) {
    int64_t count = left / unit.nanoseconds;
    if (count == 0) continue;
    text += std::to_string(count) + std::string(unit.name);
    left -= count * unit.nanoseconds;
    any = true;
  }
  return any ? text : "0s";
}

}  // namespace pgtier
