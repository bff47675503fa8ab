#include "lib/base/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace pgtier {
namespace {

struct Suffix {
  std::string_view name;
  double factor;
};

constexpr double kKi = 1024.0;
constexpr std::array<Suffix, 11> kSuffixes = {{{"", 1},
                                               {"k", 1e3},
                                               {"M", 1e6},
                                               {"G", 1e9},
                                               {"T", 1e12},
                                               {"P", 1e15},
                                               {"Ki", kKi},
                                               {"Mi", kKi* kKi},
                                               {"Gi", kKi* kKi* kKi},
                                               {"Ti", kKi* kKi* kKi* kKi},
                                               {"Pi", kKi* kKi* kKi* kKi* kKi}}};

std::string Trimmed(double value, int decimals) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  std::string result = text.data();
  if (result.find('.') == std::string::npos) return result;
  result.erase(result.find_last_not_of('0') + 1);
  if (result.back() == '.') result.pop_back();
  return result;
}

}  // namespace

Result<double> ParseQuantity(std::string_view text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc{} && std::isfinite(value)) {
    for (const Suffix& candidate : kSuffixes) {
      if (candidate.name == suffix) return value * candidate.factor;
    }
  }
  return MakeError(Code::kInvalidArgument, "not a number such as 4, 0.05 or 100Gi: \"" + std::string(text) + "\"");
}

Result<double> ParseResourceQuantity(std::string_view text) {
  Result<double> plain = ParseQuantity(text);
  if (plain.has_value()) return plain;
  constexpr std::array<Suffix, 5> kMore = {
      {{"m", 1e-3}, {"u", 1e-6}, {"n", 1e-9}, {"E", 1e18}, {"Ei", kKi * kKi * kKi * kKi * kKi * kKi}}};
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc{} && std::isfinite(value)) {
    if (suffix.empty()) return value;
    for (const Suffix& candidate : kMore) {
      if (candidate.name == suffix) return value * candidate.factor;
    }
  }
  return plain;
}

std::string FormatNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  double magnitude = std::fabs(value);
  if (magnitude >= 1e15) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.4g", value);
    return text.data();
  }
  int decimals = 3;
  if (magnitude > 0 && magnitude < 1) {
    decimals = std::min(12, 3 + static_cast<int>(-std::floor(std::log10(magnitude))) - 1);
  } else if (magnitude >= 1000) {
    decimals = 0;
  } else if (magnitude >= 100) {
    decimals = 1;
  } else if (magnitude >= 10) {
    decimals = 2;
  }
  return Trimmed(value, decimals);
}

std::string FormatBytes(double value) {
  constexpr std::array<std::string_view, 6> kNames = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
  size_t index = 0;
  while (std::fabs(value) >= kKi && index + 1 < kNames.size()) {
    value /= kKi;
    ++index;
  }
  return Trimmed(value, 1) + std::string(kNames[index]);
}

}  // namespace pgtier
