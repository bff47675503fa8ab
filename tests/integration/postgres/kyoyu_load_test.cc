#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lib/postgres/catalogue.h"
#include "tests/integration/postgres/pooler_test_base.h"

namespace pgtier::testing {
namespace {

using nlohmann::json;

// kyoyu-load as a child of the test; its standard output goes to a file.
class LoadProcess {
 public:
  LoadProcess(const std::vector<std::string>& flags, const std::string& password) {
    std::vector<std::string> words = {KYOYU_LOAD_PROGRAM};
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    std::string out = folder_.path() + "/out";
    pid_ = fork();
    if (pid_ == 0) {
      setenv("PGPASSWORD", password.c_str(), 1);
      dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~LoadProcess() {
    if (pid_ > 0) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
  }
  LoadProcess(const LoadProcess&) = delete;
  LoadProcess& operator=(const LoadProcess&) = delete;

  // Every line that is complete by now.
  [[nodiscard]] std::vector<json> Lines() const {
    std::stringstream text(folder_.Read("out"));
    std::vector<json> lines;
    for (std::string line; std::getline(text, line) && !text.eof();) lines.push_back(json::parse(line));
    return lines;
  }
  // SIGTERM, and its exit status.
  int Terminate() {
    kill(pid_, SIGTERM);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  ServerFolder folder_;
  pid_t pid_ = -1;
};

class KyoyuLoadTest : public WithPooler {
 protected:
  std::vector<std::string> Flags(int read_port) {
    return {"--write-host",     "127.0.0.1", "--write-port",    std::to_string(pooler().port()),
            "--read-host",      "127.0.0.1", "--read-port",     std::to_string(read_port),
            "--user",           kUser,       "--agents",        "3",
            "--seed-events",    "3000",      "--metrics-port",  "0",
            "--seed-decisions", "200",       "--warmup",        "1s",
            "--ramp",           "2s",        "--readers-start", "1",
            "--readers-max",    "8",         "--query-rate",    "30"};
  }
  // As a superuser, for extensions that only one may make.
  void AddExtensions(LocalPostgres& on, const std::vector<std::string>& names) {
    auto connection = on.Connect("kyoyu");
    ASSERT_TRUE(connection.has_value()) << connection.error().message;
    for (const auto& name : names) {
      auto ensured = postgres::EnsureExtension(*connection, name, Soon());
      ASSERT_TRUE(ensured.has_value()) << ensured.error().message;
    }
  }
};

TEST_F(KyoyuLoadTest, CountsNothingFailedWhileReadsMoveToAStandby) {
  AddExtensions(server(), {"vector"});
  StartPooler(SettingsFor(server().port()));
  auto reads = LocalPgBouncer::Start(SettingsFor(server().port()), {{kUser, kUserPassword}});
  ASSERT_TRUE(reads.has_value()) << reads.error().message;
  auto admin = poolers::PgBouncerAdmin::Open((*reads)->AdminOptions(), Soon());
  ASSERT_TRUE(admin.has_value());

  LoadProcess load(Flags((*reads)->port()), kUserPassword);
  ASSERT_TRUE(Eventually([&] { return load.Lines().size() >= 4; }));
  auto standby = LocalPostgres::StartStandby(server(), {});
  ASSERT_TRUE(standby.has_value()) << standby.error().message;
  auto primary = Connect();
  auto replica = *(*standby)->Connect();
  auto written = *postgres::CurrentLsn(primary, Soon());
  ASSERT_TRUE(Eventually([&] { return *postgres::CurrentLsn(replica, Soon()) >= written; }));
  ASSERT_TRUE((*reads)->WriteSettings(SettingsFor((*standby)->port())).has_value());
  ASSERT_TRUE(admin->Reload(Soon()).has_value());
  size_t before = load.Lines().size();
  ASSERT_TRUE(Eventually([&] { return load.Lines().size() >= before + 3; }));
  auto on_standby = replica.Query("SELECT FROM pg_stat_activity WHERE usename = $1", {kUser}, Soon());
  EXPECT_FALSE(on_standby->empty());

  EXPECT_EQ(load.Terminate(), 0);
  auto lines = load.Lines();
  const json& summary = lines.back();
  EXPECT_EQ(summary["failed_total"], 0) << summary.dump();
  EXPECT_EQ(summary["ledger_ok"], true) << summary.dump();
  EXPECT_EQ(summary["events_acknowledged"], summary["events_in_table"]);
  EXPECT_GT(summary["events_acknowledged"], 1000);
  EXPECT_GT(summary["decisions"], 5);
  EXPECT_GT(summary["queries"], 200);
  for (const char* type : {"structured", "temporal", "search"}) {
    EXPECT_GT(summary["latency_by_type"][type]["count"], 0) << type;
  }
  EXPECT_LT(summary["longest_stall_ms"], 5000) << summary.dump();
  EXPECT_EQ(lines.front()["phase"], "warmup");
  EXPECT_EQ(lines[lines.size() - 2]["phase"], "peak");
  EXPECT_EQ(lines[lines.size() - 2]["readers"], 8);
  EXPECT_TRUE(lines[1]["p95"].is_number());
}

TEST_F(KyoyuLoadTest, UsesAHypertableAndCountsWhatFailsWhenTheServerRestarts) {
  PostgresOptions options;
  options.conf = {"shared_preload_libraries = 'timescaledb'", "timescaledb.telemetry_level = off"};
  auto own = LocalPostgres::Start(options);
  ASSERT_TRUE(own.has_value()) << own.error().message;
  {
    auto connection = *(*own)->Connect();
    postgres::RoleSpec role;
    role.name = kUser;
    ASSERT_TRUE(postgres::EnsureRole(connection, role, kUserPassword, Soon()).has_value());
    ASSERT_TRUE(postgres::EnsureDatabase(connection, "kyoyu", kUser, Soon()).has_value());
  }
  AddExtensions(**own, {"vector"});
  StartPooler(SettingsFor((*own)->port()));
  LoadProcess load(Flags(pooler().port()), kUserPassword);
  ASSERT_TRUE(Eventually([&] { return load.Lines().size() >= 3; }));
  {
    auto connection = *(*own)->Connect("kyoyu");
    auto chunks = connection.Query("SELECT FROM timescaledb_information.chunks", Soon());
    ASSERT_TRUE(chunks.has_value()) << chunks.error().message;
    EXPECT_FALSE(chunks->empty());
  }
  ASSERT_TRUE((*own)->Restart().has_value());
  size_t before = load.Lines().size();
  ASSERT_TRUE(Eventually([&] {
    auto lines = load.Lines();
    return lines.size() >= before + 3 && lines.back()["failed"] == 0 && lines.back()["qps"] > 0;
  }));
  EXPECT_EQ(load.Terminate(), 0);
  const json summary = load.Lines().back();
  EXPECT_GT(summary["failed_total"], 0);
  EXPECT_FALSE(summary["errors"].empty());
  EXPECT_EQ(summary["ledger_ok"], true) << summary.dump();
  EXPECT_GT(summary["longest_gap_ms"], 0);
}

}  // namespace
}  // namespace pgtier::testing
