// The reflector against a real API server, with the server's bad days.
#include "lib/kube/reflector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <thread>

#include "tests/integration/kube/api_server.h"

namespace pgtier::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class KubeReflectorTest : public test::ApiServerTest {
 protected:
  static Deadline Soon() { return Deadline::After(seconds(20)); }

  void Watch(bool metadata_only = false, bool use_watch_list = true) {
    WatchTuning tuning;
    tuning.backoff_min = milliseconds(50);
    tuning.backoff_max = milliseconds(500);
    tuning.page_size = 2;
    tuning.use_watch_list = use_watch_list;
    reflector_ = std::make_unique<Reflector<std::string>>(
        client(), WatchScope{kConfigMaps, namespace_name(), "", "", metadata_only},
        [](const nlohmann::json& object) -> Result<std::string> {
          return StringAt(object, {"data", "k"}) + StringAt(object, {"metadata", "labels", "l"});
        },
        [this](const ObjectKey& key, const auto& before, const auto& now) {
          std::lock_guard lock(mutex_);
          heard_.push_back(key.name + ":" + (before == nullptr ? "-" : *before) + ">" + (now == nullptr ? "-" : *now));
        },
        Reflector<std::string>::OnUndecodable(), nullptr, tuning);
    thread_ = std::jthread([this](const std::stop_token& stop) { reflector_->Run(stop); });
  }
  void Apply(const std::string& name, const std::string& value) {
    const nlohmann::json object = {
        {"metadata", {{"namespace", namespace_name()}, {"name", name}, {"labels", {{"l", "L"}}}}},
        {"data", {{"k", value}}}};
    auto applied = client()->Apply(kConfigMaps, object, true, Soon());
    ASSERT_TRUE(applied.has_value()) << applied.error().message;
  }
  void Delete(const std::string& name) {
    ASSERT_TRUE(client()->Delete(kConfigMaps, {namespace_name(), name}, {}, Soon()).has_value());
  }
  std::string Held() const {
    std::map<std::string, std::string> sorted;
    for (const auto& [key, object] : reflector_->store().List()) sorted[key.name] = *object;
    std::string held;
    for (const auto& [name, value] : sorted) held += (held.empty() ? "" : " ") + name + "=" + value;
    return held;
  }
  bool Holds(const std::string& expected) const {
    for (int i = 0; i < 4000; ++i) {
      if (reflector_->synced() && Held() == expected) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }
  std::vector<std::string> Heard() {
    std::lock_guard lock(mutex_);
    return heard_;
  }

  std::mutex mutex_;
  std::vector<std::string> heard_;
  std::unique_ptr<Reflector<std::string>> reflector_;
  std::jthread thread_;
};

TEST_F(KubeReflectorTest, SeesWhatComesChangesAndGoes) {
  Apply("a", "1");
  Watch();
  ASSERT_TRUE(Holds("a=1L")) << Held();
  Apply("b", "1");
  Apply("a", "2");
  ASSERT_TRUE(Holds("a=2L b=1L")) << Held();
  Delete("a");
  ASSERT_TRUE(Holds("b=1L")) << Held();
  EXPECT_THAT(Heard(), testing::ElementsAre("a:->1L", "b:->1L", "a:1L>2L", "a:2L>-"));
}

TEST_F(KubeReflectorTest, MetadataOnly) {
  Apply("a", "1");
  Watch(/*metadata_only=*/true);
  ASSERT_TRUE(Holds("a=L")) << Held();
}

TEST_F(KubeReflectorTest, ListedInPages) {
  for (const char* name : {"a", "b", "c", "d", "e"}) Apply(name, "1");
  Watch(false, /*use_watch_list=*/false);
  ASSERT_TRUE(Holds("a=1L b=1L c=1L d=1L e=1L")) << Held();
  Apply("b", "2");
  Delete("e");
  ASSERT_TRUE(Holds("a=1L b=2L c=1L d=1L")) << Held();
}

TEST_F(KubeReflectorTest, SurvivesAServerThatIsKilled) {
  Apply("a", "1");
  Watch();
  ASSERT_TRUE(Holds("a=1L")) << Held();
  server().Kill();
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(Held(), "a=1L") << "what is known is forgotten because nobody answers";
  server().Start();
  Apply("a", "2");
  Apply("b", "1");
  ASSERT_TRUE(Holds("a=2L b=1L")) << Held();
}

// What went while nobody watched, with the history thrown away: only a new list can tell.
TEST_F(KubeReflectorTest, SurvivesACompactedHistory) {
  Apply("a", "1");
  Apply("gone", "1");
  Watch();
  ASSERT_TRUE(Holds("a=1L gone=1L")) << Held();
  server().Kill();
  server().DeleteFromEtcd("/registry/configmaps/" + namespace_name() + "/gone");
  server().CompactEtcd();
  server().Start();
  ASSERT_TRUE(Holds("a=1L")) << Held();
  Apply("b", "1");
  ASSERT_TRUE(Holds("a=1L b=1L")) << Held();
  EXPECT_THAT(Heard(), testing::ElementsAre("a:->1L", "gone:->1L", "gone:1L>-", "b:->1L"));
}

}  // namespace
}  // namespace pgtier::kube
