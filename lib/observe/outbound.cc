#include "lib/observe/outbound.h"

#include <algorithm>

namespace pgtier::observe {
namespace {

// Answers are one number; what is longer is none.
constexpr size_t kMaxBody = size_t{1} << 20;
// A client holds connections and a TLS context; addresses and CAs change in the long run.
constexpr size_t kMaxClients = 64;

struct Parts {
  std::string scheme;     // "http://"
  std::string authority;  // "host:9090"
  std::string path;       // "/prefix?x=y", or empty; without a fragment.
};

// Of a URL that HostOf takes.
Parts Split(const std::string& url) {
  size_t host = url.find("://") + 3;
  size_t path = std::min(url.find_first_of("/?#", host), url.size());
  size_t end = std::min(url.find('#', host), url.size());
  return {url.substr(0, host), url.substr(host, path - host), url.substr(path, end - path)};
}

}  // namespace

Result<std::shared_ptr<http::Client>> Outbound::ClientFor(const std::string& base_url, const std::string& ca_pem) {
  std::lock_guard lock(mutex_);
  if (clients_.size() > kMaxClients) clients_.clear();
  std::shared_ptr<http::Client>& client = clients_[{base_url, ca_pem}];
  if (client != nullptr) return client;
  http::ClientOptions options;
  options.base_url = base_url;
  options.tls.ca_pem = ca_pem;
  options.max_body_bytes = kMaxBody;
  Result<std::unique_ptr<http::Client>> made = http::Client::Create(std::move(options));
  if (!made.has_value()) {
    clients_.erase({base_url, ca_pem});
    return made.error();
  }
  client = *std::move(made);
  return client;
}

Result<http::Response> Outbound::Get(const Peer& peer, const std::string& suffix, const char* unreachable,
                                     Deadline deadline, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(std::string address, allowed_.Resolve(peer.url, deadline));
  Parts parts = Split(peer.url);
  http::Request request;
  request.accept = "application/json";
  request.path_and_query = parts.path + suffix;
  if (request.path_and_query.empty() || request.path_and_query.front() != '/') request.path_and_query.insert(0, "/");
  if (!peer.token.empty()) request.headers.emplace_back("Authorization", "Bearer " + peer.token);
  std::string base = parts.scheme + parts.authority;
  // A name that resolves to something else a moment later must not lead past the check. With TLS the certificate is of
  // the name; without, the connection goes to the address that was checked.
  if (parts.scheme == "http://" && address.find(':') == std::string::npos) {
    size_t colon = parts.authority.rfind(':');
    base = parts.scheme + address + (colon == std::string::npos ? "" : parts.authority.substr(colon));
    request.headers.emplace_back("Host", parts.authority);
  }
  Result<std::shared_ptr<http::Client>> client = ClientFor(base, peer.ca_pem);
  if (!client.has_value()) {
    bool ca = client.error().message.starts_with("CA certificate");
    return MakeError(client.error().code, (ca ? "BadCa: " : "BadUrl: ") + client.error().message);
  }
  Result<http::Response> response = (*client)->Send(request, deadline, stop);
  if (response.has_value()) return response;
  std::string reason = response.error().code == Code::kInvalidArgument ? "BadUrl" : unreachable;
  return MakeError(response.error().code, reason + ": " + response.error().message);
}

}  // namespace pgtier::observe
