#include "tests/integration/operator/slow_proxy.h"

#include <poll.h>

#include <array>

namespace pgtier::test {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLook{10};

bool SendAll(int to, const char* bytes, size_t size) {
  while (size > 0) {
    ssize_t sent = send(to, bytes, size, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

}  // namespace

SlowProxy::SlowProxy(uint16_t target) : target_(target), acceptor_([this] { Accept(); }) {}

SlowProxy::~SlowProxy() {
  stopping_ = true;
  listener_.Stop();
  acceptor_.join();
  for (std::thread& session : sessions_) session.join();
}

void SlowProxy::Accept() {
  while (!stopping_) {
    int client = listener_.Accept();
    if (client < 0) continue;
    sessions_.emplace_back([this, client] { Serve(client); });
  }
}

void SlowProxy::Serve(int client) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(target_);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(server, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    std::thread back([&] { Forward(server, client, true); });
    Forward(client, server, false);
    back.join();
  }
  close(server);
  close(client);
}

bool SlowProxy::Wait(milliseconds time) const {
  for (auto end = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < end || still_;) {
    if (stopping_) return false;
    std::this_thread::sleep_for(kLook);
  }
  return !stopping_;
}

void SlowProxy::Forward(int from, int to, bool delayed) {
  std::array<char, 65536> bytes{};
  while (true) {
    pollfd readable{from, POLLIN, 0};
    if (poll(&readable, 1, static_cast<int>(kLook.count())) <= 0) {
      if (stopping_) break;
      continue;
    }
    ssize_t count = recv(from, bytes.data(), bytes.size(), 0);
    if (count <= 0) break;
    if (!Wait(milliseconds(delayed ? delay_ms_.load() : 0))) break;
    if (!SendAll(to, bytes.data(), static_cast<size_t>(count))) break;
  }
  // The other direction ends too.
  shutdown(from, SHUT_RDWR);
  shutdown(to, SHUT_RDWR);
}

}  // namespace pgtier::test
