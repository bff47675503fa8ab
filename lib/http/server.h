// A small HTTP server for the process' own pages: /metrics, /healthz, /readyz.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "lib/base/result.h"
#include "lib/http/transport.h"

namespace pgtier::http {

// Answers a GET of one path. Runs on the server's one thread, so it must not block; an empty content type means
// text/plain.
using Handler = std::function<Response()>;

class Server {
 public:
  // Listens on `address` and `port`, 0 for any free one. The address "::" is all of IPv6 and IPv4, or all of IPv4 on a
  // machine without the other. `handlers` by exact path; other paths get 404, other methods 405. Each connection is
  // closed after its answer. Errors: kUnavailable: the address can not be bound; kInvalidArgument: no address.
  static Result<std::unique_ptr<Server>> Start(const std::string& address, uint16_t port,
                                               std::map<std::string, Handler> handlers);
  // Stops listening; answers under way are cut off.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] uint16_t port() const;

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgtier::http
