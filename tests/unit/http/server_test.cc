#include "lib/http/server.h"

#include <gtest/gtest.h>

#include <stdexcept>

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
  EXPECT_EQ(Server::Start("::1", 0, {}).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace pgtier::http
