#include "lib/kube/event_recorder.h"

#include <gtest/gtest.h>

#include <mutex>
#include <semaphore>
#include <vector>

#include "lib/kube/json.h"
#include "tests/fake/fake_transport.h"
#include "tests/fake/manual_clock.h"

namespace pgtier::kube {
namespace {

using std::chrono::seconds;

class EventRecorderTest : public testing::Test {
 protected:
  EventRecorderOptions Options() {
    EventRecorderOptions options;
    options.instance = "pod-1";
    return options;
  }
  Event Climbed(const std::string& note = "climbed to replicas") {
    return {{"pgtier.dev/v1alpha1", "ScaleTierPolicy", "shop", "orders", "u1"}, false, "Climbed", "Climb", note};
  }
  // Gives the recorder time to write; its own waits are by the real clock.
  void Record(EventRecorder& recorder, const Event& event) {
    recorder.Record(event);
    ASSERT_TRUE(recorder.Flush(Deadline::After(seconds(5))));
  }
  std::vector<http::Request> Requests() {
    std::lock_guard lock(mutex_);
    return std::exchange(requests_, {});
  }

  std::mutex mutex_;
  std::vector<http::Request> requests_;
  std::function<int(const http::Request&)> answer_ = [](const http::Request&) { return 201; };
  fake::ManualClock clock_;
  Metrics metrics_;
  Client client_{std::make_unique<fake::FakeTransport>([this](const http::Request& request) -> Result<http::Response> {
                   {
                     std::lock_guard lock(mutex_);
                     requests_.push_back(request);
                   }
                   http::Response response;
                   response.status = answer_(request);
                   response.body = "{}";
                   return response;
                 }),
                 {}};
};

TEST_F(EventRecorderTest, ANewEvent) {
  EventRecorder recorder(&client_, &clock_, &metrics_, Options());
  Record(recorder, Climbed());
  auto requests = Requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].method, "POST");
  EXPECT_EQ(requests[0].path_and_query, "/apis/events.k8s.io/v1/namespaces/shop/events?fieldManager=pgtier");
  const auto object = *ParseJson(requests[0].body);
  EXPECT_EQ(StringAt(object, {"regarding", "uid"}), "u1");
  EXPECT_EQ(StringAt(object, {"type"}), "Normal");
  EXPECT_EQ(StringAt(object, {"reason"}), "Climbed");
  EXPECT_EQ(StringAt(object, {"action"}), "Climb");
  EXPECT_EQ(StringAt(object, {"reportingInstance"}), "pod-1");
  EXPECT_EQ(StringAt(object, {"metadata", "name"}).rfind("orders.", 0), 0U);
  EXPECT_TRUE(At(object, {"series"}).is_null());
}

TEST_F(EventRecorderTest, ARepeatBecomesASeries) {
  EventRecorder recorder(&client_, &clock_, &metrics_, Options());
  Record(recorder, Climbed());
  Requests();
  clock_.Advance(seconds(10));
  Record(recorder, Climbed());
  auto requests = Requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].method, "PATCH");
  EXPECT_EQ(IntAt(*ParseJson(requests[0].body), {"series", "count"}), 2);
  Record(recorder, Climbed());
  Record(recorder, Climbed());
  EXPECT_EQ(Requests().size(), 0U) << "each repeat was written";
  clock_.Advance(seconds(31));
  Record(recorder, Climbed());
  requests = Requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(IntAt(*ParseJson(requests[0].body), {"series", "count"}), 5);

  Record(recorder, Climbed("climbed to shards"));
  EXPECT_EQ(Requests().size(), 1U) << "another note is another event";
  clock_.Advance(std::chrono::minutes(7));
  Record(recorder, Climbed());
  requests = Requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].method, "POST") << "the series is over";
}

TEST_F(EventRecorderTest, ASeriesTheServerForgotBeginsAnew) {
  EventRecorder recorder(&client_, &clock_, &metrics_, Options());
  Record(recorder, Climbed());
  answer_ = [](const http::Request& request) { return request.method == "PATCH" ? 404 : 201; };
  Record(recorder, Climbed());
  auto requests = Requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[2].method, "POST");
}

TEST_F(EventRecorderTest, AFullQueueDropsAndNeverBlocks) {
  std::counting_semaphore<> gate(0);
  answer_ = [&](const http::Request&) {
    gate.acquire();
    return 201;
  };
  auto options = Options();
  options.queue_size = 3;
  {
    EventRecorder recorder(&client_, &clock_, &metrics_, options);
    for (int i = 0; i < 10; ++i) recorder.Record(Climbed(std::to_string(i)));
    EXPECT_FALSE(recorder.Flush(Deadline::After(std::chrono::milliseconds(50))));
    gate.release(10);
    EXPECT_TRUE(recorder.Flush(Deadline::After(seconds(5))));
  }
  const size_t written = Requests().size();
  EXPECT_GE(written, 3U);
  EXPECT_LE(written, 4U);
  EXPECT_NE(metrics_.Serialize().find("pgtier_events_dropped_total"), std::string::npos);
}

TEST_F(EventRecorderTest, LongNotesAreCutBetweenCharacters) {
  EventRecorder recorder(&client_, &clock_, &metrics_, Options());
  Record(recorder, Climbed(std::string(1023, 'x') + "\xC3\xA9" + "more"));
  const auto object = *ParseJson(Requests()[0].body);
  EXPECT_EQ(StringAt(object, {"note"}), std::string(1023, 'x'));
}

}  // namespace
}  // namespace pgtier::kube
