// A Postgres that pgtier does not run, as a managed service gives it: TLS, an admin that is no superuser, a standby.
#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

// What the service's owner ran there before pgtier came.
constexpr char kPrepare[] = R"(
CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD 'pw-boss' IN ROLE pg_monitor;
CREATE ROLE watcher LOGIN PASSWORD 'pw-watcher' IN ROLE pg_monitor;
CREATE ROLE app LOGIN PASSWORD 'pw-app';
CREATE ROLE standby LOGIN REPLICATION;
CREATE DATABASE app OWNER app;
GRANT CREATE ON DATABASE app TO boss;
\c app
CREATE EXTENSION timescaledb;
CREATE EXTENSION vector;
)";

constexpr char kPrimary[] = R"(
set -e
data=/var/lib/postgresql/data/db
initdb -D $data -U postgres --auth-local=trust --auth-host=scram-sha-256 --no-sync >/dev/null
cat >>$data/postgresql.conf <<END
listen_addresses = '*'
unix_socket_directories = '/run/postgresql'
shared_preload_libraries = 'timescaledb'
shared_buffers = 32MB
max_connections = 100
ssl = on
ssl_cert_file = '/tls/tls.crt'
ssl_key_file = '/tls/tls.key'
END
cat >$data/pg_hba.conf <<END
local all all trust
hostssl replication standby all trust
hostssl all all all scram-sha-256
END
(until pg_isready -q -h /run/postgresql; do sleep 0.2; done; psql -q -h /run/postgresql -U postgres -f /prepare/sql; touch /tmp/prepared) &
exec postgres -D $data
)";

constexpr char kStandby[] = R"(
set -e
data=/var/lib/postgresql/data/db
until pg_basebackup -D $data -R -X stream -c fast -h rds -U standby; do rm -rf $data; sleep 1; done
exec postgres -D $data
)";

class ExternalTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    if (IsSkipped()) return;
    MakeCertificates();
    Apply({{"apiVersion", "v1"},
           {"kind", "ConfigMap"},
           {"metadata", {{"name", "prepare"}}},
           {"data", {{"sql", kPrepare}}}});
    MakeServer("rds", kPrimary, "test -e /tmp/prepared");
    MakeServer("rds-ro", kStandby, "pg_isready -q -h /run/postgresql");
    MakeLogin("admin", "boss");
    MakeLogin("watch", "watcher");
    MakeLogin("login", "app");
    for (const char* pod : {"rds", "rds-ro"}) {
      Kubectl({"wait", "-n", ns(), std::string("pod/") + pod, "--for=condition=Ready", "--timeout=120s"});
    }
  }

  void MakeCertificates() {
    std::string folder = testing::TempDir() + "e2e-external-" + std::to_string(getpid());
    std::string make = "mkdir -p " + folder + " && cd " + folder +
                       " && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca"
                       " && openssl req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=rds"
                       " && printf 'subjectAltName=DNS:rds." +
                       ns() + ".svc,DNS:rds-ro." + ns() + ".svc' >ext" +
                       " && openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2"
                       " -extfile ext -out tls.crt";
    ASSERT_EQ(std::system(("(" + make + ") >/dev/null 2>&1").c_str()), 0);
    auto read = [&](const char* name) {
      std::stringstream text;
      text << std::ifstream(folder + "/" + name).rdbuf();
      return text.str();
    };
    Apply({{"apiVersion", "v1"},
           {"kind", "Secret"},
           {"metadata", {{"name", "tls"}}},
           {"stringData", {{"tls.crt", read("tls.crt")}, {"tls.key", read("tls.key")}}}});
    Apply({{"apiVersion", "v1"},
           {"kind", "Secret"},
           {"metadata", {{"name", "ca"}, {"labels", {{"pgtier.dev/use", "postgres"}}}}},
           {"stringData", {{"ca.crt", read("ca.crt")}}}});
    std::filesystem::remove_all(folder);
  }

  // A pod that is no pgtier's, and a Service of its name.
  void MakeServer(const std::string& name, const std::string& script, const std::string& ready) {
    auto mount = [](const char* volume, const char* path) { return Json{{"name", volume}, {"mountPath", path}}; };
    Json container{
        {"name", "postgres"},
        {"image", "localhost/pgtier/postgres:17"},
        {"imagePullPolicy", "IfNotPresent"},
        {"command", Json::array({"bash", "-c", script})},
        {"readinessProbe",
         {{"exec", {{"command", Json::array({"sh", "-c", ready})}}}, {"periodSeconds", 1}, {"timeoutSeconds", 5}}},
        {"volumeMounts", Json::array({mount("data", "/var/lib/postgresql/data"), mount("run", "/run/postgresql"),
                                      mount("tls", "/tls"), mount("prepare", "/prepare")})}};
    Json volumes = Json::array({{{"name", "data"}, {"emptyDir", Json::object()}},
                                {{"name", "run"}, {"emptyDir", Json::object()}},
                                {{"name", "tls"}, {"secret", {{"secretName", "tls"}, {"defaultMode", 0440}}}},
                                {{"name", "prepare"}, {"configMap", {{"name", "prepare"}}}}});
    Apply({{"apiVersion", "v1"},
           {"kind", "Pod"},
           {"metadata", {{"name", name}, {"labels", {{"app", name}}}}},
           {"spec",
            {{"securityContext", {{"runAsUser", 999}, {"runAsGroup", 999}, {"fsGroup", 999}}},
             {"terminationGracePeriodSeconds", 1},
             {"containers", Json::array({container})},
             {"volumes", volumes}}}});
    Apply({{"apiVersion", "v1"},
           {"kind", "Service"},
           {"metadata", {{"name", name}}},
           {"spec", {{"selector", {{"app", name}}}, {"ports", Json::array({{{"port", 5432}}})}}}});
  }

  void MakeLogin(const std::string& name, const std::string& role) {
    Apply({{"apiVersion", "v1"},
           {"kind", "Secret"},
           {"type", "kubernetes.io/basic-auth"},
           {"metadata", {{"name", name}, {"labels", {{"pgtier.dev/use", "postgres"}}}}},
           {"stringData", {{"username", role}, {"password", "pw-" + role}}}});
  }

  [[nodiscard]] Json ExternalPolicy() const {
    Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
    policy["spec"]["postgres"] = {{"external",
                                   {{"host", "rds." + ns() + ".svc"},
                                    {"database", "app"},
                                    {"sslMode", "verify-full"},
                                    {"caSecret", {{"name", "ca"}}},
                                    {"adminSecret", {{"name", "admin"}}},
                                    {"monitorSecret", {{"name", "watch"}}},
                                    {"appSecret", {{"name", "login"}}},
                                    {"replicas", Json::array({{{"host", "rds-ro." + ns() + ".svc"}}})}}}};
    return policy;
  }

  // As the application, through a Service of pgtier's.
  std::string Ask(const std::string& service, const std::string& sql) {
    return Kubectl({"exec", "-i", "-n", ns(), "rds", "--", "sh", "-c",
                    "read -r PGPASSWORD; export PGPASSWORD PGCONNECT_TIMEOUT=10; exec psql -h " + service +
                        " -U app app -XAtc \"" + sql + "\""},
                   "pw-app\n", true);
  }
};

TEST_F(ExternalTest, ItClimbsToTheStandbyUnderLoadAndLeavesTheDataAlone) {
  // A wrong password is said, and mended without a new policy.
  Patch("secret/watch", {{"stringData", {{"password", "wrong"}}}});
  Apply(ExternalPolicy());
  ASSERT_TRUE(WaitForCondition("app", "Ready", "False (PasswordRefused): rds." + ns() + ".svc refuses", seconds(60)));
  EXPECT_THAT(Condition("app", "Stalled"), testing::StartsWith("True (PasswordRefused)"));
  MakeLogin("watch", "watcher");
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(120)));
  EXPECT_EQ(Field("app", "/status/tier"), "low");
  EXPECT_EQ(Kubectl({"get", "statefulset,pvc", "-n", ns(), "-o", "name"}, "", true), "");
  // kube-proxy may learn a moment later than the operator that a pooler is ready.
  EXPECT_TRUE(Eventually("a TLS session with the server", seconds(30), [&] {
    return Ask("app-rw", "select ssl from pg_stat_ssl where pid = pg_backend_pid()") == "t";
  }));

  StartLoad("app", {"--readers-start=4", "--readers-max=4", "--warmup=1s", "--ramp=1s", "--agents=2",
                    "--events-per-second=100", "--seed-events=2000", "--seed-decisions=100"});
  Patch("scaletier/app", {{"spec", {{"demands", Json::array({"by-hand"})}}}});
  ASSERT_TRUE(WaitForTier("app", "high", seconds(120)));
  EXPECT_EQ(Ask("app-ro", "select pg_is_in_recovery()"), "t");
  EXPECT_EQ(Ask("app-rw", "select pg_is_in_recovery()"), "f");
  EXPECT_EQ(Field("app", "/status/summary/replicas"), "1/1");
  Json summary = StopLoad();
  EXPECT_EQ(summary.value("failed_total", -1), 0) << summary.dump();
  EXPECT_GT(summary.value("queries", 0), 10) << summary.dump();

  // The standby goes: reads go to the primary, and the condition says which standby and why.
  Kubectl({"delete", "pod", "-n", ns(), "rds-ro", "--grace-period=0", "--force"});
  ASSERT_TRUE(Eventually("reads go to the primary", seconds(60),
                         [&] { return Condition("app", "Degraded").starts_with("True (ReadsOnPrimary)"); }));
  EXPECT_THAT(Condition("app", "Degraded"), testing::HasSubstr("rds-ro." + ns() + ".svc: HostUnreachable"));
  ASSERT_TRUE(Eventually("-ro answers from the primary", seconds(30),
                         [&] { return Ask("app-ro", "select pg_is_in_recovery()") == "f"; }));

  // Remove takes what pgtier made, and nothing there.
  Kubectl({"delete", "scaletier", "-n", ns(), "app", "--timeout=60s"});
  ASSERT_TRUE(Eventually("poolers are gone", seconds(60), [&] {
    return Kubectl({"get", "deployment", "-n", ns(), "-o", "name"}, "", true).empty();
  }));
  std::string tier = Kubectl({"exec", "-n", ns(), "rds", "--", "psql", "-h", "/run/postgresql", "-U", "postgres", "app",
                              "-XAtc", "select tier from pgtier.state"});
  EXPECT_EQ(tier, "high");
}

}  // namespace
}  // namespace pgtier::e2e
