#include "lib/kube/exec_plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "lib/base/time_format.h"
#include "lib/kube/client.h"
#include "tests/fake/fault_server.h"
#include "tests/fake/manual_clock.h"

namespace pgtier::kube {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr char kV1[] = "client.authentication.k8s.io/v1";

class ExecPluginTest : public testing::Test {
 protected:
  ExecPluginTest() {
    std::string pattern = (fs::temp_directory_path() / "pgtier-exec-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~ExecPluginTest() override { fs::remove_all(directory_); }

  // A plugin of that script, which finds its folder in $D and counts its runs in $D/runs.
  ExecConfig Plugin(const std::string& script) const {
    ExecConfig config;
    config.command = (directory_ / "plugin").string();
    config.api_version = kV1;
    config.env = {{"D", directory_.string()}};
    config.exec_info = R"({"kind":"ExecCredential"})";
    std::ofstream(config.command) << "#!/bin/sh\nprintf . >> $D/runs\n" << script << "\n";
    chmod(config.command.c_str(), 0700);
    return config;
  }
  static std::string Print(const std::string& status) {
    return R"(printf '%s' '{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":)" +
           status + "}'";
  }
  std::string Read(const char* name) const {
    std::ifstream file(directory_ / name);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static Deadline Soon() { return Deadline::After(seconds(30)); }

  fs::path directory_;
};

TEST_F(ExecPluginTest, RunsTheCommandWithItsArgumentsAndEnvironment) {
  ExecConfig config = Plugin(
      "printf '%s|' \"$@\" > $D/args; printf '%s' \"$KUBERNETES_EXEC_INFO$EXTRA\" > $D/env;"
      "cat > $D/stdin; " +
      Print(R"({"token":"t0","expirationTimestamp":"2031-01-02T03:04:05Z"})"));
  config.args = {"get-token", "a b", ""};
  config.env.emplace_back("EXTRA", "more");
  auto credential = RunExecPlugin(config, Soon(), {});
  ASSERT_TRUE(credential.has_value()) << credential.error().message;
  EXPECT_EQ(credential->token, "t0");
  EXPECT_EQ(FormatTime(*credential->expires), "2031-01-02T03:04:05Z");
  EXPECT_EQ(Read("args"), "get-token|a b||");
  EXPECT_EQ(Read("env"), R"({"kind":"ExecCredential"}more)");
  EXPECT_EQ(Read("stdin"), "");
}

TEST_F(ExecPluginTest, FailuresAreSaidWithoutWhatWasPrinted) {
  struct Case {
    std::string script, message;
    Code code;
  };
  for (const auto& [script, message, code] : std::vector<Case>{
           {"echo hunter2; exit 3", "ended with code 3", Code::kUnauthenticated},
           {"echo hunter2; kill -9 $$", "ended with code 137", Code::kUnauthenticated},
           {"echo hunter2", "no ExecCredential", Code::kInvalidArgument},
           {"printf '{\"kind\":\"ExecCredential\",\"apiVersion\":\"x/v0\",\"status\":{\"token\":\"hunter2\"}}'",
            "it speaks x/v0", Code::kInvalidArgument},
           {Print(R"({"clientKeyData":"hunter2"})"), "without the other", Code::kInvalidArgument},
           {Print(R"({"expirationTimestamp":"2031-01-02T03:04:05Z"})"), "neither a token", Code::kInvalidArgument},
           {Print(R"({"token":"hunter2","expirationTimestamp":"soon"})"), "RFC 3339", Code::kInvalidArgument},
           {Print(R"({"token":"hunter2\nX: y"})"), "line breaks", Code::kInvalidArgument},
           {"head -c 2000000 /dev/zero", "too much", Code::kInvalidArgument}}) {
    auto credential = RunExecPlugin(Plugin(script), Soon(), {});
    ASSERT_FALSE(credential.has_value()) << script;
    EXPECT_EQ(credential.error().code, code) << credential.error().message;
    EXPECT_THAT(credential.error().message, AllOf(HasSubstr(message), HasSubstr("plugin"), Not(HasSubstr("hunter2"))));
  }
}

TEST_F(ExecPluginTest, ACommandThatIsNotThereNamesItsHint) {
  ExecConfig config;
  config.command = "pgtier-no-such-command";
  config.install_hint = "Get it from a friend";
  auto credential = RunExecPlugin(config, Soon(), {});
  EXPECT_EQ(credential.error().code, Code::kNotFound);
  EXPECT_THAT(credential.error().message, AllOf(HasSubstr(config.command), HasSubstr(config.install_hint)));
}

TEST_F(ExecPluginTest, ACommandThatHangsIsEndedWithItsChildren) {
  const ExecConfig config = Plugin("sleep 1000 & echo $! > $D/child; wait");
  auto credential = RunExecPlugin(config, Deadline::After(seconds(1)), {});
  EXPECT_EQ(credential.error().code, Code::kDeadlineExceeded);
  std::string child;
  for (int i = 0; i < 500 && child.empty(); ++i) {
    child = Read("child");
    std::this_thread::sleep_for(milliseconds(10));
  }
  ASSERT_FALSE(child.empty());
  // Gone, or a zombie of somebody's: not running.
  auto runs = [&] {
    std::ifstream status("/proc/" + std::to_string(std::stoi(child)) + "/stat");
    std::string line;
    std::getline(status, line);
    return !line.empty() && line.find(") Z") == std::string::npos;
  };
  for (int i = 0; i < 500 && runs(); ++i) std::this_thread::sleep_for(milliseconds(10));
  EXPECT_FALSE(runs());
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(RunExecPlugin(config, Soon(), stop.get_token()).error().code, Code::kCancelled);
}

TEST_F(ExecPluginTest, ACommandFindsNoSignalBlocked) {
  sigset_t block;
  sigset_t before;
  sigfillset(&block);
  pthread_sigmask(SIG_BLOCK, &block, &before);
  auto credential = RunExecPlugin(
      Plugin("grep -q 'SigBlk:.*[1-9a-f]' /proc/self/status && exit 1; " + Print(R"({"token":"t"})")), Soon(), {});
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_TRUE(credential.has_value()) << credential.error().message;
}

TEST_F(ExecPluginTest, ACredentialIsKeptUntilItExpiresOrIsRefused) {
  fake::ManualClock clock;
  ExecSource source(Plugin(Print(R"({"token":"'$(wc -c < $D/runs)'","expirationTimestamp":")" +
                                 FormatTime(clock.Now() + seconds(100)) + R"("})")),
                    &clock);
  auto token = [&] {
    auto current = source.Get(Soon(), {});
    return current.has_value() ? current->first.token + "/" + std::to_string(current->second) : current.error().message;
  };
  EXPECT_EQ(token(), "1/1");
  clock.Advance(seconds(90));
  EXPECT_EQ(token(), "1/1");
  source.Drop(0);
  EXPECT_EQ(token(), "1/1") << "another one was refused";
  source.Drop(1);
  EXPECT_EQ(token(), "2/2");
  source.Drop(2);
  EXPECT_EQ(token(), "2/2") << "run only a moment ago";
  clock.Advance(seconds(6));
  EXPECT_EQ(token(), "3/3") << "expired";
}

// From kubeconfig to the wire.
TEST_F(ExecPluginTest, TheTokenIsSentAndDroppedAtA401) {
  Plugin(Print(R"({"token":"t'$(wc -c < $D/runs)'"})"));
  std::mutex mutex;
  std::vector<std::string> tokens;
  fake::FaultServer server([&](fake::FaultConnection& connection) {
    for (std::string request; !(request = connection.ReadRequest()).empty();) {
      const size_t at = request.find("Bearer ");
      std::string token = at == std::string::npos ? "" : request.substr(at + 7, request.find('\r', at) - at - 7);
      std::lock_guard lock(mutex);
      tokens.push_back(token);
      connection.Reply(token == "t1" && tokens.size() > 1 ? 401 : 200, "{}");
    }
  });
  const std::string kubeconfig =
      "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
      "clusters: [{name: k, cluster: {server: '" +
      server.url() +
      "'}}]\n"
      "users: [{name: u, user: {exec: {command: ./plugin, apiVersion: " +
      kV1 + ", interactiveMode: Never, env: [{name: D, value: '" + directory_.string() + "'}]}}}]\n";
  auto config = ParseKubeconfig(kubeconfig, directory_);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  auto client = *Client::Connect(*config);
  auto get = [&] { return client->GetRaw("/version", Soon()).has_value(); };
  EXPECT_TRUE(get());
  EXPECT_FALSE(get()) << "refused, and the command was run a moment ago";
  std::this_thread::sleep_for(seconds(5));
  EXPECT_TRUE(get());
  EXPECT_THAT(tokens, testing::ElementsAre("t1", "t1", "t1", "t1", "t2"));
}

}  // namespace
}  // namespace pgtier::kube
