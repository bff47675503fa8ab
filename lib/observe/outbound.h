// GET requests to hosts that policies name: only to those that are allowed, by their address as well, without
// redirects, and with nothing of the answer in an error.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "lib/http/client.h"
#include "lib/observe/allowed_hosts.h"

namespace pgtier::observe {

// Whom to ask, and as whom.
struct Peer {
  std::string url;     // http://host[:port][/prefix]
  std::string token;   // Bearer token, or empty.
  std::string ca_pem;  // Empty: the system's CAs.
};

// Thread-safe; keeps one client per server.
class Outbound {
 public:
  explicit Outbound(AllowedHosts allowed) : allowed_(std::move(allowed)) {}

  // GET of the peer's URL with `suffix` after it ("/api/v1/query?…"). A status above 200 is an answer. Errors begin
  // with the reason of a reading; `unreachable` is the one for a server that cannot be reached
  // ("PrometheusUnreachable").
  Result<http::Response> Get(const Peer& peer, const std::string& suffix, const char* unreachable, Deadline deadline,
                             const std::stop_token& stop);

 private:
  Result<std::shared_ptr<http::Client>> ClientFor(const std::string& base_url, const std::string& ca_pem);

  AllowedHosts allowed_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<http::Client>> clients_;  // by base URL and CA
};

}  // namespace pgtier::observe
