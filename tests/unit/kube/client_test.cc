#include "lib/kube/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "lib/kube/json.h"
#include "tests/fake/fake_transport.h"
#include "tests/fake/fault_server.h"

namespace pgtier::kube {
namespace {

using fake::FakeTransport;
using std::chrono::milliseconds;
using std::chrono::seconds;

Deadline Soon() { return Deadline::After(seconds(5)); }

http::Response Answer(int status, const std::string& body = "{}") {
  http::Response response;
  response.status = status;
  response.body = body;
  return response;
}

TEST(StatusTest, Codes) {
  auto code = [](int status, const std::string& reason = "") {
    return ErrorFromStatus(status, R"({"kind":"Status","reason":")" + reason + R"(","message":"m"})", "get x").code;
  };
  EXPECT_EQ(code(400), Code::kInvalidArgument);
  EXPECT_EQ(code(401), Code::kUnauthenticated);
  EXPECT_EQ(code(403), Code::kPermissionDenied);
  EXPECT_EQ(code(404), Code::kNotFound);
  EXPECT_EQ(code(409, "AlreadyExists"), Code::kAlreadyExists);
  EXPECT_EQ(code(409, "Conflict"), Code::kAborted);
  EXPECT_EQ(code(410, "Expired"), Code::kFailedPrecondition);
  EXPECT_EQ(code(415), Code::kUnimplemented);
  EXPECT_EQ(code(422, "Invalid"), Code::kInvalidArgument);
  EXPECT_EQ(code(429), Code::kUnavailable);
  EXPECT_EQ(code(500), Code::kUnavailable);
  EXPECT_EQ(code(503), Code::kUnavailable);
  EXPECT_EQ(code(504, "Timeout"), Code::kDeadlineExceeded);
  EXPECT_EQ(code(302), Code::kInternal);
}

TEST(StatusTest, TheServersWords) {
  EXPECT_EQ(
      ErrorFromStatus(422, R"({"kind":"Status","reason":"Invalid","message":"spec.x: required"})", "apply a/b").message,
      "apply a/b: HTTP 422 Invalid: spec.x: required");
  EXPECT_EQ(ErrorFromStatus(502, "<html>bad gateway", "get x").message, "get x: HTTP 502: <html>bad gateway");
  EXPECT_LT(ErrorFromStatus(502, std::string(5000, 'x'), "get x").message.size(), 300U);
}

// The request that the call of `use` made.
template <typename Use>
http::Request Made(const Use& use) {
  http::Request made;
  Client client(std::make_unique<FakeTransport>([&](const http::Request& request) -> Result<http::Response> {
                  made = request;
                  return Answer(200);
                }),
                {"manager x", "agent", 16, nullptr});
  auto result = use(client);
  EXPECT_TRUE(result.has_value());
  return made;
}

TEST(ClientTest, Requests) {
  const nlohmann::json object = {{"metadata", {{"namespace", "a"}, {"name", "b"}}}, {"data", {{"k", "v"}}}};
  auto apply = Made([&](Client& client) { return client.Apply(kConfigMaps, object, true, Soon()); });
  EXPECT_EQ(apply.method, "PATCH");
  EXPECT_EQ(apply.path_and_query, "/api/v1/namespaces/a/configmaps/b?fieldManager=manager%20x&force=true");
  EXPECT_EQ(apply.content_type, "application/apply-patch+yaml");
  EXPECT_TRUE(apply.idempotent);
  EXPECT_EQ(StringAt(*ParseJson(apply.body), {"kind"}), "ConfigMap");

  auto status = Made([&](Client& client) { return client.ApplyStatus(kDeployments, object, Soon()); });
  EXPECT_EQ(status.path_and_query,
            "/apis/apps/v1/namespaces/a/deployments/b/status?fieldManager=manager%20x&force=true");

  auto create = Made([&](Client& client) { return client.Create(kConfigMaps, object, Soon()); });
  EXPECT_EQ(create.method, "POST");
  EXPECT_FALSE(http::MayRepeat(create));

  auto remove = Made([&](Client& client) {
    return client.Delete(kPods, {"a", "b"}, {.uid = "u1", .propagation = "Foreground"}, Soon());
  });
  EXPECT_EQ(remove.method, "DELETE");
  EXPECT_EQ(StringAt(*ParseJson(remove.body), {"preconditions", "uid"}), "u1");
  EXPECT_EQ(StringAt(*ParseJson(remove.body), {"propagationPolicy"}), "Foreground");

  auto list = Made([&](Client& client) {
    ListOptions options;
    options.label_selector = "app=x,tier in (a)";
    options.metadata_only = true;
    return client.List(kSecrets, "", options, Soon());
  });
  EXPECT_EQ(list.path_and_query, "/api/v1/secrets?limit=500&labelSelector=app%3Dx%2Ctier%20in%20%28a%29");
  EXPECT_EQ(list.accept, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");

  auto patch = Made([&](Client& client) {
    return client.JsonPatch(kPods, {"a", "b"}, nlohmann::json::array(), Soon());
  });
  EXPECT_FALSE(http::MayRepeat(patch)) << "test and remove done twice is a refusal";
}

TEST(ClientTest, RetryAfterIsHonouredTwiceInsideTheDeadline) {
  int sent = 0;
  Client client(std::make_unique<FakeTransport>([&](const http::Request&) -> Result<http::Response> {
                  ++sent;
                  auto response = Answer(429, "slow down");
                  response.retry_after = milliseconds(10);
                  return response;
                }),
                {});
  EXPECT_EQ(client.Get(kPods, {"a", "b"}, Soon()).error().code, Code::kUnavailable);
  EXPECT_EQ(sent, 3);
  sent = 0;
  EXPECT_EQ(client.Get(kPods, {"a", "b"}, Deadline::After(milliseconds(5))).error().code, Code::kUnavailable);
  EXPECT_EQ(sent, 1);
}

TEST(ClientTest, AtMostSixteenInFlight) {
  std::atomic<int> now = 0;
  std::atomic<int> highest = 0;
  Client client(std::make_unique<FakeTransport>([&](const http::Request&) -> Result<http::Response> {
                  const int mine = ++now;
                  for (int seen = highest; mine > seen && !highest.compare_exchange_weak(seen, mine);) {
                  }
                  std::this_thread::sleep_for(milliseconds(5));
                  --now;
                  return Answer(200);
                }),
                {.max_in_flight = 3});
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 20; ++i) {
      threads.emplace_back([&] { EXPECT_TRUE(client.Get(kPods, {"a", "b"}, Soon()).has_value()); });
    }
  }
  EXPECT_EQ(highest, 3);
}

TEST(ClientTest, A401WithAFreshTokenIsTriedOnceMore) {
  std::vector<std::string> tokens;
  fake::FaultServer server([&](fake::FaultConnection& connection) {
    for (std::string request; !(request = connection.ReadRequest()).empty();) {
      const size_t at = request.find("Bearer ") + 7;
      tokens.push_back(request.substr(at, request.find('\r', at) - at));
      connection.Reply(tokens.back() == "fresh" ? 200 : 401, "{}");
    }
  });
  std::string pattern = "/tmp/pgtier-token-XXXXXX";
  const int descriptor = mkstemp(pattern.data());
  ASSERT_EQ(write(descriptor, "stale", 5), 5);
  Config config;
  config.server = server.url();
  config.token_file = pattern;
  auto client = Client::Connect(config);
  ASSERT_TRUE(client.has_value());
  EXPECT_EQ((*client)->Get(kPods, {"a", "b"}, Soon()).error().code, Code::kUnauthenticated);
  ASSERT_EQ(pwrite(descriptor, "fresh", 5, 0), 5);
  close(descriptor);
  auto pod = (*client)->Get(kPods, {"a", "b"}, Soon());
  EXPECT_TRUE(pod.has_value());
  EXPECT_THAT(tokens, testing::ElementsAre("stale", "stale", "fresh"));
  unlink(pattern.c_str());
}

TEST(ClientTest, AnswersThatAreNotJson) {
  Client client(std::make_unique<FakeTransport>(
                    [](const http::Request&) -> Result<http::Response> { return Answer(200, "<html>"); }),
                {});
  EXPECT_EQ(client.Get(kPods, {"a", "b"}, Soon()).error().code, Code::kInternal);
  EXPECT_EQ(*client.GetRaw("/healthz", Soon()), "<html>");
}

}  // namespace
}  // namespace pgtier::kube
