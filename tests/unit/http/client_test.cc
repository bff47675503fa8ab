// The conformance suite of the transport, against a server that misbehaves on purpose.
#include "lib/http/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/fake/fault_server.h"

namespace pgtier::http {
namespace {

using fake::FaultConnection;
using fake::FaultServer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

std::unique_ptr<Client> Connect(const FaultServer& server, size_t max_body = size_t{64} << 20) {
  ClientOptions options;
  options.base_url = server.url();
  options.max_body_bytes = max_body;
  options.bearer_token = [] { return std::string("secret-token"); };
  auto client = Client::Create(std::move(options));
  EXPECT_TRUE(client.has_value());
  return *std::move(client);
}

Request Get(std::string path = "/") {
  Request request;
  request.path_and_query = std::move(path);
  return request;
}

Request Post(std::string body) {
  Request request;
  request.method = "POST";
  request.body = std::move(body);
  request.content_type = "application/json";
  return request;
}

Deadline Soon() { return Deadline::After(seconds(30)); }
constexpr auto kWellBefore = seconds(20);  // What is not waited for to its deadline takes less, on a busy machine too.
Duration Since(MonoTime begun) { return std::chrono::steady_clock::now() - begun; }

size_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0;
  size_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

TEST(ClientTest, SendsTheRequestAndReadsTheAnswer) {
  std::string seen;
  FaultServer server([&](FaultConnection& connection) {
    seen = connection.ReadRequest();
    connection.Reply(201, R"({"a":1})");
    connection.ReadRequest();
  });
  Request request = Post("{\"b\":2}");
  request.path_and_query = "/apis/x?labelSelector=a%3Db%2Cc";
  request.accept = "application/json";
  request.headers.emplace_back("X-Extra", "yes");
  auto response = Connect(server)->Send(request, Soon(), {});
  ASSERT_TRUE(response.has_value()) << response.error().message;
  EXPECT_EQ(response->status, 201);
  EXPECT_EQ(response->body, R"({"a":1})");
  EXPECT_EQ(response->content_type, "application/json");
  EXPECT_THAT(seen, testing::StartsWith("POST /apis/x?labelSelector=a%3Db%2Cc HTTP/1.1\r\n"));
  for (const char* part : {"\r\nAuthorization:Bearer secret-token\r\n", "\r\nAccept:application/json\r\n",
                           "\r\nX-Extra:yes\r\n", "\r\nContent-Length:7\r\n", "\r\n\r\n{\"b\":2}"}) {
    EXPECT_THAT(seen, HasSubstr(part));
  }
}

TEST(ClientTest, APrefixInTheBaseUrlStays) {
  std::string seen;
  FaultServer server([&](FaultConnection& connection) {
    seen = connection.ReadRequest();
    connection.Reply(200, "{}");
  });
  ClientOptions options;
  options.base_url = server.url() + "/k8s/clusters/c-1";
  auto client = Client::Create(options);
  ASSERT_TRUE((*client)->Send(Get("/api/v1/pods?limit=1"), Soon(), {}).has_value());
  EXPECT_THAT(seen, testing::StartsWith("GET /k8s/clusters/c-1/api/v1/pods?limit=1 HTTP/1.1\r\n"));
}

TEST(ClientTest, StatusesAreAnswers) {
  for (int status : {302, 401, 404, 410, 429, 500, 503}) {
    FaultServer server([&](FaultConnection& connection) {
      connection.ReadRequest();
      connection.Reply(status, "why", "Retry-After: 7\r\nLocation: /elsewhere\r\n");
      connection.WaitForPeer();
    });
    auto response = Connect(server)->Send(Get(), Soon(), {});
    ASSERT_TRUE(response.has_value()) << status;
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->body, "why");
    EXPECT_EQ(response->retry_after, Duration(seconds(7)));
  }
}

TEST(ClientTest, RedirectsAreNotFollowed) {
  std::atomic<int> requests = 0;
  FaultServer server([&](FaultConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      ++requests;
      connection.Reply(302, "", "Location: /elsewhere\r\n");
    }
  });
  auto response = Connect(server)->Send(Get(), Soon(), {});
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 302);
  EXPECT_EQ(requests, 1);
}

TEST(ClientTest, SlowChunksArriveAsTheyCome) {
  FaultServer server([](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    for (int i = 0; i < 5; ++i) {
      connection.Chunk(std::to_string(i));
      std::this_thread::sleep_for(milliseconds(60));
    }
    connection.EndChunked();
  });
  std::vector<std::string> pieces;
  // The whole takes longer than the idle limit; each piece does not.
  auto outcome = Connect(server)->Stream(Get(), Soon(), milliseconds(250),
                                         [&](const Response& head, std::string_view piece) -> Status {
                                           EXPECT_EQ(head.status, 200);
                                           pieces.emplace_back(piece);
                                           return {};
                                         },
                                         {});
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
  EXPECT_THAT(pieces, testing::ElementsAre("", "0", "1", "2", "3", "4"));
}

TEST(ClientTest, ABodySplitAtEveryByteIsWhole) {
  const std::string text = "{\"type\":\"ADDED\"}\n{\"type\":\"DELETED\"}\n";
  FaultServer server([&](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    for (char c : text) connection.Chunk(std::string(1, c));
    connection.EndChunked();
  });
  auto response = Connect(server)->Send(Get(), Soon(), {});
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->body, text);
}

TEST(ClientTest, AResetInTheBodyIsUnavailable) {
  FaultServer server([](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    connection.Chunk("first\n");
    std::this_thread::sleep_for(milliseconds(50));
    connection.Write("ff\r\nhalf of a chu");
    connection.Reset();
  });
  std::string got;
  auto outcome = Connect(server)->Stream(Get(), Soon(), seconds(5),
                                         [&](const Response&, std::string_view piece) -> Status {
                                           got += piece;
                                           return {};
                                         },
                                         {});
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, Code::kUnavailable);
  EXPECT_EQ(got, "first\n");
}

TEST(ClientTest, ASilentPeerIsFoundByTheIdleLimit) {
  FaultServer server([](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    connection.Chunk("x");
    connection.WaitForPeer();
  });
  const auto begun = std::chrono::steady_clock::now();
  auto outcome = Connect(server)->Stream(Get(), Soon(), milliseconds(200),
                                         [](const Response&, std::string_view) -> Status { return {}; }, {});
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, Code::kDeadlineExceeded);
  EXPECT_LT(Since(begun), kWellBefore);
}

TEST(ClientTest, NoAnswerByTheDeadline) {
  FaultServer server([](FaultConnection& connection) { connection.WaitForPeer(); });
  const auto begun = std::chrono::steady_clock::now();
  auto response = Connect(server)->Send(Get(), Deadline::After(milliseconds(150)), {});
  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code, Code::kDeadlineExceeded);
  EXPECT_LT(Since(begun), kWellBefore);
}

TEST(ClientTest, AStopEndsAStreamAtOnce) {
  std::atomic<bool> peer_gone = false;
  FaultServer server([&](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    connection.WaitForPeer();
    peer_gone = true;
  });
  auto client = Connect(server);
  std::stop_source stop;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(milliseconds(100));
    stop.request_stop();
  });
  const auto begun = std::chrono::steady_clock::now();
  auto outcome = client->Stream(
      Get(), Soon(), seconds(60), [](const Response&, std::string_view) -> Status { return {}; }, stop.get_token());
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, Code::kCancelled);
  EXPECT_LT(Since(begun), kWellBefore);
  for (int i = 0; i < 100 && !peer_gone; ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(peer_gone) << "the connection was not closed";
}

TEST(ClientTest, AnErrorOfTheCallerEndsTheStream) {
  FaultServer server([](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    connection.Chunk("x");
    connection.WaitForPeer();
  });
  auto outcome = Connect(server)->Stream(Get(), Soon(), seconds(60),
                                         [](const Response&, std::string_view piece) -> Status {
                                           if (piece.empty()) return {};
                                           return MakeError(Code::kInvalidArgument, "enough");
                                         },
                                         {});
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().message, "enough");
}

TEST(ClientTest, TheStatusIsKnownBeforeAnyOfTheBody) {
  FaultServer server([](FaultConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      connection.Write("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n");
    }
  });
  auto client = Connect(server);
  for (int i = 0; i < 200; ++i) {
    auto outcome = client->Stream(Get(), Soon(), seconds(5),
                                  [](const Response& head, std::string_view) -> Status {
                                    EXPECT_EQ(head.status, 500);
                                    return {};
                                  },
                                  {});
    ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
  }
}

// Sanitizers keep what is freed.
#if defined(PGTIER_ADDRESS_SANITIZER) || defined(__SANITIZE_THREAD__)
constexpr bool kTellsMemory = false;
#else
constexpr bool kTellsMemory = true;
#endif

constexpr size_t kLarge = size_t{30} << 20;

void SendLarge(FaultConnection& connection) {
  connection.ReadRequest();
  connection.BeginChunked();
  const std::string chunk(size_t{32} << 10, 'x');
  for (size_t sent = 0; sent < kLarge; sent += chunk.size()) {
    if (!connection.Chunk(chunk)) return;
  }
  connection.EndChunked();
}

TEST(ClientTest, ABodyAboveTheBoundIsRefused) {
  FaultServer server(SendLarge);
  auto response = Connect(server, size_t{1} << 20)->Send(Get(), Soon(), {});
  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code, Code::kResourceExhausted);
}

TEST(ClientTest, ALargeStreamIsHeldBackNotBuffered) {
  FaultServer server(SendLarge);
  auto client = Connect(server);
  size_t received = 0;
  size_t highest = 0;
  const size_t before = ResidentBytes();
  auto outcome = client->Stream(Get(), Soon(), seconds(10),
                                [&](const Response&, std::string_view piece) -> Status {
                                  // A slow consumer at the beginning: all 30 MB would be here by now if nothing held
                                  // them back.
                                  if (received == 0) std::this_thread::sleep_for(milliseconds(300));
                                  received += piece.size();
                                  highest = std::max(highest, ResidentBytes());
                                  return {};
                                },
                                {});
  ASSERT_TRUE(outcome.has_value()) << outcome.error().message;
  EXPECT_EQ(received, kLarge);
  if (kTellsMemory) {
    EXPECT_LT(highest - std::min(highest, before), size_t{8} << 20);
  }
}

// Answers the first request on the first connection, then closes after having read the second.
class ClosingServer {
 public:
  std::atomic<int> requests = 0;
  FaultServer server{[this](FaultConnection& connection) {
    while (!connection.ReadRequest().empty()) {
      if (++requests == 2) return;
      connection.Reply(200, "{}");
    }
  }};
};

// A kept connection gets back into its pool a moment after the answer.
void LetThePoolSettle() { std::this_thread::sleep_for(milliseconds(100)); }

TEST(ClientTest, APostIsNeverSentTwice) {
  ClosingServer closing;
  auto client = Connect(closing.server);
  ASSERT_TRUE(client->Send(Get(), Soon(), {}).has_value());
  LetThePoolSettle();
  auto response = client->Send(Post("{}"), Soon(), {});
  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code, Code::kUnavailable);
  EXPECT_EQ(closing.requests, 2);
}

TEST(ClientTest, AnIdempotentRequestMayBe) {
  ClosingServer closing;
  auto client = Connect(closing.server);
  ASSERT_TRUE(client->Send(Get(), Soon(), {}).has_value());
  LetThePoolSettle();
  Request request = Post("{}");
  request.idempotent = true;
  auto response = client->Send(request, Soon(), {});
  ASSERT_TRUE(response.has_value()) << response.error().message;
  EXPECT_EQ(closing.requests, 3);
}

TEST(ClientTest, NobodyListening) {
  uint16_t port = 0;
  {
    port = FaultServer([](FaultConnection&) {}).port();
  }
  ClientOptions options;
  options.base_url = "http://127.0.0.1:" + std::to_string(port);
  auto client = Client::Create(options);
  auto response = (*client)->Send(Get(), Soon(), {});
  ASSERT_FALSE(response.has_value());
  EXPECT_EQ(response.error().code, Code::kUnavailable);
  EXPECT_THAT(response.error().message, HasSubstr("refused"));
}

TEST(ClientTest, MalformedInputIsRefused) {
  ClientOptions options;
  for (const char* url : {"ftp://x", "nothing", "https://"}) {
    options.base_url = url;
    EXPECT_EQ(Client::Create(options).error().code, Code::kInvalidArgument) << url;
  }
  options.base_url = "https://x";
  options.tls.ca_pem = "not a certificate";
  EXPECT_EQ(Client::Create(options).error().code, Code::kInvalidArgument);
  options.tls.ca_pem.clear();
  auto client = Client::Create(options);
  ASSERT_TRUE(client.has_value());
  Request request = Get("/a\r\nX-Smuggled: 1");
  EXPECT_EQ((*client)->Send(request, Soon(), {}).error().code, Code::kInvalidArgument);
}

TEST(ClientTest, ManyAtOnce) {
  FaultServer server([](FaultConnection& connection) {
    while (!connection.ReadRequest().empty()) connection.Reply(200, "{}");
  });
  auto client = Connect(server);
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 16; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 50; ++j) good += client->Send(Get(), Soon(), {}).has_value() ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(good, 800);
}

}  // namespace
}  // namespace pgtier::http
