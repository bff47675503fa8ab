// The HTTP client: HTTP/1.1 with TLS through cpprestsdk, which stays behind this header.
// What is worked around, and why, stands in exchange.h.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "lib/http/transport.h"

namespace pgtier::http {

// Starts the pool of I/O threads. Call first in main(); later calls do nothing. Without it the library starts 40
// threads at first use.
void InitialiseThreads();

// The peer is always verified, by name and chain; there is no switch to turn that off.
struct TlsOptions {
  // CAs that are trusted, and no others. Empty: the system's.
  std::string ca_pem;
  // The client's own certificate (chain) and key; both or none.
  std::string client_cert_pem;
  std::string client_key_pem;
  // What the server's certificate must name, where that is not the URL's host. It is then also the request's Host: the
  // library takes the name from there.
  std::string server_name;
};

struct ClientOptions {
  // https://host[:port][/prefix], or http:// for a peer that speaks plain text.
  std::string base_url;
  TlsOptions tls;
  // The longest body that Send takes.
  size_t max_body_bytes = size_t{64} << 20;
  std::string user_agent = "pgtier";
  // Asked before each request for the token of `Authorization: Bearer`; empty answer: no header. Thread-safe.
  std::function<std::string()> bearer_token;
};

// A pool of connections to one server. Thread-safe; every method blocks the calling thread, which must not be one of
// the I/O pool's (a server's handler). Redirects are not followed: they would carry the token elsewhere.
class Client final : public Transport {
 public:
  // Errors: kInvalidArgument: a URL, certificate or key that can't be read. Does not connect.
  static Result<std::unique_ptr<Client>> Create(ClientOptions options);
  ~Client() override;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // For connections made from now on: a CA or certificate that was rotated. On error the old ones stay.
  [[nodiscard]] Status ReplaceTls(const TlsOptions& tls);

  [[nodiscard]] Result<Response> Send(const Request& request, Deadline deadline, const std::stop_token& stop) override;
  [[nodiscard]] Status Stream(const Request& request, Deadline headers_deadline, Duration idle_limit,
                              const OnData& on_data, const std::stop_token& stop) override;

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pgtier::http
