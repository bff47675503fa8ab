// What an HTTP exchange is, apart from who carries it: tests put a fake behind this, production http::Client.
#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::http {

struct Request {
  std::string method = "GET";
  // Percent-encoded, begins with a slash; comes after the path of the base URL.
  std::string path_and_query = "/";
  std::string body;
  std::string content_type;
  std::string accept;
  std::vector<std::pair<std::string, std::string>> headers;
  // Whether a second arrival does no harm. GET, HEAD, PUT and DELETE always count as such. A request that is not is
  // never sent twice: when a kept connection turns out closed, it fails with kUnavailable instead.
  bool idempotent = false;
};

// Whether the request may be sent twice, by its method or its own word.
bool MayRepeat(const Request& request);

struct Response {
  int status = 0;
  std::string body;
  std::string content_type;
  // Of a Retry-After header in seconds; dates are not understood (Kubernetes sends seconds).
  std::optional<Duration> retry_after;
};

// Gets the response so far (status and headers; its body is empty) and the next piece of the body. The first call
// comes as soon as the headers are there, with an empty piece. An error ends the exchange and becomes its outcome.
// Called on the thread that called Stream.
using OnData = std::function<Status(const Response& head, std::string_view chunk)>;

// Thread-safe. Never throws. A status of 400 and above is an answer, not an error.
// Errors: kUnavailable (no connection, broken off, TLS refused), kDeadlineExceeded, kCancelled (stop requested),
// kResourceExhausted (body above the bound), kInvalidArgument (a request that can't be written).
class Transport {
 public:
  virtual ~Transport() = default;

  // One exchange; the whole body in memory, within the client's bound.
  [[nodiscard]] virtual Result<Response> Send(const Request& request, Deadline deadline,
                                              const std::stop_token& stop) = 0;

  // An exchange whose body may last for hours. The headers must be there by `headers_deadline`; then each piece must
  // follow the one before within `idle_limit`. Returns without error when the server ends the body properly.
  [[nodiscard]] virtual Status Stream(const Request& request, Deadline headers_deadline, Duration idle_limit,
                                      const OnData& on_data, const std::stop_token& stop) = 0;
};

}  // namespace pgtier::http
