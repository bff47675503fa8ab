#include "tests/integration/postgres/fake_service.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <map>
#include <vector>

namespace pgtier::testing {
namespace {

sockaddr_in AddressOf(const std::string& address, int port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, address.c_str(), &in.sin_addr);
  return in;
}

int NewSocket() {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

int Listen(const std::string& address, int port) {
  int fd = NewSocket();
  sockaddr_in in = AddressOf(address, port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&in), sizeof in) == 0 && listen(fd, 128) == 0) return fd;
  close(fd);
  return -1;
}

// Passes on what there is; false when the connection has ended.
bool PassOn(int from, int to) {
  std::array<char, 65536> buffer{};
  ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
  if (got <= 0) return false;
  return send(to, buffer.data(), static_cast<size_t>(got), MSG_NOSIGNAL) == got;
}

}  // namespace

FakeService::FakeService(std::string address, std::string target, int port, std::chrono::milliseconds period,
                         std::function<bool()> ready)
    : address_(std::move(address)), target_(std::move(target)), port_(port), period_(period), ready_(std::move(ready)) {
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

FakeService::~FakeService() = default;

void FakeService::Run(const std::stop_token& stop) {
  int listener = -1;
  std::map<int, int> peers;
  auto end = [&](int fd) {
    int other = peers[fd];
    peers.erase(fd);
    peers.erase(other);
    close(fd);
    close(other);
  };
  auto accept_one = [&] {
    int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) return;
    int on = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int server = NewSocket();
    sockaddr_in in = AddressOf(target_, port_);
    if (connect(server, reinterpret_cast<sockaddr*>(&in), sizeof in) != 0) {
      close(client);
      close(server);
      return;
    }
    peers[client] = server;
    peers[server] = client;
  };
  auto next_look = std::chrono::steady_clock::now();
  while (!stop.stop_requested()) {
    if (std::chrono::steady_clock::now() >= next_look) {
      next_look += period_;
      bool ready = ready_();
      if (ready && listener < 0) listener = Listen(address_, port_);
      if (!ready && listener >= 0) {
        close(listener);
        listener = -1;
      }
      taking_ = listener >= 0;
    }
    std::vector<pollfd> polled;
    if (listener >= 0) polled.push_back({listener, POLLIN, 0});
    for (const auto& [fd, peer] : peers) polled.push_back({fd, POLLIN, 0});
    if (poll(polled.data(), polled.size(), 20) <= 0) continue;
    for (const pollfd& each : polled) {
      if (each.revents == 0) continue;
      if (each.fd == listener) {
        accept_one();
      } else if (peers.contains(each.fd) && !PassOn(each.fd, peers[each.fd])) {
        end(each.fd);
      }
    }
  }
  while (!peers.empty()) end(peers.begin()->first);
  if (listener >= 0) close(listener);
}

}  // namespace pgtier::testing
