// Kubernetes quantities without the milli suffix, as thresholds are written: 4, 0.05, 100Gi, 1.5M.
#pragma once

#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier {

// The number that a quantity stands for: "100Gi" is 107374182400. Suffixes: k M G T P Ki Mi Gi Ti Pi.
// `m` is refused: beside `for: 10m` a reader takes it for minutes.
Result<double> ParseQuantity(std::string_view text);

// Any quantity that Kubernetes takes, also "500m", "1e3" and "1E": for comparing what a person wrote with what the
// apiserver made of it.
Result<double> ParseResourceQuantity(std::string_view text);

// A number for people: at most four significant digits, no exponent below 1e15: "0.031", "87.5", "1200000".
std::string FormatNumber(double value);
// Bytes for people with a binary suffix: "12.5Gi".
std::string FormatBytes(double value);

}  // namespace pgtier
