// Sources over HTTP against servers that do what they like.
#include "lib/observe/outbound.h"

#include <gmock/gmock.h>

#include "lib/observe/http_json.h"
#include "lib/observe/prometheus.h"
#include "tests/fake/fault_server.h"
#include "tests/fake/tls_server.h"

namespace pgtier::observe {
namespace {

using fake::FaultConnection;
using fake::FaultServer;
using fake::TlsServer;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kOneSample[] =
    R"({"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.5"]}]}})";

Deadline InTime() { return Deadline::After(std::chrono::seconds(20)); }
AllowedHosts Loopback() { return AllowedHosts({"127.0.0.1"}); }

HttpQuestion Question(const std::string& url) {
  HttpQuestion question;
  question.peer.url = url;
  question.json_path = "$.value";
  return question;
}

TEST(Outbound, SendsTokenAndHostToTheAddressThatWasChecked) {
  std::string request;
  FaultServer server([&](FaultConnection& connection) {
    request = connection.ReadRequest();
    connection.Reply(200, R"({"value": 7})");
  });
  Outbound outbound(Loopback());
  HttpQuestion question = Question(server.url() + "/a/b?c=d#fragment");
  question.peer.token = "hidden";
  core::Reading reading = ReadHttpJson(outbound, question, WallTime{}, InTime(), {});
  ASSERT_TRUE(reading.value.has_value()) << reading.unknown_reason;
  EXPECT_EQ(*reading.value, 7);
  EXPECT_THAT(request, StartsWith("GET /a/b?c=d HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("Authorization:Bearer hidden\r\n"));
  EXPECT_THAT(request, HasSubstr("Host:127.0.0.1:" + std::to_string(server.port()) + "\r\n"));
}

TEST(Outbound, FollowsNoRedirect) {
  std::atomic<int> elsewhere = 0;
  FaultServer other([&](FaultConnection& connection) {
    ++elsewhere;
    connection.Reply(200, R"({"value": 7})");
  });
  FaultServer server([&](FaultConnection& connection) {
    connection.ReadRequest();
    connection.Reply(302, "", "Location: " + other.url() + "/\r\n");
  });
  Outbound outbound(Loopback());
  core::Reading reading = ReadHttpJson(outbound, Question(server.url()), WallTime{}, InTime(), {});
  EXPECT_EQ(reading.unknown_reason, "HttpError: HTTP 302; redirects are not followed, write the last URL");
  EXPECT_EQ(elsewhere, 0);
}

TEST(Outbound, AsksNobodyWhoIsNotAllowed) {
  std::atomic<int> asked = 0;
  FaultServer server([&](FaultConnection&) { ++asked; });
  for (const std::vector<std::string>& patterns : {std::vector<std::string>{}, {"*"}, {"localhost"}}) {
    Outbound outbound{AllowedHosts(patterns)};
    for (const std::string& url : {server.url(), "http://localhost:" + std::to_string(server.port())}) {
      std::string reason = ReadHttpJson(outbound, Question(url), WallTime{}, InTime(), {}).unknown_reason;
      EXPECT_TRUE(reason.starts_with("HostNotAllowed: ") || reason.starts_with("AddressRefused: ")) << reason;
    }
  }
  EXPECT_EQ(asked, 0);
}

TEST(Outbound, AServerThatIsGoneSilentOrTalksTooMuchIsUnreachable) {
  FaultServer silent([](FaultConnection& connection) {
    connection.ReadRequest();
    std::this_thread::sleep_for(std::chrono::seconds(2));
  });
  FaultServer endless([](FaultConnection& connection) {
    connection.ReadRequest();
    connection.BeginChunked();
    while (connection.Chunk(std::string(65536, ' '))) {
    }
  });
  Outbound outbound(Loopback());
  auto reason = [&](const std::string& url, Duration patience) {
    return ReadHttpJson(outbound, Question(url), WallTime{}, Deadline::After(patience), {}).unknown_reason;
  };
  EXPECT_THAT(reason("http://127.0.0.1:1", std::chrono::seconds(20)), StartsWith("HttpUnreachable: "));
  EXPECT_THAT(reason(silent.url(), std::chrono::milliseconds(300)), StartsWith("HttpUnreachable: "));
  EXPECT_THAT(reason(endless.url(), std::chrono::seconds(20)), StartsWith("HttpUnreachable: answer is longer"));
  EXPECT_THAT(reason("http://127.0.0.1:1/a b", std::chrono::seconds(20)), StartsWith("BadUrl: "));
}

TEST(PrometheusOverTls, TrustsTheCaThatIsGivenAndSendsItTheToken) {
  TlsServer server(kOneSample);
  Prometheus prometheus(Loopback());
  core::Reading reading = prometheus.Query({server.url() + "/", "hidden", server.ca_pem()}, "up == 1", InTime(), {});
  ASSERT_TRUE(reading.value.has_value()) << reading.unknown_reason;
  EXPECT_EQ(*reading.value, 0.5);
  EXPECT_THAT(server.asked(), StartsWith("GET /api/v1/query?query=up%20%3D%3D%201 HTTP/1.1\r\n"));
  EXPECT_THAT(server.asked(), HasSubstr("Authorization:Bearer hidden\r\n"));
}

TEST(PrometheusOverTls, SendsNothingToWhoCannotProveItsName) {
  TlsServer server(kOneSample);
  TlsServer other(kOneSample);
  Prometheus prometheus(Loopback());
  for (const std::string& ca : {std::string(), other.ca_pem()}) {
    core::Reading reading = prometheus.Query({server.url(), "hidden", ca}, "up", InTime(), {});
    EXPECT_THAT(reading.unknown_reason, StartsWith("PrometheusUnreachable: "));
    EXPECT_THAT(reading.unknown_reason, Not(HasSubstr("hidden")));
  }
  EXPECT_EQ(server.asked(), "");
  EXPECT_THAT(prometheus.Query({server.url(), "", "no certificate"}, "up", InTime(), {}).unknown_reason,
              StartsWith("BadCa: CA certificate"));
}

TEST(PrometheusOverHttp, NamesARefusedToken) {
  FaultServer server([](FaultConnection& connection) {
    connection.ReadRequest();
    connection.Reply(401, "Unauthorized, hidden");
  });
  Prometheus prometheus(Loopback());
  EXPECT_EQ(prometheus.Query({server.url(), "", ""}, "up", InTime(), {}).unknown_reason,
            "Unauthorized: HTTP 401; check spec.metrics.prometheus.bearerTokenSecret");
  EXPECT_THAT(prometheus.Query({"", "", ""}, "up", InTime(), {}).unknown_reason, StartsWith("NotConfigured: "));
}

}  // namespace
}  // namespace pgtier::observe
