#include "tests/integration/postgres/fault_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <vector>

namespace pgtier::testing {
namespace {

constexpr size_t kMostPending = size_t{256} << 10U;

sockaddr_in Loopback(int port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(static_cast<uint16_t>(port));
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return in;
}

void Unblock(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

}  // namespace

FaultProxy::FaultProxy(int target) : target_(target) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in in = Loopback(0);
  socklen_t size = sizeof in;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&in), size) == 0 && listen(listener_, 128) == 0 &&
      getsockname(listener_, reinterpret_cast<sockaddr*>(&in), &size) == 0) {
    port_ = ntohs(in.sin_port);
  }
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

FaultProxy::~FaultProxy() {
  thread_.request_stop();
  thread_.join();
  close(listener_);
}

void FaultProxy::Accept(std::map<int, Way>& ways) const {
  int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in in = Loopback(target_);
  if (connect(server, reinterpret_cast<sockaddr*>(&in), sizeof in) != 0) {
    close(client);
    close(server);
    return;
  }
  Unblock(client);
  Unblock(server);
  ways[client] = {server, true, {}};
  ways[server] = {client, false, {}};
}

// False: the connection has ended.
bool FaultProxy::Receive(int from, Way& way) {
  std::array<char, 65536> buffer{};
  ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) return false;
  way.pending.append(buffer.data(), static_cast<size_t>(got));
  if (way.from_client && pieces_ > 0 && --pieces_ == 0) {
    Send(way);
    Cut();
  }
  return true;
}

bool FaultProxy::Send(Way& way) {
  if (way.pending.empty()) return true;
  ssize_t sent = send(way.to, way.pending.data(), way.pending.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  way.pending.erase(0, static_cast<size_t>(sent));
  return true;
}

void FaultProxy::Run(const std::stop_token& stop) {
  std::map<int, Way> ways;
  auto end = [&](int fd) {
    int other = ways[fd].to;
    ways.erase(fd);
    ways.erase(other);
    // Reset, as a cut network ends it for a server that answers: nothing that was on its way arrives.
    linger hard{1, 0};
    for (int each : {fd, other}) {
      setsockopt(each, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
      close(each);
    }
  };
  int cuts = cuts_;
  while (!stop.stop_requested()) {
    if (cuts != cuts_) {
      cuts = cuts_;
      while (!ways.empty()) end(ways.begin()->first);
    }
    if (stalled_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      continue;
    }
    std::vector<pollfd> polled = {{listener_, POLLIN, 0}};
    for (const auto& [fd, way] : ways) {
      int events = way.pending.size() < kMostPending ? POLLIN : 0;
      if (!ways[way.to].pending.empty()) events |= POLLOUT;  // what goes to this descriptor
      polled.push_back({fd, static_cast<int16_t>(events), 0});
    }
    if (poll(polled.data(), polled.size(), 10) <= 0) continue;
    for (const pollfd& each : polled) {
      if (each.revents == 0) continue;
      if (each.fd == listener_) {
        Accept(ways);
        continue;
      }
      auto found = ways.find(each.fd);
      if (found == ways.end()) continue;
      bool alive = true;
      if ((each.revents & POLLOUT) != 0) alive = Send(ways[found->second.to]);
      if (alive && (each.revents & (POLLIN | POLLHUP | POLLERR)) != 0 && found->second.pending.size() < kMostPending) {
        alive = Receive(each.fd, found->second) && Send(found->second);
      }
      if (!alive) end(each.fd);
    }
  }
  while (!ways.empty()) end(ways.begin()->first);
}

}  // namespace pgtier::testing
