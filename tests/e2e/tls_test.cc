// TLS as an application sees it; authority and passwords exchanged while it works.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class TlsTest : public ClusterTest {
 protected:
  struct Login {
    std::string user, password;
  };
  // What applications are told now.
  Login Told() {
    std::string both = Kubectl({"get", "secret", "-n", ns(), "app-app", "-o",
                                "go-template={{.data.username | base64decode}} {{.data.password | base64decode}}"});
    auto space = both.find(' ');
    return {both.substr(0, space), both.substr(space + 1)};
  }
  // psql by that login from an instance's pod with this sslmode, trusting /tmp/ca.crt there.
  std::string QueryAs(const Login& login, const std::string& sslmode, const std::string& host, const std::string& sql) {
    return Kubectl(
        {"exec", "-i", "-n", ns(), "app-1-0", "--", "sh", "-c",
         "read -r PGPASSWORD; export PGPASSWORD PGCONNECT_TIMEOUT=10; exec psql 'host=" + host + " user=" + login.user +
             " dbname=app sslmode=" + sslmode + " sslrootcert=/tmp/ca.crt' -XAtc \"" + sql + "\""},
        login.password + "\n", true);
  }
  std::string QueryWith(const std::string& sslmode, const std::string& host, const std::string& sql) {
    return QueryAs(Told(), sslmode, host, sql);
  }
  void StoreAuthority() {
    std::string authority = Kubectl(
        {"get", "secret", "-n", ns(), "app-app", "-o", "go-template={{index .data \"ca.crt\" | base64decode}}"});
    Kubectl({"exec", "-i", "-n", ns(), "app-1-0", "--", "sh", "-c", "cat > /tmp/ca.crt"}, authority + "\n");
  }
};

TEST_F(TlsTest, EverybodyEncryptsAndTheAuthorityIsExchangedUnderLoad) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  policy["spec"]["pin"] = "high";
  Apply(policy);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  StoreAuthority();
  std::string endpoint = "app-rw." + ns() + ".svc";
  EXPECT_EQ(QueryWith("verify-full", endpoint, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t");
  EXPECT_EQ(QueryWith("verify-full", "app-ro." + ns(), "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(QueryWith("disable", endpoint, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"), "t")
      << "a plain client of the pooler";
  EXPECT_EQ(QueryWith("disable", "app-1", "select 1"), "") << "Postgres itself takes nobody without TLS";
  EXPECT_EQ(QueryInside("app-1", "select s.ssl from pg_stat_replication join pg_stat_ssl s using (pid)"), "t");
  EXPECT_EQ(QueryInside("app-1",
                        "select count(*) from pg_stat_activity a join pg_stat_ssl s using (pid) "
                        "where a.client_addr is not null and not s.ssl"),
            "0");
  EXPECT_THAT(QueryInside("app-2", "show primary_conninfo"), testing::HasSubstr("sslmode=verify-full"));

  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=100", "--seed-events=2000", "--seed-decisions=100"});
  std::string before = Kubectl({"get", "secret", "-n", ns(), "app-ca", "-o", "jsonpath={.data.ca\\.crt}"});
  std::atomic<int> refused = 0;
  std::atomic<int> asked = 0;
  std::jthread newcomers([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (QueryWith("verify-full", endpoint, "select 'one'") != "one") ++refused;
      ++asked;
    }
  });
  Kubectl({"annotate", "-n", ns(), "scaletier/app", "pgtier.dev/rotate-certificates=one"});
  EXPECT_TRUE(Eventually("the rotation is done", seconds(90),
                         [&] { return Field("app", "/status/rotations/certificates/request") == "one"; }));
  int done = asked;
  Eventually("newcomers after it", seconds(30), [&] { return asked >= done + 3; });
  newcomers.request_stop();
  newcomers.join();
  EXPECT_EQ(refused, 0) << "of " << asked << " that trust the authority from before";
  EXPECT_NE(Kubectl({"get", "secret", "-n", ns(), "app-ca", "-o", "jsonpath={.data.ca\\.crt}"}), before);
  StoreAuthority();
  EXPECT_EQ(QueryWith("verify-full", endpoint, "select 1"), "1");
  EXPECT_EQ(QueryInside("app-1", "select application_name, state from pg_stat_replication"), "app-2|streaming");
  Json summary = StopLoad();
  EXPECT_EQ(summary.value("failed_total", -1), 0) << summary.dump();
  EXPECT_GT(summary.value("queries", 0), 50) << summary.dump();
}

TEST_F(TlsTest, PasswordsAreExchangedUnderLoad) {
  Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
  policy["spec"]["pin"] = "high";
  policy["spec"]["postgres"]["managed"]["passwordGrace"] = "40s";
  Apply(policy);
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  StoreAuthority();
  const std::string endpoint = "app-rw." + ns() + ".svc";
  const Login former = Told();
  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=100", "--seed-events=2000", "--seed-decisions=100"});
  std::atomic<int> refused = 0;
  std::atomic<int> asked = 0;
  std::jthread newcomers([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (QueryWith("verify-full", endpoint, "select 'one'") != "one") ++refused;
      ++asked;
    }
  });
  Kubectl({"annotate", "-n", ns(), "scaletier/app", "pgtier.dev/rotate-passwords=one"});
  EXPECT_TRUE(Eventually("the rotation is done", seconds(90),
                         [&] { return Field("app", "/status/rotations/passwords/request") == "one"; }));
  const Login told = Told();
  EXPECT_EQ(told.user, "pgtier_app");
  EXPECT_NE(told.password, former.password);
  EXPECT_EQ(QueryAs(told, "verify-full", endpoint, "select current_user"), "app") << "what it makes is the owner's";
  EXPECT_EQ(QueryAs(told, "verify-full", "app-ro." + ns() + ".svc", "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(QueryAs(former, "verify-full", endpoint, "select 1"), "1") << "within its grace";
  Json summary = StopLoad();
  EXPECT_EQ(summary.value("failed_total", -1), 0) << summary.dump();
  EXPECT_GT(summary.value("queries", 0), 50) << summary.dump();
  EXPECT_TRUE(Eventually("the former password ends", seconds(120),
                         [&] { return Field("app", "/status/rotations/passwords/formerUntil").empty(); }));
  EXPECT_TRUE(Eventually("nobody logs in by it", seconds(30),
                         [&] { return QueryAs(former, "verify-full", endpoint, "select 1").empty(); }));
  newcomers.request_stop();
  newcomers.join();
  EXPECT_EQ(refused, 0) << "of " << asked << " that read the Secret each time";
  EXPECT_EQ(QueryInside("app-1", "select application_name, state from pg_stat_replication"), "app-2|streaming");
  EXPECT_EQ(QueryInside("app-1", "select rolcanlogin from pg_authid where rolname = 'app'"), "f");
}

}  // namespace
}  // namespace pgtier::e2e
