#include "lib/postgres/lsn.h"

#include <array>
#include <charconv>
#include <cstdio>

namespace pgtier::postgres {
namespace {

bool ParseHalf(std::string_view text, uint32_t& value) {
  if (text.empty() || text.size() > 8) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<Lsn> Lsn::Parse(std::string_view text) {
  size_t slash = text.find('/');
  uint32_t high = 0;
  uint32_t low = 0;
  if (slash == std::string_view::npos || !ParseHalf(text.substr(0, slash), high) ||
      !ParseHalf(text.substr(slash + 1), low)) {
    return MakeError(Code::kInvalidArgument, "not a pg_lsn: " + std::string(text.substr(0, 40)));
  }
  return Lsn{(uint64_t{high} << 32U) | low};
}

std::string Lsn::ToString() const {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "%X/%X", static_cast<unsigned>(value >> 32U),
                static_cast<unsigned>(value & 0xFFFFFFFFU));
  return text.data();
}

}  // namespace pgtier::postgres
