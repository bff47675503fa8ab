// What the operator asks of instances, on real servers: who takes writes, what they refuse, and who is cut off.
#include <gmock/gmock.h>
#include <unistd.h>

#include <thread>

#include "controllers/scale_tier/observe_postgres.h"
#include "lib/postgres/catalogue.h"
#include "lib/postgres/objects.h"
#include "sql/scale_tier.h"
#include "tests/integration/postgres/local_server.h"

namespace pgtier::controllers::scale_tier {
namespace {

using ::testing::IsEmpty;
using ::testing::MatchesRegex;

Deadline Soon() { return Deadline::After(std::chrono::seconds(30)); }

class InstancesTest : public ::testing::Test {
 protected:
  // Of this process alone: instances are asked at Postgres' own port.
  static std::string AddressOf(int ordinal) {
    int own = getpid();
    return "127." + std::to_string(100 + own % 100) + "." + std::to_string(own / 100 % 250) + "." +
           std::to_string(ordinal);
  }
  static pgtier::testing::PostgresOptions OptionsOf(int ordinal) {
    pgtier::testing::PostgresOptions options;
    options.address = AddressOf(ordinal);
    options.port = kPostgresPort;
    options.application_name = InstanceName("kyoyu", ordinal);
    options.conf = {"max_wal_size = 32MB", "min_wal_size = 32MB", "wal_retrieve_retry_interval = 200ms"};
    return options;
  }
  static void SetUpTestSuite() {
    if (!pgtier::testing::WhyNoServers().empty()) return;
    auto primary = pgtier::testing::LocalPostgres::Start(OptionsOf(1));
    ASSERT_TRUE(primary.has_value()) << primary.error().message;
    primary_ = *std::move(primary);
    auto superuser = *primary_->Connect();
    for (const char* name : {kPoolerRole, kMonitorRole}) {
      postgres::RoleSpec role;
      role.name = name;
      if (name == std::string(kMonitorRole)) role.member_of = {"pg_monitor"};
      ASSERT_TRUE(postgres::EnsureRole(superuser, role, "pw-monitor", Soon()).has_value());
    }
    for (const char* sql : {sql::kScaleTierSchema, sql::kScaleTierMaterializedViews}) {
      auto made = superuser.Execute(sql, Soon());
      ASSERT_TRUE(made.has_value()) << made.error().message;
    }
    ASSERT_TRUE(superuser.Execute("UPDATE pgtier.state SET installed = 'hash'", Soon()).has_value());
    auto standby = pgtier::testing::LocalPostgres::StartStandby(*primary_, OptionsOf(2));
    ASSERT_TRUE(standby.has_value()) << standby.error().message;
    standby_ = *std::move(standby);
  }
  static void TearDownTestSuite() {
    standby_.reset();
    primary_.reset();
  }
  void SetUp() override {
    if (std::string why = pgtier::testing::WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    seen_ = {};
    seen_.credentials = Credentials{};
    seen_.credentials->monitor = "pw-monitor";
    seen_.credentials->superuser = primary_->Options().password;
    for (int ordinal : {1, 2}) {
      InstanceSeen instance;
      instance.ordinal = ordinal;
      instance.name = InstanceName("kyoyu", ordinal);
      instance.pod_ip = AddressOf(ordinal);
      instance.pod_ready = true;
      seen_.instances.push_back(instance);
    }
  }
  // As at the beginning of a pass.
  const Seen& Ask(int primary) {
    Seen fresh = seen_;
    fresh.primary_ordinal = primary;
    AskInstances(fresh, "kyoyu", "postgres", Soon(), {});
    asked_ = fresh;
    return asked_;
  }
  bool Eventually(int primary, const std::function<bool(const Seen&)>& holds) {
    for (Deadline deadline = Soon(); !deadline.Expired();) {
      if (holds(Ask(primary))) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }
  static void Run(const std::string& sql) {
    auto done = primary_->Connect()->Execute(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message;
  }

  static inline std::unique_ptr<pgtier::testing::LocalPostgres> primary_, standby_;
  Seen seen_, asked_;
};

TEST_F(InstancesTest, APrimaryAndItsStandby) {
  ASSERT_TRUE(Eventually(1, [](const Seen& seen) { return seen.instances[1].streaming; })) << asked_.primary.error;
  EXPECT_TRUE(asked_.primary.answered) << asked_.primary.error;
  EXPECT_FALSE(asked_.primary.is_standby);
  EXPECT_TRUE(asked_.instances[0].takes_writes);
  EXPECT_TRUE(asked_.instances[1].answered) << asked_.instances[1].trouble;
  EXPECT_FALSE(asked_.instances[1].takes_writes);
  EXPECT_TRUE(asked_.instances[1].newest.has_value());
  EXPECT_FALSE(asked_.primary.oldest_wal.has_value()) << "nobody needs to know";
  EXPECT_THAT(asked_.instances[0].config_error, IsEmpty());
}

TEST_F(InstancesTest, ASelectedStandbyIsNoPrimary) {
  const Seen& seen = Ask(2);
  EXPECT_FALSE(seen.primary.answered);
  EXPECT_TRUE(seen.primary.is_standby);
  EXPECT_EQ(seen.primary.reason, "PrimaryIsStandby");
  EXPECT_TRUE(seen.instances[0].takes_writes) << "the other one is named as what it is";
}

TEST_F(InstancesTest, WithoutTheServiceItIsWhoTakesWrites) {
  EXPECT_EQ(Ask(0).primary_ordinal, 1);
  // Nobody does: whom instances were told of, once it is certain that it is nobody else.
  seen_.instances[0].pod_ip.clear();
  nlohmann::json told{{"data", {{"primary", "1 kyoyu-1\n"}}}};
  seen_.objects[{std::string(kube::kConfigMaps.plural), "kyoyu-postgres"}] = told;
  EXPECT_EQ(Ask(0).primary_ordinal, 0) << "it starts, or is cut off";
  seen_.instances[0].stopping = true;
  EXPECT_EQ(Ask(0).primary_ordinal, 1);
  seen_.objects[{std::string(kube::kPods.plural), "kyoyu-1-0"}] = {{"metadata", {{"name", "kyoyu-1-0"}}}};
  EXPECT_EQ(Ask(0).primary_ordinal, 0) << "its pod is there still";
}

TEST_F(InstancesTest, WhatIsNoSettingIsNamedByItsLine) {
  primary_->folder().Append("data/postgresql.conf", "include 'nowhere.conf'\n");
  EXPECT_THAT(Ask(1).instances[0].config_error, MatchesRegex("line [0-9]+ of postgresql.conf .could not open file.*"));
  std::string conf = primary_->folder().Read("data/postgresql.conf");
  conf.erase(conf.rfind("include "));
  primary_->folder().Write("data/postgresql.conf", conf);
  EXPECT_THAT(Ask(1).instances[0].config_error, IsEmpty());
}

TEST_F(InstancesTest, AStandbyWhoseReplayIsPausedSaysSo) {
  auto tell = [&](const std::string& sql) {
    auto done = standby_->Connect()->Query(sql, Soon());
    ASSERT_TRUE(done.has_value()) << done.error().message;
  };
  EXPECT_FALSE(Ask(1).instances[1].replay_paused);
  tell("SELECT pg_wal_replay_pause()");
  EXPECT_TRUE(Ask(1).instances[1].replay_paused) << asked_.instances[1].trouble;
  EXPECT_FALSE(asked_.instances[0].replay_paused);
  tell("SELECT pg_wal_replay_resume()");
  EXPECT_FALSE(Ask(1).instances[1].replay_paused);
}

// Last, for the standby does not come back.
TEST_F(InstancesTest, ZAStandbyWhoseWalIsGoneIsToldFromOneThatCatchesUp) {
  auto behind = [](const Seen& seen) {
    const InstanceSeen& standby = seen.instances[1];
    return standby.answered && standby.newest.has_value() && seen.primary.oldest_wal.has_value() &&
           *standby.newest < *seen.primary.oldest_wal;
  };
  Run("CREATE TABLE ledger (n bigint)");
  ASSERT_TRUE(standby_->Stop().has_value());
  Run("INSERT INTO ledger SELECT generate_series(1, 1000)");
  ASSERT_TRUE(standby_->Restart().has_value());
  ASSERT_TRUE(Eventually(1, [&](const Seen& seen) {
    EXPECT_FALSE(behind(seen)) << "what it needs is there";
    return seen.instances[1].streaming;
  }));
  ASSERT_TRUE(asked_.instances[1].newest.has_value());
  postgres::Lsn had = *asked_.instances[1].newest;
  ASSERT_TRUE(standby_->Stop().has_value());
  EXPECT_FALSE(Ask(1).instances[1].answered);
  ASSERT_TRUE(asked_.primary.oldest_wal.has_value());
  EXPECT_LE(*asked_.primary.oldest_wal, had);
  for (int i = 0; i < 6; ++i) {
    Run("INSERT INTO ledger SELECT generate_series(1, 1000)");
    Run("SELECT pg_switch_wal()");
    Run("CHECKPOINT");
  }
  ASSERT_TRUE(standby_->Restart().has_value());
  EXPECT_TRUE(Eventually(1, [&](const Seen& seen) {
    bool says_so = standby_->Log().find("has already been removed") != std::string::npos;
    return says_so && behind(seen) && !seen.instances[1].streaming;
  })) << standby_->Log();
  EXPECT_LE(*asked_.primary.oldest_wal, asked_.primary.wal) << "no file that is kept for later";
  postgres::Lsn stands = *asked_.instances[1].newest;
  std::this_thread::sleep_for(std::chrono::seconds(1));
  EXPECT_TRUE(behind(Ask(1)));
  EXPECT_EQ(asked_.instances[1].newest, stands) << "it is by this that its patience ends";
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
