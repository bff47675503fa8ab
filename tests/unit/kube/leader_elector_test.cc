#include "lib/kube/leader_elector.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "lib/kube/json.h"
#include "tests/fake/fake_transport.h"
#include "tests/fake/manual_clock.h"

namespace pgtier::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// An API server that knows one lease.
class LeaseServer {
 public:
  std::unique_ptr<Client> Connect() {
    return std::make_unique<Client>(
        std::make_unique<fake::FakeTransport>([this](const http::Request& request) { return Handle(request); }),
        ClientOptions());
  }
  Result<http::Response> Handle(const http::Request& request) {
    std::lock_guard lock(mutex_);
    if (down_) return MakeError(Code::kUnavailable, "down");
    http::Response response;
    response.status = 200;
    if (request.method == "GET" && lease_.is_null()) response.status = 404;
    if (request.method == "POST" && !lease_.is_null()) response.status = 409;
    if (request.method == "PUT" && late_write_) {
      late_write_ = false;
      lease_["metadata"]["resourceVersion"] = std::to_string(++version_);
    }
    if (request.method == "PUT" || (request.method == "POST" && lease_.is_null())) {
      nlohmann::json object = *ParseJson(request.body);
      if (request.method == "PUT" &&
          StringAt(object, {"metadata", "resourceVersion"}) != StringAt(lease_, {"metadata", "resourceVersion"})) {
        response.status = 409;
      } else {
        lease_ = object;
        lease_["metadata"]["resourceVersion"] = std::to_string(++version_);
      }
    }
    if (response.status == 200) response.body = lease_.dump();
    return response;
  }
  void SetDown(bool down) {
    std::lock_guard lock(mutex_);
    down_ = down;
  }
  // The next PUT finds that an earlier one, whose sender had given up, was written in between.
  void WriteLate() {
    std::lock_guard lock(mutex_);
    late_write_ = true;
  }
  nlohmann::json Spec() {
    std::lock_guard lock(mutex_);
    return At(lease_, {"spec"});
  }
  std::string Holder() { return StringAt(Spec(), {"holderIdentity"}); }

 private:
  std::mutex mutex_;
  nlohmann::json lease_;
  int version_ = 0;
  bool down_ = false;
  bool late_write_ = false;
};

Deadline LeaseDeadline() { return Deadline::After(seconds(5)); }

LeaderElectionOptions Options(const std::string& identity) {
  LeaderElectionOptions options;
  options.lease = {"pgtier-system", "pgtier-operator"};
  options.identity = identity;
  return options;
}

TEST(LeaderElectorTest, TheFirstTakesItTheSecondWaitsForItsOwnClock) {
  LeaseServer server;
  auto client = server.Connect();
  fake::ManualClock clock_a;
  fake::ManualClock clock_b;
  LeaderElector a(client.get(), &clock_a, Options("a"));
  LeaderElector b(client.get(), &clock_b, Options("b"));
  EXPECT_TRUE(*a.TryAcquireOrRenew(LeaseDeadline(), {}));
  EXPECT_EQ(IntAt(server.Spec(), {"leaseDurationSeconds"}), 15);
  EXPECT_EQ(IntAt(server.Spec(), {"leaseTransitions"}, -1), 0);

  clock_b.Advance(std::chrono::hours(10));  // b's clock is far ahead: what counts is since when b has seen no change
  EXPECT_FALSE(*b.TryAcquireOrRenew(LeaseDeadline(), {}));
  EXPECT_EQ(b.Holder(), "a");
  clock_b.Advance(seconds(14));
  clock_a.Advance(seconds(14));
  EXPECT_TRUE(*a.TryAcquireOrRenew(LeaseDeadline(), {}));
  EXPECT_FALSE(*b.TryAcquireOrRenew(LeaseDeadline(), {}));  // it changed: the 15 s begin again
  clock_b.Advance(seconds(14));
  EXPECT_FALSE(*b.TryAcquireOrRenew(LeaseDeadline(), {}));
  clock_b.Advance(seconds(1));
  EXPECT_TRUE(*b.TryAcquireOrRenew(LeaseDeadline(), {}));
  EXPECT_EQ(server.Holder(), "b");
  EXPECT_EQ(IntAt(server.Spec(), {"leaseTransitions"}), 1);
  EXPECT_FALSE(*a.TryAcquireOrRenew(LeaseDeadline(), {}));
}

TEST(LeaderElectorTest, AReleasedLeaseIsFreeAtOnce) {
  LeaseServer server;
  auto client = server.Connect();
  SystemClock clock;
  std::atomic<int> started = 0;
  std::atomic<int> stopped = 0;
  auto options = Options("a");
  options.on_started = [&] { ++started; };
  options.on_stopped = [&] { ++stopped; };
  LeaderElector a(client.get(), &clock, options);
  std::stop_source stop;
  Status outcome = MakeError(Code::kInternal, "unset");
  std::thread thread([&] { outcome = a.Run(stop.get_token()); });
  for (int i = 0; i < 200 && !a.IsLeader(); ++i) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_TRUE(a.IsLeader());
  stop.request_stop();
  thread.join();
  EXPECT_TRUE(outcome.has_value());
  EXPECT_FALSE(a.IsLeader());
  EXPECT_EQ(started, 1);
  EXPECT_EQ(stopped, 1);
  EXPECT_EQ(server.Holder(), "");

  LeaderElector b(client.get(), &clock, Options("b"));
  EXPECT_TRUE(*b.TryAcquireOrRenew(LeaseDeadline(), {}));
  EXPECT_EQ(server.Holder(), "b");
}

// The API server may write the renewal whose answer `stop` cut off: what was last read is then not the last version.
TEST(LeaderElectorTest, AReleaseThatMeetsALateRenewalLooksAgain) {
  LeaseServer server;
  auto client = server.Connect();
  SystemClock clock;
  LeaderElector a(client.get(), &clock, Options("a"));
  std::stop_source stop;
  std::thread thread([&] { EXPECT_TRUE(a.Run(stop.get_token()).has_value()); });
  for (int i = 0; i < 2000 && !a.IsLeader(); ++i) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_TRUE(a.IsLeader());
  server.WriteLate();
  stop.request_stop();
  thread.join();
  EXPECT_EQ(server.Holder(), "");
}

TEST(LeaderElectorTest, LeadershipIsLostWhenRenewalFailsForLong) {
  LeaseServer server;
  auto client = server.Connect();
  SystemClock clock;
  auto options = Options("a");
  options.lease_duration = milliseconds(5000);
  options.renew_deadline = milliseconds(500);
  options.retry_period = milliseconds(40);
  std::atomic<bool> stopped = false;
  options.on_stopped = [&] { stopped = true; };
  options.on_started = [&] { server.SetDown(true); };
  LeaderElector a(client.get(), &clock, options);
  const auto begun = std::chrono::steady_clock::now();
  const Status outcome = a.Run({});
  const auto took = std::chrono::steady_clock::now() - begun;
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().code, Code::kAborted);
  EXPECT_GE(took, milliseconds(450));
  EXPECT_LT(took, options.lease_duration) << "still thought to be leading when another may";
  EXPECT_TRUE(stopped);
  EXPECT_EQ(server.Holder(), "a") << "what may be another's is not released";
}

TEST(LeaderElectorTest, AShortOutageIsNoLoss) {
  LeaseServer server;
  auto client = server.Connect();
  SystemClock clock;
  auto options = Options("a");
  options.renew_deadline = milliseconds(2000);
  options.retry_period = milliseconds(20);
  LeaderElector a(client.get(), &clock, options);
  std::stop_source stop;
  Status outcome;
  std::thread thread([&] { outcome = a.Run(stop.get_token()); });
  for (int i = 0; i < 200 && !a.IsLeader(); ++i) std::this_thread::sleep_for(milliseconds(5));
  server.SetDown(true);
  std::this_thread::sleep_for(milliseconds(200));
  server.SetDown(false);
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_TRUE(a.IsLeader());
  stop.request_stop();
  thread.join();
  EXPECT_TRUE(outcome.has_value());
}

}  // namespace
}  // namespace pgtier::kube
