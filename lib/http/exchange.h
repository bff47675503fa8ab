// One request and its answer on cpprestsdk, seen from the one thread that waits for it. Private to lib/http.
//
// The library runs everything on a pool of I/O threads that must never block, or all timeouts stop with it. So the
// pool only fills an Exchange, and the caller's thread, which is ours, does all the waiting, by its own deadlines.
// That one rule takes the place of several workarounds:
//  - The library's timeout means "per piece" for connect, headers and body alike, and kills quiet watches: it is set
//    out of the way; deadlines, idle limits and stop tokens are waited for here, and end the exchange by a cancel.
//  - Its own response buffer grows without bound: ours asks for no more data above a high-water mark.
//  - Pieces of a body can arrive before the status is known: they wait here until it is.
//  - An exception nobody looks at ends the process: each task's outcome is caught in Begin.
#pragma once

#include <cpprest/http_client.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/http/transport.h"

namespace pgtier::http {

class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  // Starts `request`; never throws. `Abandon` must follow, unless Next has reported the end.
  static std::shared_ptr<Exchange> Begin(web::http::client::http_client& client, web::http::http_request request);

  // Waits for status and headers. The body of the result is empty. Errors: kUnavailable, kDeadlineExceeded, kCancelled.
  Result<Response> Headers(Deadline deadline, const std::stop_token& stop);

  // Waits for the next piece of the body, into `piece`. False: the body ended properly. Errors as Headers.
  Result<bool> Next(std::string& piece, Deadline deadline, const std::stop_token& stop);

  // Breaks off: closes the connection, unless the exchange is over.
  void Abandon();

  // --- The library's side, on its pool.

  // Takes a piece of the body. The task ends when there is room for the next; it fails when nobody waits any more.
  pplx::task<size_t> Write(const uint8_t* data, size_t count);

 private:
  // The part of a piece that was taken in above the high-water mark and not yet acknowledged.
  struct Unacknowledged {
    pplx::task_completion_event<size_t> event;
    size_t count = 0;
  };

  void OnHeaders(const pplx::task<web::http::http_response>& task);
  void OnBody(const pplx::task<web::http::http_response>& task);
  // Waits until `ready`; kDeadlineExceeded or kCancelled when it is not in time.
  template <typename Ready>
  Status WaitLocked(std::unique_lock<std::mutex>& lock, const char* for_what, Deadline deadline,
                    const std::stop_token& stop, Ready ready);

  pplx::cancellation_token_source cancel_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::optional<Response> head_;
  std::optional<Error> failure_;
  bool done_ = false;
  bool abandoned_ = false;
  std::string buffered_;
  std::optional<Unacknowledged> waiting_;
};

}  // namespace pgtier::http
