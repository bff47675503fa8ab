// The part of JSONPath (RFC 9535) that names one value: names and indexes, no wildcards, slices, filters or
// descendants.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

#include "lib/base/result.h"

namespace pgtier::observe {

class JsonPath {
 public:
  // Reads "$.data[0].p99", "$['a b'][-1]". Errors: kInvalidArgument: what is wrong, and at which character from 1.
  static Result<JsonPath> Parse(const std::string& text);

  // The value, or nullptr where there is none. Lives as long as `document`.
  [[nodiscard]] const nlohmann::json* Find(const nlohmann::json& document) const;

 private:
  std::vector<std::variant<std::string, int64_t>> steps_;
};

}  // namespace pgtier::observe
