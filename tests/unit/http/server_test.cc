#include "lib/http/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "lib/http/client.h"

namespace pgtier::http {
namespace {

TEST(ServerTest, ServesItsPaths) {
  auto server = Server::Start("127.0.0.1", 0,
                              {{"/healthz",
                                [] {
                                  return Response{200, "ok", {}, {}};
                                }},
                               {"/readyz",
                                [] {
                                  return Response{503, "not synced", {}, {}};
                                }},
                               {"/broken", []() -> Response { throw std::runtime_error("oops"); }}});
  ASSERT_TRUE(server.has_value()) << server.error().message;
  ASSERT_NE((*server)->port(), 0);
  ClientOptions options;
  options.base_url = "http://127.0.0.1:" + std::to_string((*server)->port());
  auto client = Client::Create(options);
  auto ask = [&](const char* method, const char* path) {
    Request request;
    request.method = method;
    request.path_and_query = path;
    auto response = (*client)->Send(request, Deadline::After(std::chrono::seconds(10)), {});
    EXPECT_TRUE(response.has_value()) << path;
    return response.value_or(Response{});
  };
  EXPECT_EQ(ask("GET", "/healthz").body, "ok");
  EXPECT_EQ(ask("GET", "/healthz?verbose").status, 200);
  EXPECT_EQ(ask("GET", "/readyz").status, 503);
  EXPECT_EQ(ask("GET", "/elsewhere").status, 404);
  EXPECT_EQ(ask("POST", "/healthz").status, 405);
  EXPECT_EQ(ask("GET", "/broken").status, 500);
}

TEST(ServerTest, SaysWhenItCannotListen) {
  auto first = Server::Start("127.0.0.1", 0, {});
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(Server::Start("203.0.113.1", 8080, {}).has_value());
  EXPECT_EQ(Server::Start("localhost", 0, {}).error().code, Code::kInvalidArgument);
  EXPECT_FALSE(Server::Start("127.0.0.1", (*first)->port(), {}).has_value()) << "taken";
}

// All that a server at that port answers to `request`, byte for byte; `family` AF_INET or AF_INET6, on loopback.
std::string Ask(int family, uint16_t port, const std::string& request) {
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(port);
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(port);
  six.sin6_addr = in6addr_loopback;
  bool is_six = family == AF_INET6;
  int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto* address = is_six ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
  std::string answer;
  if (connect(descriptor, address, is_six ? sizeof(six) : sizeof(four)) == 0) {
    // In two pieces, as a network may bring it.
    send(descriptor, request.data(), request.size() / 2, MSG_NOSIGNAL);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    send(descriptor, request.data() + request.size() / 2, request.size() - request.size() / 2, MSG_NOSIGNAL);
    char bytes[4096];
    for (ssize_t count = 0; (count = recv(descriptor, bytes, sizeof(bytes), 0)) > 0;) {
      answer.append(bytes, static_cast<size_t>(count));
    }
  }
  close(descriptor);
  return answer;
}

constexpr char kGet[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(ServerTest, ServesBothFamilies) {
  auto server = Server::Start("::", 0, {{"/big", [] { return Response{200, "both", {}, {}}; }}});
  ASSERT_TRUE(server.has_value()) << server.error().message;
  EXPECT_TRUE(Ask(AF_INET, (*server)->port(), kGet).ends_with("both"));
  auto six = Server::Start("::1", 0, {{"/big", [] { return Response{200, "six", {}, {}}; }}});
  if (!six.has_value()) GTEST_SKIP() << "no IPv6 here: " << six.error().message;
  EXPECT_TRUE(Ask(AF_INET6, (*six)->port(), kGet).ends_with("six"));
  EXPECT_TRUE(Ask(AF_INET6, (*server)->port(), kGet).ends_with("both"));
}

TEST(ServerTest, APageOfMegabytesComesWholeToSeveralAtOnce) {
  const std::string page(6 * 1024 * 1024, 'x');
  auto server = Server::Start("127.0.0.1", 0, {{"/big", [&] { return Response{200, page, {}, {}}; }}});
  ASSERT_TRUE(server.has_value());
  std::vector<std::thread> readers;
  std::atomic<int> whole = 0;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      std::string answer = Ask(AF_INET, (*server)->port(), kGet);
      if (answer.size() > page.size() && answer.ends_with(page)) ++whole;
    });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(whole, 4);
}

TEST(ServerTest, NonsenseIsRefusedAndHoldsNobodyUp) {
  auto server = Server::Start("127.0.0.1", 0, {{"/big", [] { return Response{200, "ok", {}, {}}; }}});
  ASSERT_TRUE(server.has_value());
  uint16_t port = (*server)->port();
  // One that never says what it wants.
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(silent, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_TRUE(Ask(AF_INET, port, "\r\n\r\n").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(Ask(AF_INET, port, std::string(40'000, 'x')).starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(Ask(AF_INET, port, "GET /big\r\n\r\n").starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(Ask(AF_INET, port, "HEAD /big HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
  EXPECT_TRUE(Ask(AF_INET, port, "POST /big HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").starts_with("HTTP/1.1 405 "));
  close(silent);
}

}  // namespace
}  // namespace pgtier::http
