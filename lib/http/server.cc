#include "lib/http/server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <list>
#include <thread>
#include <utility>
#include <vector>

#include "lib/base/clock.h"

namespace pgtier::http {

// Members of Server::Impl cannot be of types without a name outside.
namespace serving {

class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return value_; }

 private:
  int value_;
};

// One request and its answer; then the connection is closed.
struct Connection {
  Descriptor socket;
  Deadline deadline;
  std::string head = {};    // Of the request, as far as it has come.
  std::string answer = {};  // Empty: the request has not come yet.
  size_t sent = 0;
};

}  // namespace serving

namespace {

using serving::Connection;
using serving::Descriptor;

// Who serves its own pages has a handful of clients: probes, Prometheus, a person.
constexpr size_t kMaxConnections = 64;
constexpr size_t kMaxHead = 16 * 1024;
// From the connection to the last byte of the answer.
constexpr Duration kPatience = std::chrono::seconds(30);

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

Result<Address> Parse(const std::string& text, uint16_t port) {
  Address address;
  auto* four = reinterpret_cast<sockaddr_in*>(&address.bytes);
  auto* six = reinterpret_cast<sockaddr_in6*>(&address.bytes);
  if (inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    address.size = sizeof(*four);
  } else if (inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    address.size = sizeof(*six);
  } else {
    return MakeError(Code::kInvalidArgument, "not an address: " + text);
  }
  return address;
}

Result<Descriptor> Listen(const std::string& text, uint16_t port) {
  PGTIER_ASSIGN_OR_RETURN(Address address, Parse(text, port));
  Descriptor listener(socket(address.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A machine without IPv6: all addresses there are, are of IPv4.
  if (listener.get() < 0 && errno == EAFNOSUPPORT && text == "::") return Listen("0.0.0.0", port);
  const int on = 1;
  const int off = 0;
  if (address.bytes.ss_family == AF_INET6) {
    setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));  // "::" takes both families.
  }
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (listener.get() < 0 || bind(listener.get(), reinterpret_cast<sockaddr*>(&address.bytes), address.size) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0) {
    int reason = errno;
    if (text == "::" && reason == EADDRNOTAVAIL) return Listen("0.0.0.0", port);  // IPv6 is switched off.
    std::array<char, 128> words{};
    return MakeError(Code::kUnavailable, "can't listen on " + text + " port " + std::to_string(port) + ": " +
                                             strerror_r(reason, words.data(), words.size()));
  }
  return listener;
}

uint16_t PortOf(const Descriptor& listener) {
  sockaddr_storage bytes{};
  socklen_t size = sizeof(bytes);
  getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bytes), &size);
  bool six = bytes.ss_family == AF_INET6;
  return ntohs(six ? reinterpret_cast<sockaddr_in6*>(&bytes)->sin6_port
                   : reinterpret_cast<sockaddr_in*>(&bytes)->sin_port);
}

const char* ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

}  // namespace

struct Server::Impl {
  uint16_t port = 0;
  std::map<std::string, Handler> handlers;
  serving::Descriptor listener;
  serving::Descriptor stop;  // Becomes readable when the server is to end.
  std::list<serving::Connection> connections;
  std::thread thread;

  [[nodiscard]] Response Answer(const std::string& head) const {
    size_t method_end = head.find(' ');
    size_t target_end = head.find_first_of(" \r", method_end + 1);
    if (method_end == std::string::npos || target_end == std::string::npos) return {400, "no request\n", {}, {}};
    std::string path = head.substr(method_end + 1, target_end - method_end - 1);
    path = path.substr(0, path.find('?'));
    auto found = handlers.find(path);
    if (found == handlers.end()) return {404, "not found\n", {}, {}};
    std::string method = head.substr(0, method_end);
    if (method != "GET" && method != "HEAD") return {405, "only GET\n", {}, {}};
    try {
      Response response = found->second();
      if (method == "HEAD") response.body.clear();
      return response;
    } catch (const std::exception& error) {
      return {500, std::string(error.what()) + "\n", {}, {}};
    }
  }

  // False when nothing more is to be done with it.
  bool Read(Connection& connection) const {
    std::array<char, 4096> bytes{};
    while (true) {
      ssize_t count = recv(connection.socket.get(), bytes.data(), bytes.size(), 0);
      if (count < 0) return errno == EAGAIN || errno == EINTR;
      if (count == 0) return false;
      connection.head.append(bytes.data(), static_cast<size_t>(count));
      bool whole = connection.head.find("\r\n\r\n") != std::string::npos;
      if (!whole && connection.head.size() <= kMaxHead) continue;
      Response response = whole ? Answer(connection.head) : Response{400, "too long\n", {}, {}};
      connection.answer =
          "HTTP/1.1 " + std::to_string(response.status) + " " + ReasonPhrase(response.status) +
          "\r\nContent-Type: " + (response.content_type.empty() ? "text/plain; charset=utf-8" : response.content_type) +
          "\r\nContent-Length: " + std::to_string(response.body.size()) + "\r\nConnection: close\r\n\r\n";
      connection.answer += response.body;
      return true;
    }
  }

  static bool Write(Connection& connection) {
    while (connection.sent < connection.answer.size()) {
      ssize_t count = send(connection.socket.get(), connection.answer.data() + connection.sent,
                           connection.answer.size() - connection.sent, MSG_NOSIGNAL);
      if (count < 0) return errno == EAGAIN || errno == EINTR;
      connection.sent += static_cast<size_t>(count);
    }
    // What the peer has sent beyond its request would else make this a reset, and lose it the answer's end.
    shutdown(connection.socket.get(), SHUT_WR);
    std::array<char, 4096> rest{};
    while (recv(connection.socket.get(), rest.data(), rest.size(), 0) > 0) {
    }
    return false;
  }

  bool Go(Connection& connection) const {
    if (connection.answer.empty() && !Read(connection)) return false;
    return connection.answer.empty() || Write(connection);
  }

  void Accept() {
    while (connections.size() < kMaxConnections) {
      int accepted = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (accepted < 0) return;
      connections.push_back({Descriptor(accepted), Deadline::After(kPatience)});
    }
  }

  void Run() {
    while (true) {
      std::vector<pollfd> polled = {{stop.get(), POLLIN, 0}};
      // With all places taken others wait in the kernel's queue.
      polled.push_back({connections.size() < kMaxConnections ? listener.get() : -1, POLLIN, 0});
      for (const Connection& each : connections) {
        polled.push_back({each.socket.get(), static_cast<short>(each.answer.empty() ? POLLIN : POLLOUT), 0});
      }
      constexpr int kLook = 1000;  // Milliseconds between two looks at who takes too long.
      poll(polled.data(), polled.size(), connections.empty() ? -1 : kLook);
      if (polled[0].revents != 0) return;
      size_t i = 2;
      for (auto each = connections.begin(); each != connections.end(); ++i) {
        bool done = polled[i].revents != 0 ? !Go(*each) : each->deadline.Expired();
        each = done ? connections.erase(each) : std::next(each);
      }
      if (polled[1].revents != 0) Accept();
    }
  }
};

Result<std::unique_ptr<Server>> Server::Start(const std::string& address, uint16_t port,
                                              std::map<std::string, Handler> handlers) {
  auto impl = std::make_unique<Impl>();
  impl->handlers = std::move(handlers);
  PGTIER_ASSIGN_OR_RETURN(impl->listener, Listen(address, port));
  impl->port = PortOf(impl->listener);
  impl->stop = Descriptor(eventfd(0, EFD_CLOEXEC));
  if (impl->stop.get() < 0) return MakeError(Code::kUnavailable, "no eventfd");
  impl->thread = std::thread([self = impl.get()] { self->Run(); });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
  const uint64_t one = 1;
  std::ignore = write(impl_->stop.get(), &one, sizeof(one));
  impl_->thread.join();
}

uint16_t Server::port() const { return impl_->port; }

}  // namespace pgtier::http
