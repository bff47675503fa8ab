#include "lib/http/server.h"

#include <arpa/inet.h>
#include <cpprest/http_listener.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "lib/http/client.h"

namespace pgtier::http {
namespace {

namespace listener = web::http::experimental::listener;

constexpr int kPortAttempts = 5;

// A port that is free now. The library knows no port 0, so the number is found first and may be taken by another
// before we bind it; Start tries again then.
Result<uint16_t> FreePort(const std::string& address) {
  sockaddr_in socket_address{};
  socket_address.sin_family = AF_INET;
  if (inet_pton(AF_INET, address.c_str(), &socket_address.sin_addr) != 1) {
    return MakeError(Code::kInvalidArgument, "not an IPv4 address: " + address);
  }
  const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return MakeError(Code::kUnavailable, "no socket");
  socklen_t length = sizeof(socket_address);
  auto* generic = reinterpret_cast<sockaddr*>(&socket_address);
  const bool bound = bind(descriptor, generic, length) == 0 && getsockname(descriptor, generic, &length) == 0;
  close(descriptor);
  if (!bound) return MakeError(Code::kUnavailable, "no free port on " + address);
  return ntohs(socket_address.sin_port);
}

void Reply(const web::http::http_request& request, const Response& response) {
  web::http::http_response reply(static_cast<web::http::status_code>(response.status));
  // As bytes: the library reads strings through a cast that is undefined behaviour.
  reply.set_body(std::vector<unsigned char>(response.body.begin(), response.body.end()));
  reply.headers().set_content_type(response.content_type.empty() ? "text/plain; charset=utf-8" : response.content_type);
  // A peer that has gone is no concern of ours, but a task's error must be looked at.
  request.reply(reply).then([](const pplx::task<void>& task) {
    try {
      task.get();
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch)
    }
  });
}

}  // namespace

struct Server::Impl {
  uint16_t port = 0;
  std::map<std::string, Handler> handlers;
  std::unique_ptr<listener::http_listener> listening;

  void Handle(const web::http::http_request& request) const {
    Response response;
    try {
      auto found = handlers.find(request.request_uri().path());
      if (found == handlers.end()) {
        response = {404, "not found\n", {}, {}};
      } else if (request.method() != "GET") {
        response = {405, "only GET\n", {}, {}};
      } else {
        response = found->second();
      }
    } catch (const std::exception& error) {
      response = {500, std::string(error.what()) + "\n", {}, {}};
    }
    Reply(request, response);
  }
};

Result<std::unique_ptr<Server>> Server::Start(const std::string& address, uint16_t port,
                                              std::map<std::string, Handler> handlers) {
  InitialiseThreads();
  auto impl = std::make_unique<Impl>();
  impl->handlers = std::move(handlers);
  std::string why;
  for (int attempt = 0; attempt < (port == 0 ? kPortAttempts : 1); ++attempt) {
    impl->port = port;
    if (port == 0) {
      PGTIER_ASSIGN_OR_RETURN(impl->port, FreePort(address));
    }
    try {
      impl->listening =
          std::make_unique<listener::http_listener>("http://" + address + ":" + std::to_string(impl->port));
      impl->listening->support([self = impl.get()](const web::http::http_request& request) { self->Handle(request); });
      impl->listening->open().get();
      return std::unique_ptr<Server>(new Server(std::move(impl)));
    } catch (const std::exception& error) {
      why = error.what();
    }
  }
  return MakeError(Code::kUnavailable, "can't listen on " + address + ":" + std::to_string(port) + ": " + why);
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
  try {
    impl_->listening->close().get();
  } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): it is going away either way
  }
}

uint16_t Server::port() const { return impl_->port; }

}  // namespace pgtier::http
