// Which hosts the operator may ask for numbers. Whoever may write policies must not be able to make it send a token,
// or any request at all, wherever they like.
#pragma once

#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::observe {

class AllowedHosts {
 public:
  // Patterns of hosts; `*` stands for any characters: "prometheus.monitoring.svc", "*.monitoring". An empty list
  // allows none. `refused` are addresses that no name may lead to, beside those that Resolve refuses by itself.
  explicit AllowedHosts(std::vector<std::string> patterns, std::vector<std::string> refused = {})
      : patterns_(std::move(patterns)), refused_(std::move(refused)) {}

  // Whether the host of `url` (http:// or https://) is allowed. Errors: kPermissionDenied, kInvalidArgument.
  [[nodiscard]] Status Check(const std::string& url) const;

  // The address to connect to for `url`, checked after the name was resolved: loopback, link-local (where clouds keep
  // their credentials), unspecified and multicast addresses and those of the constructor are refused. An address that
  // stands in the list literally is what its administrator wants, and is taken. Errors begin with the reason of a
  // reading: "HostNotAllowed: …", "BadUrl: …", "HostNotFound: …", "AddressRefused: …".
  [[nodiscard]] Result<std::string> Resolve(const std::string& url, Deadline deadline) const;

 private:
  std::vector<std::string> patterns_;
  std::vector<std::string> refused_;
};

// The host of a URL, lower case, without user, port and brackets. Errors: kInvalidArgument.
Result<std::string> HostOf(const std::string& url);

// Whether nothing may be asked at that address (as text), wherever it was found.
bool IsRefusedAddress(const std::string& address);

// Every address of a host, as text; what is an address is its own. Errors: kNotFound, kDeadlineExceeded.
Result<std::vector<std::string>> AddressesOf(const std::string& host, Deadline deadline);

}  // namespace pgtier::observe
