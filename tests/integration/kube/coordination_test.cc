// Leader election and events against a real API server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "lib/kube/event_recorder.h"
#include "lib/kube/json.h"
#include "lib/kube/leader_elector.h"
#include "tests/integration/kube/api_server.h"

namespace pgtier::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class CoordinationTest : public test::ApiServerTest {
 protected:
  SystemClock clock_;
};

// One candidate on a thread of its own.
class Candidate {
 public:
  Candidate(Client* client, const Clock* clock, const std::string& namespace_name, const std::string& identity,
            std::atomic<int>* leaders, Duration lease_duration = seconds(3))
      : elector_(client, clock, Options(namespace_name, identity, leaders, lease_duration)),
        thread_([this](const std::stop_token& stop) { outcome_ = elector_.Run(stop); }) {}

  bool LeadsSoon() {
    for (int i = 0; i < 2000 && !elector_.IsLeader(); ++i) std::this_thread::sleep_for(milliseconds(5));
    return elector_.IsLeader();
  }
  [[nodiscard]] bool Leads() const { return elector_.IsLeader(); }
  Status Stop() {
    thread_.request_stop();
    thread_.join();
    return outcome_;
  }

 private:
  static LeaderElectionOptions Options(const std::string& namespace_name, const std::string& identity,
                                       std::atomic<int>* leaders, Duration lease_duration) {
    LeaderElectionOptions options;
    options.lease = {namespace_name, "pgtier"};
    options.identity = identity;
    options.lease_duration = lease_duration;
    options.renew_deadline = seconds(2);
    options.retry_period = milliseconds(100);
    options.on_started = [leaders] { EXPECT_EQ(++*leaders, 1) << "two leaders"; };
    options.on_stopped = [leaders] { --*leaders; };
    return options;
  }

  LeaderElector elector_;
  Status outcome_;
  std::jthread thread_;
};

TEST_F(CoordinationTest, OneOfTwoLeadsAndHandsOver) {
  // So long that a busy machine's slowness does not look like a lease that ran out.
  constexpr Duration kLong = seconds(20);
  std::atomic<int> leaders = 0;
  Candidate a(client(), &clock_, namespace_name(), "a", &leaders, kLong);
  ASSERT_TRUE(a.LeadsSoon());
  Candidate b(client(), &clock_, namespace_name(), "b", &leaders, kLong);
  std::this_thread::sleep_for(seconds(1));
  EXPECT_FALSE(b.Leads());
  EXPECT_TRUE(a.Stop().has_value());
  const auto released = std::chrono::steady_clock::now();
  ASSERT_TRUE(b.LeadsSoon());
  EXPECT_LT(std::chrono::steady_clock::now() - released, kLong / 2) << "the lease was not released but ran out";
  EXPECT_TRUE(b.Stop().has_value());
}

TEST_F(CoordinationTest, ALeaderCutOffStopsBeforeAnotherBegins) {
  std::atomic<int> leaders = 0;
  Candidate a(client(), &clock_, namespace_name(), "a", &leaders);
  ASSERT_TRUE(a.LeadsSoon());
  server().Kill();
  for (int i = 0; i < 1000 && a.Leads(); ++i) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_FALSE(a.Leads());
  EXPECT_EQ(a.Stop().error().code, Code::kAborted);
  server().Start();
  Candidate b(client(), &clock_, namespace_name(), "b", &leaders);
  EXPECT_TRUE(b.LeadsSoon());
  EXPECT_TRUE(b.Stop().has_value());
}

TEST_F(CoordinationTest, EventsAndTheirSeries) {
  Metrics metrics;
  EventRecorderOptions options;
  options.instance = "pod-1";
  EventRecorder recorder(client(), &clock_, &metrics, options);
  const Event event{{"v1", "ConfigMap", namespace_name(), "orders", "u1"}, true, "Held", "Climb", "no demand"};
  recorder.Record(event);
  recorder.Record(event);
  ASSERT_TRUE(recorder.Flush(Deadline::After(seconds(20))));
  auto list = client()->List(kEvents, namespace_name(), {}, Deadline::After(seconds(20)));
  ASSERT_TRUE(list.has_value());
  ASSERT_EQ((*list)["items"].size(), 1U) << DumpJson(*list);
  const auto& written = (*list)["items"][0];
  EXPECT_EQ(IntAt(written, {"series", "count"}), 2);
  EXPECT_EQ(StringAt(written, {"note"}), "no demand");
  EXPECT_EQ(StringAt(written, {"type"}), "Warning");
  EXPECT_EQ(metrics.Serialize().find("failed"), std::string::npos);
}

}  // namespace
}  // namespace pgtier::kube
