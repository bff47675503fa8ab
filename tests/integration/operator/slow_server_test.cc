// The program behind an API server that is slow, or stands still for a while: nothing is done twice, and one that
// cannot renew its lease stops leading before another one begins.
#include <gmock/gmock.h>

#include <thread>

#include "tests/integration/operator/operator_program.h"
#include "tests/integration/operator/slow_proxy.h"

namespace pgtier::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class SlowServer : public OperatorProgramTest {
 protected:
  void SetUp() override {
    OperatorProgramTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    GrantRole();
    std::string url = server().url();
    proxy_ = std::make_unique<SlowProxy>(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
  }

  std::unique_ptr<ChildProcess> StartBehindProxy(const std::string& name) {
    return Start(name, KubeconfigOfNobody("https://127.0.0.1:" + std::to_string(proxy_->port())),
                 {"--watch-namespace=" + namespace_name()});
  }
  // How often the server took that kind of word in a log.
  [[nodiscard]] int Count(const std::string& log, const std::string& words) const {
    std::string text = Log(log);
    int count = 0;
    for (size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++count;
    return count;
  }
  // When a log says that, as it words times: they compare as text.
  [[nodiscard]] std::string TimeOf(const std::string& log, const std::string& words) const {
    std::string text = Log(log);
    size_t at = text.find(words);
    size_t line = at == std::string::npos ? at : text.rfind("{\"ts\":\"", at);
    return line == std::string::npos ? "" : text.substr(line + 7, 24);
  }
  [[nodiscard]] std::string Password() const {
    auto secret = client()->Get(kube::kSecrets, {namespace_name(), "dev-internal"}, Soon());
    return secret.has_value() ? (*secret)["data"].dump() : "";
  }

  std::unique_ptr<SlowProxy> proxy_;
};

// Each object is applied once although watches show it long after it was written.
TEST_F(SlowServer, NothingIsMadeTwiceWhereEverythingArrivesLate) {
  proxy_->SetDelay(milliseconds(300));
  MakePolicy(namespace_name(), "dev");
  auto program = StartBehindProxy("operator");
  ASSERT_TRUE(Eventually([&] { return HasStatus(namespace_name(), "dev"); }));
  std::map<std::string, std::string> made = Owned(namespace_name());
  EXPECT_EQ(made.size(), kOwnedByOne);
  // Some passes more: children wake their owner when the watches at last show them.
  std::this_thread::sleep_for(seconds(4));
  EXPECT_EQ(Owned(namespace_name()), made) << "written again";
  EXPECT_EQ(Count("operator", "\"msg\":\"applied\""), static_cast<int>(kOwnedByOne));
}

TEST_F(SlowServer, AServerThatStandsStillForAMomentKeepsItsLeader) {
  MakePolicy(namespace_name(), "dev");
  auto program = StartBehindProxy("operator");
  ASSERT_TRUE(Eventually([&] { return HasStatus(namespace_name(), "dev"); }));
  const std::string holder = LeaseHolder();
  std::map<std::string, std::string> made = Owned(namespace_name());
  const std::string password = Password();
  proxy_->StandStill(true);
  std::this_thread::sleep_for(seconds(4));
  // Deleted while nobody hears of it: it must come back once, by the watch that goes on.
  ASSERT_TRUE(client()->Delete(kube::kServices, {namespace_name(), "dev-ro"}, {}, Soon()).has_value());
  proxy_->StandStill(false);
  EXPECT_TRUE(Eventually([&] { return Owned(namespace_name()).size() == kOwnedByOne; }));
  std::map<std::string, std::string> after = Owned(namespace_name());
  made.erase("Service dev-ro");
  after.erase("Service dev-ro");
  EXPECT_EQ(after, made);
  EXPECT_EQ(Password(), password);
  EXPECT_EQ(LeaseHolder(), holder);
  EXPECT_TRUE(program->Running());
  EXPECT_THAT(Log("operator"), Not(HasSubstr("leadership lost")));
}

TEST_F(SlowServer, ALeaderThatIsCutOffEndsAndTheNextDoesNothingTwice) {
  MakePolicy(namespace_name(), "dev");
  auto first = StartBehindProxy("first");
  ASSERT_TRUE(Eventually([&] { return HasStatus(namespace_name(), "dev"); }));
  const std::string holder = LeaseHolder();
  auto second = Start("second", KubeconfigOfNobody(server().url()), {"--watch-namespace=" + namespace_name()});
  ASSERT_TRUE(Eventually([&] { return Log("second").find("caches are synced") != std::string::npos; }));
  std::map<std::string, std::string> made = Owned(namespace_name());
  const std::string password = Password();
  EXPECT_EQ(LeaseHolder(), holder) << "one leads, the other waits";
  proxy_->StandStill(true);
  // By its own clock it stops before anybody else may believe that it has.
  EXPECT_TRUE(Eventually([&] { return !first->Running(); }));
  EXPECT_EQ(first->Wait(), 1);
  EXPECT_THAT(Log("first"), HasSubstr("leadership lost"));
  EXPECT_TRUE(Eventually([&] { return LeaseHolder() != holder; }));
  EXPECT_TRUE(Eventually([&] { return Log("second").find("became leader") != std::string::npos; }));
  EXPECT_LT(TimeOf("first", "leadership lost"), TimeOf("second", "became leader"));
  nlohmann::json paced{{"spec", {{"metrics", {{"interval", "6s"}}}}}};
  ASSERT_TRUE(client()->MergePatch(kScaleTierPolicies, {namespace_name(), "dev"}, paced, Soon()).has_value());
  EXPECT_TRUE(Eventually([&] { return HasStatus(namespace_name(), "dev"); })) << "it works";
  EXPECT_EQ(Owned(namespace_name()), made);
  EXPECT_EQ(Password(), password);
  EXPECT_EQ(Count("second", "\"msg\":\"applied\""), 0);
}

}  // namespace
}  // namespace pgtier::test
