// An external Postgres as a managed service gives it: an admin that is no superuser, and a standby.
#include "controllers/scale_tier/external.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "controllers/scale_tier/manifests.h"
#include "controllers/scale_tier/observe_external.h"
#include "controllers/scale_tier/planner.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/postgres/catalogue.h"
#include "tests/integration/postgres/local_server.h"

namespace pgtier::controllers::scale_tier {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Deadline Soon() { return Deadline::After(seconds(30)); }

// What the operator refuses is where the test's servers are.
Result<std::string> AnyHost(const std::string& host, Deadline) {
  return host.ends_with(".test") ? std::string("127.0.0.1") : host;
}

// What rds_superuser may: make roles and databases, and look at everything; not read pg_authid.
constexpr char kRoles[] = R"(
  CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD 'pw-boss' IN ROLE pg_monitor;
  CREATE ROLE watcher LOGIN PASSWORD 'pw-watcher' IN ROLE pg_monitor;
  CREATE ROLE shop LOGIN PASSWORD 'pw-shop';
  CREATE ROLE nobody LOGIN PASSWORD 'pw-nobody';)";

class ExternalPostgresTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!pgtier::testing::WhyNoServers().empty()) return;
    auto primary = pgtier::testing::LocalPostgres::Start({{"ssl = off"}, "", ""});
    ASSERT_TRUE(primary.has_value()) << primary.error().message;
    primary_ = *std::move(primary);
    auto superuser = *primary_->Connect();
    ASSERT_TRUE(superuser.Execute(kRoles, Soon()).has_value());
    auto standby = pgtier::testing::LocalPostgres::StartStandby(*primary_);
    ASSERT_TRUE(standby.has_value()) << standby.error().message;
    standby_ = *std::move(standby);
  }
  static void TearDownTestSuite() {
    standby_.reset();
    primary_.reset();
  }

  void SetUp() override {
    if (std::string why = pgtier::testing::WhyNoServers(); !why.empty()) GTEST_SKIP() << why;
    auto superuser = *primary_->Connect();
    ASSERT_TRUE(superuser.Execute("DROP DATABASE IF EXISTS shop", Soon()).has_value());
    ASSERT_TRUE(superuser.Execute("CREATE DATABASE shop OWNER boss", Soon()).has_value());
    Deadline deadline = Soon();
    auto made = *postgres::CurrentLsn(superuser, Soon());
    auto standby = *standby_->Connect();
    while (*postgres::CurrentLsn(standby, Soon()) < made && !deadline.Expired()) usleep(10000);
    while (!standby_->Connect("shop").has_value() && !deadline.Expired()) usleep(10000);
    external_.host = "127.0.0.1";
    external_.port = primary_->port();
    external_.database = "shop";
    external_.ssl_mode = "disable";
    external_.admin_secret = "admin";
    external_.monitor_secret = "monitor";
    external_.app_secret = "app";
    external_.replicas = {{"127.0.0.1", standby_->port(), 1}};
    access_ = {{"boss", "pw-boss"}, {"watcher", "pw-watcher"}, {"shop", "pw-shop"}, true, "", "v1"};
  }

  Seen Ask(Duration longest_lag = milliseconds(500)) {
    Seen seen;
    for (int i = 0; i <= static_cast<int>(external_.replicas.size()); ++i) {
      InstanceSeen instance;
      instance.ordinal = i + 1;
      seen.instances.push_back(instance);
    }
    AskExternalServers(external_, access_, AnyHost, longest_lag, seen, Soon(), {});
    return seen;
  }
  Status Install() { return InstallOnExternal(external_, access_, AnyHost, "hash", Soon(), {}); }
  std::string Ask1(postgres::Connection& connection, const std::string& sql) {
    auto rows = connection.Query(sql, Soon());
    if (!rows.has_value()) return rows.error().message;
    return rows->empty() ? "" : *rows->Single()->Get<std::string>(0);
  }

  static inline std::unique_ptr<pgtier::testing::LocalPostgres> primary_;
  static inline std::unique_ptr<pgtier::testing::LocalPostgres> standby_;
  crds::ExternalPostgres external_;
  ExternalAccess access_;
};

TEST_F(ExternalPostgresTest, AnAdminWithoutSuperuserIsEnough) {
  Seen before = Ask();
  EXPECT_TRUE(before.primary.answered) << before.primary.error;
  EXPECT_EQ(before.primary.installed, "");
  ASSERT_TRUE(Install().has_value()) << Install().error().message;
  ASSERT_TRUE(Install().has_value()) << "a second time";
  ASSERT_TRUE(RecordTierOnExternal(external_, access_, AnyHost, "one", 0, Soon(), {}).has_value());
  EXPECT_EQ(RecordTierOnExternal(external_, access_, AnyHost, "two", 0, Soon(), {}).error().code, Code::kAborted);
  Seen after = Ask();
  EXPECT_EQ(after.primary.installed, "hash");
  EXPECT_EQ(after.primary.tier, "one");
  EXPECT_EQ(after.primary.epoch, 1);
  // The monitor may look, and no more; others may not even look.
  auto options = ConnectToExternal(external_, access_, access_.monitor, external_.host, "127.0.0.1", external_.port);
  auto monitor = *postgres::Connection::Open(options, Soon());
  EXPECT_THAT(Ask1(monitor, "UPDATE pgtier.state SET tier = 'x' RETURNING tier"), HasSubstr("permission denied"));
  options.user = "nobody";
  options.password = "pw-nobody";
  auto nobody = *postgres::Connection::Open(options, Soon());
  EXPECT_THAT(Ask1(nobody, "SELECT tier FROM pgtier.state"), HasSubstr("permission denied"));
}

TEST_F(ExternalPostgresTest, ASchemaThatWasMadeForItNeedsNoRightToMakeOne) {
  auto superuser = *primary_->Connect("shop");
  ASSERT_TRUE(superuser.Execute("CREATE SCHEMA pgtier AUTHORIZATION nobody", Soon()).has_value());
  access_.admin = {"nobody", "pw-nobody"};
  Status installed = Install();
  EXPECT_TRUE(installed.has_value()) << installed.error().message;
}

TEST_F(ExternalPostgresTest, WhatTheAdminMayNotIsNamed) {
  access_.admin = {"nobody", "pw-nobody"};
  EXPECT_THAT(Install().error().message, StartsWith("PrivilegeMissing: role nobody (Secret admin) lacks a privilege"));
  EXPECT_EQ(Install().error().code, Code::kPermissionDenied);
  access_.admin = {"boss", "wrong"};
  EXPECT_THAT(Install().error().message, StartsWith("PasswordRefused: 127.0.0.1 refuses the password of role boss"));
  access_.admin = {"boss", "pw-boss"};
  access_.app.password = "wrong";
  EXPECT_THAT(Install().error().message, StartsWith("PasswordRefused: 127.0.0.1 refuses the password of role shop"));
}

TEST_F(ExternalPostgresTest, EachTroubleHasItsReason) {
  auto reason = [&](const crds::ExternalPostgres& external, const ExternalAccess& access) {
    std::swap(external_, const_cast<crds::ExternalPostgres&>(external));
    std::swap(access_, const_cast<ExternalAccess&>(access));
    Seen seen = Ask();
    EXPECT_FALSE(seen.primary.answered);
    EXPECT_THAT(seen.primary.error, ::testing::Not(HasSubstr("pw-")));
    std::swap(external_, const_cast<crds::ExternalPostgres&>(external));
    std::swap(access_, const_cast<ExternalAccess&>(access));
    return seen.primary.reason;
  };
  crds::ExternalPostgres external = external_;
  ExternalAccess access = access_;
  access.monitor.password = "wrong";
  EXPECT_EQ(reason(external, access), "PasswordRefused");
  access = access_;
  external.database = "none";
  EXPECT_EQ(reason(external, access), "DatabaseNotFound");
  external = external_;
  external.port = 1;
  EXPECT_EQ(reason(external, access), "HostUnreachable");
  external = external_;
  external.ssl_mode = "require";
  EXPECT_EQ(reason(external, access), "TLSFailed");
  external = external_;
  external.port = standby_->port();
  EXPECT_EQ(reason(external, access), "NotAPrimary");
}

TEST_F(ExternalPostgresTest, TheOperatorsOwnRuleRefusesLoopback) {
  Seen seen;
  seen.instances.resize(2);
  AskExternalServers(external_, access_, RefuseSpecialHosts({}), seconds(1), seen, Soon(), {});
  EXPECT_EQ(seen.primary.reason, "AddressNotAllowed");
  EXPECT_THAT(seen.primary.error, HasSubstr("127.0.0.1 leads to 127.0.0.1, a loopback or link-local address"));
  HostCheck check = RefuseSpecialHosts({"10.96.0.1"});
  EXPECT_EQ(check("10.96.0.1", Soon()).error().code, Code::kPermissionDenied);
  EXPECT_EQ(*check("10.96.0.2", Soon()), "10.96.0.2");
}

TEST_F(ExternalPostgresTest, LagIsHowLongReplayTakes) {
  auto standby = *standby_->Connect();
  auto primary = *primary_->Connect();
  // Long idle: the age of the last commit grows, the lag does not.
  Seen idle = Ask(seconds(10));
  ASSERT_EQ(idle.instances[1].trouble, "");
  EXPECT_TRUE(MayTakeReads(idle.instances[1], idle.primary, seconds(10)));
  EXPECT_GE(idle.instances[1].replayed->value, idle.primary.wal.value);

  ASSERT_TRUE(standby.Query("SELECT pg_wal_replay_pause()", Soon()).has_value());
  ASSERT_TRUE(primary.Execute("CREATE TABLE IF NOT EXISTS t (v int); INSERT INTO t VALUES (1)", Soon()).has_value());
  Seen behind = Ask(milliseconds(300));
  EXPECT_TRUE(behind.instances[1].streaming);
  EXPECT_GT(*behind.instances[1].lag, milliseconds(300));
  EXPECT_FALSE(MayTakeReads(behind.instances[1], behind.primary, milliseconds(300)));
  ASSERT_TRUE(standby.Query("SELECT pg_wal_replay_resume()", Soon()).has_value());
  EXPECT_TRUE(MayTakeReads(Ask(seconds(10)).instances[1], Ask(seconds(10)).primary, seconds(10)));
}

TEST_F(ExternalPostgresTest, AReplicaThatIsNoneIsNamedAndTakesNoReads) {
  external_.replicas = {{"127.0.0.1", primary_->port(), 1}, {"gone", 1, 1}, {"127.0.0.1", standby_->port(), 1}};
  auto other = pgtier::testing::LocalPostgres::Start();
  ASSERT_TRUE(other.has_value());
  auto superuser = *(*other)->Connect();
  ASSERT_TRUE(superuser.Execute(kRoles, Soon()).has_value());
  ASSERT_TRUE(superuser.Execute("CREATE DATABASE shop", Soon()).has_value());
  auto stranger = pgtier::testing::LocalPostgres::StartStandby(**other);
  ASSERT_TRUE(stranger.has_value());
  external_.replicas.push_back({"127.0.0.1", (*stranger)->port(), 1});
  Seen seen = Ask(seconds(10));
  ASSERT_TRUE(seen.primary.answered);
  EXPECT_THAT(seen.instances[1].trouble, StartsWith("NotAStandby: "));
  EXPECT_THAT(seen.instances[2].trouble, StartsWith("HostUn"));
  EXPECT_EQ(seen.instances[3].trouble, "");
  EXPECT_THAT(seen.instances[4].trouble, StartsWith("NotItsStandby: "));
  std::vector<bool> takes_reads;
  for (const InstanceSeen& each : seen.instances) {
    if (each.ordinal > 1) takes_reads.push_back(MayTakeReads(each, seen.primary, seconds(10)));
  }
  EXPECT_THAT(takes_reads, ::testing::ElementsAre(false, false, true, false));
}

// A CA, and certificates for the name "db.test" that it signed; by openssl's own program.
class Certificates {
 public:
  Certificates() {
    folder_ = ::testing::TempDir() + "external-tls-" + std::to_string(getpid());
    std::string make = "mkdir -p " + folder_ + " && cd " + folder_ +
                       " && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca"
                       " && openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=db.test"
                       " && printf 'subjectAltName=DNS:db.test' >ext"
                       " && openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
                       " -extfile ext -out server.crt"
                       " && openssl req -x509 -newkey rsa:2048 -nodes -keyout x.key -out other.crt -days 2 -subj /CN=x";
    made_ = std::system(("(" + make + ") >/dev/null 2>&1").c_str()) == 0;
  }
  ~Certificates() { std::filesystem::remove_all(folder_); }
  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] std::string Read(const std::string& name) const {
    std::stringstream text;
    text << std::ifstream(folder_ + "/" + name).rdbuf();
    return text.str();
  }

 private:
  std::string folder_;
  bool made_ = false;
};

TEST_F(ExternalPostgresTest, EverySslModeDoesWhatItSays) {
  Certificates certificates;
  ASSERT_TRUE(certificates.made());
  auto superuser = *primary_->Connect();
  std::string data = Ask1(superuser, "SHOW data_directory");
  struct stat owner {};
  ASSERT_EQ(stat(data.c_str(), &owner), 0);
  for (const char* name : {"server.crt", "server.key"}) {
    std::string path = data + "/" + name;
    std::ofstream(path) << certificates.Read(name);
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
    ASSERT_EQ(chown(path.c_str(), owner.st_uid, owner.st_gid), 0);
  }
  ASSERT_TRUE(superuser.Query("ALTER SYSTEM SET ssl = on", Soon()).has_value());
  ASSERT_TRUE(superuser.Query("SELECT pg_reload_conf()", Soon()).has_value());
  external_.replicas.clear();
  external_.host = "db.test";
  external_.ca_secret = "ca";
  auto ask = [&](const char* mode, const std::string& host, const std::string& ca) {
    external_.ssl_mode = mode;
    external_.host = host;
    access_.ca_pem = ca;
    Seen seen = Ask();
    return seen.primary.answered ? std::string("serves") : seen.primary.reason + ": " + seen.primary.error;
  };
  std::string ca = certificates.Read("ca.crt");
  // The reload takes a moment.
  Deadline deadline = Soon();
  while (ask("require", "db.test", "") != "serves" && !deadline.Expired()) usleep(20000);
  EXPECT_EQ(ask("verify-full", "db.test", ca), "serves");
  EXPECT_EQ(ask("verify-ca", "other.test", ca), "serves");
  EXPECT_THAT(ask("verify-full", "other.test", ca),
              StartsWith("TLSFailed: the certificate of other.test is for another"));
  EXPECT_THAT(ask("verify-ca", "db.test", certificates.Read("other.crt")), HasSubstr("is not signed by the CA"));
  EXPECT_THAT(ask("verify-full", "db.test", "no certificate"), HasSubstr("holds no certificate in PEM"));
  EXPECT_EQ(ask("disable", "db.test", ca), "serves");

  // The poolers as well: an application reaches the server over TLS, with nothing but its own password.
  crds::ScaleTierPolicy policy;
  policy.meta.name = "shop";
  policy.meta.namespace_ = "data";
  external_.ssl_mode = "require";
  external_.host = "127.0.0.1";
  policy.spec.external = external_;
  crds::TierSpec tier;
  tier.name = "one";
  policy.spec.tiers = {tier};
  Resolved resolved = Resolve(policy);
  Images images;
  Credentials credentials;
  credentials.external = access_;
  credentials.external->ca_pem.clear();
  auto settings = PoolerSettingsFor({policy, resolved, images}, resolved.tiers[0],
                                    {{"127.0.0.1", external_.port, 1, poolers::ServerRole::kPrimary}}, credentials);
  ASSERT_TRUE(settings.has_value());
  settings->min_pool_size = 0;
  auto pooler = pgtier::testing::LocalPgBouncer::Start(*settings, {{"shop", "pw-shop"}});
  ASSERT_TRUE(pooler.has_value()) << pooler.error().message;
  auto client = postgres::Connection::Open((*pooler)->Options("shop", "shop", "pw-shop"), Soon());
  ASSERT_TRUE(client.has_value()) << client.error().message;
  EXPECT_EQ(
      Ask1(*client, "SELECT current_user::text || ' ' || ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
      "shop true");
  auto wrong = postgres::Connection::Open((*pooler)->Options("shop", "shop", "wrong"), Soon());
  EXPECT_EQ(wrong.error().code, Code::kUnauthenticated);
  ASSERT_TRUE(superuser.Query("ALTER SYSTEM SET ssl = off", Soon()).has_value());
  ASSERT_TRUE(superuser.Query("SELECT pg_reload_conf()", Soon()).has_value());
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
