// The cache must never show a writer less than it has written, however watch and answers overtake each other.
#include "lib/kube/object_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <thread>

#include "tests/fake/fake_transport.h"

namespace pgtier::kube {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

json ConfigMap(const std::string& name, const std::string& version, const std::string& owner = "kyoyu") {
  return {{"apiVersion", "v1"},
          {"kind", "ConfigMap"},
          {"metadata",
           {{"namespace", "db"},
            {"name", name},
            {"uid", "u-" + name},
            {"resourceVersion", version},
            {"labels", {{"owner", owner}}},
            {"managedFields", json::array({{{"manager", "somebody"}}})}}},
          {"data", {{"version", version}}}};
}

// A server of ConfigMaps with one watch, each of whose frames is sent by the test.
class ObjectCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    auto transport =
        std::make_unique<fake::FakeTransport>([this](const http::Request& request) { return Answer(request); },
                                              [this](const http::Request&, const http::OnData& on_data,
                                                     const std::stop_token& stop) { return Follow(on_data, stop); });
    client_ = std::make_unique<Client>(std::move(transport), ClientOptions{});
    ObjectCacheOptions options;
    options.resources = {kConfigMaps};
    options.label = "owner";
    options.patience = milliseconds(50);
    options.tuning.backoff_min = milliseconds(1);
    options.tuning.backoff_max = milliseconds(2);
    cache_ = std::make_unique<ObjectCache>(
        client_.get(), std::move(options),
        [this](const ObjectKey& owner) {
          std::lock_guard lock(mutex_);
          woken_.push_back(owner.name);
        },
        nullptr);
    Send("ADDED", ConfigMap("a", "1"));
    Send("ADDED", ConfigMap("of-another", "2", "another"));
    Send("BOOKMARK",
         {{"metadata", {{"resourceVersion", "2"}, {"annotations", {{"k8s.io/initial-events-end", "true"}}}}}});
    cache_->Start();
    ASSERT_TRUE(Eventually([this] { return cache_->synced(); }));
    std::lock_guard lock(mutex_);
    woken_.clear();
  }

  // A frame on the watch.
  void Send(const std::string& type, const json& object) {
    std::lock_guard lock(mutex_);
    frames_.push_back(json{{"type", type}, {"object", object}}.dump() + "\n");
    wake_.notify_all();
  }
  // The same, and waits until the cache has taken it.
  void SendAndSettle(const std::string& type, const json& object) {
    Send(type, object);
    ASSERT_TRUE(Eventually([this] {
      std::lock_guard lock(mutex_);
      return frames_.empty() && !handling_;
    }));
  }
  void BreakTheWatch(bool broken) {
    std::lock_guard lock(mutex_);
    broken_ = broken;
    wake_.notify_all();
  }

  template <typename Condition>
  static bool Eventually(const Condition& condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }

  // "name=version" of what is there for kyoyu, or the error.
  std::vector<std::string> Read() {
    auto read = cache_->Read({"db", "kyoyu"}, Deadline::After(seconds(10)), {});
    if (!read.has_value()) return {read.error().message};
    std::vector<std::string> objects;
    for (const auto& each : *read) {
      EXPECT_EQ(each.resource->plural, "configmaps");
      EXPECT_EQ(each.object.at("kind"), "ConfigMap");
      objects.push_back(KeyOf(each.object).name + "=" + each.object["data"]["version"].get<std::string>());
    }
    return objects;
  }
  int lists() {
    std::lock_guard lock(mutex_);
    return lists_;
  }
  std::vector<std::string> Woken() {
    std::lock_guard lock(mutex_);
    return woken_;
  }

  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::deque<std::string> frames_;
  bool handling_ = false;
  bool broken_ = false;
  int lists_ = 0;
  json listed_ = json::array({ConfigMap("a", "1")});  // what a LIST gives
  std::function<Result<http::Response>()> on_write_;
  std::vector<std::string> woken_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<ObjectCache> cache_;

 private:
  Result<http::Response> Answer(const http::Request& request) {
    if (request.method != "GET") return on_write_();
    std::lock_guard lock(mutex_);
    ++lists_;
    if (broken_ && listed_.is_null()) return MakeError(Code::kUnavailable, "nobody there");
    EXPECT_THAT(request.path_and_query, testing::HasSubstr("labelSelector=owner%3Dkyoyu"));
    return http::Response{200, json{{"items", listed_}}.dump(), "", {}};
  }

  Status Follow(const http::OnData& on_data, const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    if (broken_) return MakeError(Code::kUnavailable, "nobody there");
    lock.unlock();
    PGTIER_RETURN_IF_ERROR(on_data(http::Response{200, "", "", {}}, ""));
    lock.lock();
    while (wake_.wait(lock, stop, [this] { return broken_ || !frames_.empty(); })) {
      if (broken_) return MakeError(Code::kUnavailable, "broken off");
      const std::string frame = frames_.front();
      frames_.pop_front();
      handling_ = true;
      lock.unlock();
      const Status done = on_data(http::Response{200, "", "", {}}, frame);
      lock.lock();
      handling_ = false;
      if (!done.has_value()) return done;
    }
    return MakeError(Code::kCancelled, "stopped");
  }
};

http::Response Ok(const json& object) { return {200, object.dump(), "", {}}; }

TEST_F(ObjectCacheTest, AnswersWithoutAskingAndWakesTheOwner) {
  EXPECT_THAT(Read(), ElementsAre("a=1"));
  SendAndSettle("MODIFIED", ConfigMap("a", "3"));
  EXPECT_THAT(Read(), ElementsAre("a=3"));
  EXPECT_THAT(Woken(), ElementsAre("kyoyu"));
  SendAndSettle("DELETED", ConfigMap("a", "4"));
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_EQ(lists(), 0);
}

TEST_F(ObjectCacheTest, AnObjectThatChangesItsOwnerWakesBoth) {
  SendAndSettle("MODIFIED", ConfigMap("of-another", "3"));
  EXPECT_THAT(Read(), ElementsAre("a=1", "of-another=3"));
  EXPECT_THAT(Woken(), testing::UnorderedElementsAre("another", "kyoyu"));
}

TEST_F(ObjectCacheTest, ReadsAreAskedForUntilTheWatchHasBroughtOnesOwnWrite) {
  on_write_ = [] { return Ok(ConfigMap("a", "5")); };
  ASSERT_TRUE(client_->Apply(kConfigMaps, ConfigMap("a", "1"), true, Deadline::After(seconds(10))).has_value());
  listed_ = json::array({ConfigMap("a", "5")});
  EXPECT_THAT(Read(), ElementsAre("a=5"));
  EXPECT_THAT(Read(), ElementsAre("a=5"));
  EXPECT_EQ(lists(), 2);
  SendAndSettle("MODIFIED", ConfigMap("a", "5"));
  EXPECT_THAT(Read(), ElementsAre("a=5"));
  EXPECT_EQ(lists(), 2);
  EXPECT_THAT(Woken(), IsEmpty()) << "one's own write is no news";
  SendAndSettle("MODIFIED", ConfigMap("a", "6"));
  EXPECT_THAT(Woken(), ElementsAre("kyoyu"));
}

TEST_F(ObjectCacheTest, AWatchThatIsFasterThanTheAnswer) {
  on_write_ = [this] {
    SendAndSettle("MODIFIED", ConfigMap("a", "5"));
    return Ok(ConfigMap("a", "5"));
  };
  ASSERT_TRUE(client_->Apply(kConfigMaps, ConfigMap("a", "1"), true, Deadline::After(seconds(10))).has_value());
  EXPECT_THAT(Read(), ElementsAre("a=5"));
  EXPECT_THAT(Woken(), IsEmpty());
  on_write_ = [this] {
    SendAndSettle("MODIFIED", ConfigMap("a", "7"));
    SendAndSettle("MODIFIED", ConfigMap("a", "8"));  // another's, after ours
    return Ok(ConfigMap("a", "7"));
  };
  ASSERT_TRUE(client_->Apply(kConfigMaps, ConfigMap("a", "1"), true, Deadline::After(seconds(10))).has_value());
  EXPECT_THAT(Read(), ElementsAre("a=8"));
  EXPECT_THAT(Woken(), ElementsAre("kyoyu"));
  EXPECT_EQ(lists(), 0);
}

TEST_F(ObjectCacheTest, AnApplyThatChangesNothingIsNotWaitedFor) {
  on_write_ = [] { return Ok(ConfigMap("a", "1")); };
  ASSERT_TRUE(client_->Apply(kConfigMaps, ConfigMap("a", "1"), true, Deadline::After(seconds(10))).has_value());
  EXPECT_THAT(Read(), ElementsAre("a=1"));
  EXPECT_EQ(lists(), 0);
}

TEST_F(ObjectCacheTest, ARefusedWriteChangedNothing) {
  on_write_ = [] { return http::Response{422, R"({"kind":"Status","reason":"Invalid"})", "", {}}; };
  ASSERT_FALSE(client_->Apply(kConfigMaps, ConfigMap("a", "1"), true, Deadline::After(seconds(10))).has_value());
  EXPECT_THAT(Read(), ElementsAre("a=1"));
  EXPECT_EQ(lists(), 0);
}

TEST_F(ObjectCacheTest, AnUnknownOutcomeIsAskedForUntilListAndCacheAgree) {
  on_write_ = [] { return Result<http::Response>(MakeError(Code::kUnavailable, "reset")); };
  ASSERT_FALSE(client_->Apply(kConfigMaps, ConfigMap("b", "1"), true, Deadline::After(seconds(10))).has_value());
  listed_ = json::array({ConfigMap("a", "1"), ConfigMap("b", "5")});
  EXPECT_THAT(Read(), ElementsAre("a=1", "b=5")) << "it was written after all";
  SendAndSettle("ADDED", ConfigMap("b", "5"));
  EXPECT_THAT(Read(), ElementsAre("a=1", "b=5"));
  EXPECT_EQ(lists(), 2);
  EXPECT_THAT(Read(), ElementsAre("a=1", "b=5"));
  EXPECT_EQ(lists(), 2);
}

TEST_F(ObjectCacheTest, AVersionThatTheWatchSkippedIsSettledByTheList) {
  on_write_ = [] { return Ok(ConfigMap("a", "5")); };
  ASSERT_TRUE(client_->Apply(kConfigMaps, ConfigMap("a", "1"), true, Deadline::After(seconds(10))).has_value());
  SendAndSettle("MODIFIED", ConfigMap("a", "9"));  // as after a list: 5 was never an event
  listed_ = json::array({ConfigMap("a", "9")});
  EXPECT_THAT(Read(), ElementsAre("a=9"));
  EXPECT_EQ(lists(), 1);
  EXPECT_THAT(Read(), ElementsAre("a=9"));
  EXPECT_EQ(lists(), 1);
}

TEST_F(ObjectCacheTest, DeletionsAreWaitedForToo) {
  on_write_ = [] { return Ok({{"kind", "Status"}, {"status", "Success"}}); };
  ASSERT_TRUE(client_->Delete(kConfigMaps, {"db", "a"}, {}, Deadline::After(seconds(10))).has_value());
  listed_ = json::array();
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_EQ(lists(), 1);
  SendAndSettle("DELETED", ConfigMap("a", "6"));
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_EQ(lists(), 1);
}

// A finalizer keeps it: the answer is the object as it waits.
TEST_F(ObjectCacheTest, ADeletionThatWaits) {
  on_write_ = [] { return Ok(ConfigMap("a", "5")); };
  ASSERT_TRUE(client_->Delete(kConfigMaps, {"db", "a"}, {}, Deadline::After(seconds(10))).has_value());
  listed_ = json::array({ConfigMap("a", "5")});
  EXPECT_THAT(Read(), ElementsAre("a=5"));
  EXPECT_EQ(lists(), 1);
  SendAndSettle("MODIFIED", ConfigMap("a", "5"));
  EXPECT_THAT(Read(), ElementsAre("a=5"));
  EXPECT_EQ(lists(), 1);
}

TEST_F(ObjectCacheTest, ABrokenWatchIsNotReliedOn) {
  BreakTheWatch(true);
  listed_ = json::array({ConfigMap("a", "3"), ConfigMap("b", "4")});
  ASSERT_TRUE(Eventually([this] { return Read() == std::vector<std::string>{"a=3", "b=4"}; }));
  listed_ = nullptr;
  EXPECT_THAT(Read(), ElementsAre(testing::HasSubstr("nobody there"))) << "an outage passes for nothing there";
  const int before = lists();
  BreakTheWatch(false);
  ASSERT_TRUE(Eventually([this] { return Read() == std::vector<std::string>{"a=1"}; }));
  const int recovered = lists();
  EXPECT_GT(recovered, 0);
  EXPECT_GE(recovered, before);
  EXPECT_THAT(Read(), ElementsAre("a=1"));
  EXPECT_EQ(lists(), recovered);
}

}  // namespace
}  // namespace pgtier::kube
