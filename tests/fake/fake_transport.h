// A transport without a network: requests go to functions of the test.
#pragma once

#include <functional>
#include <utility>

#include "lib/http/transport.h"

namespace pgtier::fake {

class FakeTransport final : public http::Transport {
 public:
  using OnSend = std::function<Result<http::Response>(const http::Request& request)>;
  using OnStream =
      std::function<Status(const http::Request& request, const http::OnData& on_data, const std::stop_token& stop)>;

  explicit FakeTransport(OnSend on_send, OnStream on_stream = {})
      : on_send_(std::move(on_send)), on_stream_(std::move(on_stream)) {}

  Result<http::Response> Send(const http::Request& request, Deadline, const std::stop_token&) override {
    return on_send_(request);
  }
  Status Stream(const http::Request& request, Deadline, Duration, const http::OnData& on_data,
                const std::stop_token& stop) override {
    return on_stream_(request, on_data, stop);
  }

 private:
  const OnSend on_send_;
  const OnStream on_stream_;
};

}  // namespace pgtier::fake
