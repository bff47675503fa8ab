// Which hosts the operator may ask for numbers. Whoever may write policies must not be able to make it send a token,
// or any request at all, wherever they like.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"

namespace pgtier::observe {

class AllowedHosts {
 public:
  // Patterns of hosts; `*` stands for any characters: "prometheus.monitoring.svc", "*.monitoring". An empty list
  // allows none.
  explicit AllowedHosts(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}

  // Whether the host of `url` (http:// or https://) is allowed. Errors: kPermissionDenied, kInvalidArgument.
  [[nodiscard]] Status Check(const std::string& url) const;

 private:
  std::vector<std::string> patterns_;
};

// The host of a URL, lower case, without user, port and brackets. Errors: kInvalidArgument.
Result<std::string> HostOf(const std::string& url);

}  // namespace pgtier::observe
