#include "lib/observe/allowed_hosts.h"

#include <fnmatch.h>

#include <algorithm>
#include <cctype>

namespace pgtier::observe {

Result<std::string> HostOf(const std::string& url) {
  auto bad = [&] { return MakeError(Code::kInvalidArgument, "not an http or https URL: " + url); };
  size_t scheme = url.find("://");
  if (scheme == std::string::npos) return bad();
  if (std::string name = url.substr(0, scheme); name != "http" && name != "https") return bad();
  std::string authority = url.substr(scheme + 3, url.find_first_of("/?#", scheme + 3) - scheme - 3);
  // Credentials in a URL end up in logs; and what stands before an @ disguises the host.
  if (authority.find('@') != std::string::npos) return MakeError(Code::kInvalidArgument, "a URL must name no user");
  std::string host;
  if (authority.starts_with('[')) {
    size_t end = authority.find(']');
    if (end == std::string::npos) return bad();
    host = authority.substr(1, end - 1);
  } else {
    host = authority.substr(0, authority.find(':'));
  }
  if (host.empty()) return bad();
  std::transform(host.begin(), host.end(), host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return host;
}

Status AllowedHosts::Check(const std::string& url) const {
  PGTIER_ASSIGN_OR_RETURN(std::string host, HostOf(url));
  for (const std::string& pattern : patterns_) {
    if (fnmatch(pattern.c_str(), host.c_str(), 0) == 0) return {};
  }
  return MakeError(Code::kPermissionDenied, "host " + host + " is not in the operator's --allow-hosts");
}

}  // namespace pgtier::observe
