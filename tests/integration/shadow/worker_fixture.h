// A table t (id, v) in tier notify, and pgtier-worker in mode notify beside it, as a process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "lib/http/client.h"
#include "tests/integration/shadow/shadow_fixture.h"
#include "tests/integration/shadow/worker_process.h"

namespace pgtier::testing {

class WithWorker : public WithDatabase {
 protected:
  void SetUp() override {
    WithDatabase::SetUp();
    if (IsSkipped()) return;
    Run("CREATE TABLE t (id integer PRIMARY KEY, v integer)");
    spec_ = SpecOf({"t"});
    Install(spec_);
    ASSERT_TRUE(shadow::SwapBodies(admin(), spec_, shadow::Tier::kNotify, Soon()).has_value());
    Run("ALTER ROLE pgtier_shadow_notify PASSWORD 'secret'");
    folder_.Write("password", "secret\n");
    Configure("");
  }
  void Configure(const std::string& more) {
    auto options = server().Options(database());
    options.user = "pgtier_shadow_notify";
    folder_.Write("worker.json", WorkerConfig(folder_, options, "notify", "data/audit", more));
  }
  std::unique_ptr<test::ChildProcess> StartWorker() {
    return testing::StartWorker(folder_.path() + "/worker.json", folder_.path() + "/log");
  }
  std::string Log() { return folder_.Read("log"); }
  void Await(const std::string& what, const std::function<bool()>& holds) {
    Deadline deadline = Deadline::After(std::chrono::seconds(60));
    while (!holds()) {
      ASSERT_FALSE(deadline.Expired()) << what << "; the worker said: " << Log();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  void AwaitRows(int count) {
    Await("rows in the history: " + std::to_string(count),
          [&] { return Read("SELECT count(*) FROM t_history") == std::to_string(count) + "\n"; });
  }
  bool Asleep() {
    return Read(
               "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 7047001 AND mode ="
               " 'ExclusiveLock' AND granted") == "1\n";
  }
  std::string Page(const std::string& path) {
    std::string log = Log();
    size_t at = log.rfind("\"port\":");
    if (at == std::string::npos) return "";
    http::ClientOptions options;
    options.base_url = "http://127.0.0.1:" + std::to_string(std::stoi(log.substr(at + 7)));
    auto client = http::Client::Create(options);
    if (!client.has_value()) return client.error().message;
    http::Request request;
    request.path_and_query = path;
    auto response = (*client)->Send(request, Soon(), {});
    return response.has_value() ? std::to_string(response->status) + " " + response->body : response.error().message;
  }
  ServerFolder folder_;
  shadow::Spec spec_;
};

}  // namespace pgtier::testing
