// A listening socket on a free port of 127.0.0.1, for servers of tests.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>

namespace pgtier::fake {

class LoopbackListener {
 public:
  LoopbackListener() : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    constexpr int kBacklog = 64;
    if (descriptor_ < 0 || bind(descriptor_, generic, length) != 0 || listen(descriptor_, kBacklog) != 0 ||
        getsockname(descriptor_, generic, &length) != 0) {
      throw std::runtime_error("no port of 127.0.0.1 to listen on");
    }
    port_ = ntohs(address.sin_port);
  }
  ~LoopbackListener() { close(descriptor_); }
  LoopbackListener(const LoopbackListener&) = delete;
  LoopbackListener& operator=(const LoopbackListener&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  // The next connection; below 0: none, or Stop was called.
  [[nodiscard]] int Accept() const { return accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC); }
  // Accept fails from now on, also where it waits in another thread.
  void Stop() const { shutdown(descriptor_, SHUT_RDWR); }

 private:
  const int descriptor_;
  uint16_t port_ = 0;
};

}  // namespace pgtier::fake
