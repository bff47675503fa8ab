// A position in the write-ahead log, as pg_lsn.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier::postgres {

struct Lsn {
  uint64_t value = 0;  // bytes since the log's beginning; 0 is none

  // Reads "16/B374D848". Errors: kInvalidArgument.
  static Result<Lsn> Parse(std::string_view text);
  [[nodiscard]] std::string ToString() const;
  auto operator<=>(const Lsn&) const = default;  // NOLINT(modernize-use-nullptr): misread by clang-tidy 14
};

// Bytes from `behind` up to `ahead`; 0 when it is not behind.
inline uint64_t BytesBehind(Lsn behind, Lsn ahead) { return ahead > behind ? ahead.value - behind.value : 0; }

}  // namespace pgtier::postgres
