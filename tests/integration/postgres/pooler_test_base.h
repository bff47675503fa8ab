// A primary with an application's role, and a PgBouncer before it.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <thread>

#include "lib/poolers/pgbouncer_admin.h"
#include "lib/postgres/objects.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {

class WithPooler : public WithServer {
 protected:
  static constexpr const char* kUser = "kyoyu_app";
  static constexpr const char* kUserPassword = "application's password";

  void SetUp() override {
    WithServer::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto connection = Connect();
    postgres::RoleSpec role;
    role.name = kUser;
    ASSERT_TRUE(postgres::EnsureRole(connection, role, kUserPassword, Soon()).has_value());
    ASSERT_TRUE(postgres::EnsureDatabase(connection, "kyoyu", kUser, Soon()).has_value());
  }

  // The database kyoyu, on the server at that port; pools small enough for a test's server.
  static poolers::PgBouncerSettings SettingsFor(int port) {
    poolers::PgBouncerSettings settings;
    poolers::PgBouncerDatabase database;
    database.name = "kyoyu";
    database.hosts = {"127.0.0.1"};
    database.port = port;
    settings.databases = {database};
    settings.default_pool_size = 5;
    settings.min_pool_size = 0;
    settings.reserve_pool_size = 0;
    return settings;
  }

  void StartPooler(const poolers::PgBouncerSettings& settings) {
    auto started = LocalPgBouncer::Start(settings, {{kUser, kUserPassword}});
    ASSERT_TRUE(started.has_value()) << started.error().message;
    pooler_ = *std::move(started);
  }
  LocalPgBouncer& pooler() { return *pooler_; }

  poolers::PgBouncerAdmin Admin() {
    auto admin = poolers::PgBouncerAdmin::Open(pooler().AdminOptions(), Soon());
    if (!admin.has_value()) throw std::runtime_error(admin.error().message);
    return *std::move(admin);
  }
  Result<postgres::Connection> Client(const std::string& database = "kyoyu") {
    return postgres::Connection::Open(pooler().Options(database, kUser, kUserPassword), Soon());
  }
  // What runs otherwise than the settings that were written last.
  std::vector<poolers::Difference> Differences(poolers::PgBouncerAdmin& admin) {
    auto config = admin.ShowConfig(Soon());
    auto databases = admin.ShowDatabases(Soon());
    EXPECT_TRUE(config.has_value() && databases.has_value());
    return *poolers::CompareWithRunning(pooler().settings(), *config, *databases);
  }

  static bool Eventually(const std::function<bool()>& holds) {
    Deadline deadline = Soon();
    while (!deadline.Expired()) {
      if (holds()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

 private:
  std::unique_ptr<LocalPgBouncer> pooler_;
};

}  // namespace pgtier::testing
