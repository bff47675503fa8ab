// TLS as pgtier sets it up, with a real Postgres and a real PgBouncer: who is let in, and how certificates and
// authorities are exchanged under queries without a failure.
#include <gmock/gmock.h>

#include <atomic>

#include "lib/pki/authority.h"
#include "lib/pki/certificate.h"
#include "tests/integration/postgres/pooler_test_base.h"

namespace pgtier::poolers {
namespace {

using ::testing::HasSubstr;
using testing::Soon;

class TlsTest : public testing::WithPooler {
 protected:
  void SetUp() override {
    WithPooler::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    authority_ = *pki::MakeAuthority("pgtier test 1", Now(), std::chrono::hours(1000));
    trust_ = authority_.certificate;
    HandOut();
    auto connection = Connect();
    // PgBouncer takes the first address of a name, which may be ::1.
    for (const char* setting :
         {"listen_addresses = 'localhost'", "ssl = on", "ssl_cert_file = 'tls.crt'", "ssl_key_file = 'tls.key'"}) {
      ASSERT_TRUE(connection.Execute(std::string("ALTER SYSTEM SET ") + setting, Soon()).has_value());
    }
    connection.Close();
    ASSERT_TRUE(server().Restart().has_value());
    ASSERT_TRUE(Direct("verify-full", trust_).has_value());
    poolers::PgBouncerSettings settings = SettingsFor(server().port());
    settings.databases[0].hosts = {"localhost"};
    StartPooler(settings);
    Write(pooler().folder(), "", server_);
    settings.client_tls_sslmode = "prefer";
    settings.client_tls_cert_file = pooler().folder().path() + "/tls.crt";
    settings.client_tls_key_file = pooler().folder().path() + "/tls.key";
    settings.client_tls_ca_file = pooler().folder().path() + "/ca.crt";
    settings.server_tls_sslmode = "verify-full";
    settings.server_tls_ca_file = pooler().folder().path() + "/ca.crt";
    ASSERT_TRUE(pooler().WriteSettings(settings).has_value());
    auto admin = Admin();
    ASSERT_TRUE(admin.Reload(Soon()).has_value());
    ASSERT_THAT(Differences(admin), ::testing::IsEmpty());
  }

  void TearDown() override {
    if (HasFailure()) printf("%s\n", pooler().Log().c_str());
  }

  static WallTime Now() { return std::chrono::system_clock::now(); }
  // A new certificate for Postgres and for PgBouncer, written where they read it.
  void HandOut() {
    server_ = *pki::IssueServer(authority_, {"localhost"}, Now(), std::chrono::hours(100));
    server_.certificate += cross_;
    Write(server().folder(), "data/", server_);
  }
  void Write(const testing::ServerFolder& folder, const std::string& prefix, const pki::Identity& identity) {
    folder.Write(prefix + "tls.crt", identity.certificate);
    folder.Write(prefix + "tls.key", identity.key);
    folder.Write(prefix + "ca.crt", trust_);
    chmod((folder.path() + "/" + prefix + "tls.key").c_str(), 0600);
  }
  Result<postgres::Connection> Open(postgres::ConnectOptions options, const std::string& mode,
                                    const std::string& root) {
    options.host = "localhost";
    options.ssl_mode = mode;
    options.ssl_root_pem = root;
    return postgres::Connection::Open(options, Soon());
  }
  Result<postgres::Connection> Direct(const std::string& mode, const std::string& root) {
    return Open(server().Options(), mode, root);
  }
  Result<postgres::Connection> ThroughPooler(const std::string& mode, const std::string& root) {
    return Open(pooler().Options("kyoyu", kUser, kUserPassword), mode, root);
  }
  std::string Presented() { return pki::ReadCertificate(server_.certificate)->fingerprint; }

  pki::Identity authority_, server_;
  std::string trust_, cross_;
};

std::string One(Result<postgres::Connection>& connection, const std::string& sql) {
  if (!connection.has_value()) return connection.error().message;
  auto rows = connection->Query(sql, Soon());
  return rows.has_value() ? *(*rows)[0].Get<std::string>(0) : rows.error().message;
}

TEST_F(TlsTest, OnlyTheAuthoritysServersAreBelieved) {
  auto direct = Direct("verify-full", trust_);
  EXPECT_EQ(One(direct, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "true");
  EXPECT_EQ(direct->ServerCertificate(), Presented());
  auto pooled = ThroughPooler("verify-full", trust_);
  EXPECT_EQ(One(pooled, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "true");
  ASSERT_TRUE(pooled.has_value());
  EXPECT_EQ(pooled->ServerCertificate(), Presented());
  std::string other = pki::MakeAuthority("pgtier test 1", Now(), std::chrono::hours(10))->certificate;
  EXPECT_THAT(Direct("verify-ca", other).error().message, HasSubstr("certificate verify failed"));
  EXPECT_THAT(ThroughPooler("verify-ca", other).error().message, HasSubstr("certificate verify failed"));
  // By address only the authority can be proved.
  auto options = server().Options();
  options.ssl_root_pem = trust_;
  options.ssl_mode = "verify-full";
  EXPECT_FALSE(postgres::Connection::Open(options, Soon()).has_value());
  options.ssl_mode = "verify-ca";
  EXPECT_TRUE(postgres::Connection::Open(options, Soon()).has_value());
}

TEST_F(TlsTest, PlainClientsOfThePoolerGoOn) {
  auto plain = ThroughPooler("disable", "");
  EXPECT_EQ(One(plain, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "true")
      << "from the pooler on it is encrypted";
  EXPECT_EQ(plain->ServerCertificate(), "");
}

// Why poolers of several replicas run with verify-ca: were this mended in a later PgBouncer, they could do better.
TEST_F(TlsTest, OfSeveralHostsPgBouncerChecksNoneByItsName) {
  poolers::PgBouncerSettings settings = pooler().settings();
  settings.databases[0].hosts = {"localhost", "localhost"};
  ASSERT_TRUE(pooler().WriteSettings(settings).has_value());
  auto admin = Admin();
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  std::jthread client([&] {
    std::ignore = postgres::Connection::Open(pooler().Options("kyoyu", kUser, kUserPassword),
                                             Deadline::After(std::chrono::seconds(3)));
  });
  EXPECT_TRUE(
      Eventually([&] { return pooler().Log().find("name `localhost,localhost' not present") != std::string::npos; }));
  client.join();
  settings.server_tls_sslmode = "verify-ca";
  ASSERT_TRUE(pooler().WriteSettings(settings).has_value());
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  EXPECT_TRUE(Eventually([&] {
    auto pooled = ThroughPooler("verify-full", trust_);
    return One(pooled, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "true";
  }));
}

TEST_F(TlsTest, APoolerBelievesNoServerOfAnotherAuthority) {
  auto stranger = pki::MakeAuthority("pgtier test 2", Now(), std::chrono::hours(10));
  pooler().folder().Write("ca.crt", stranger->certificate);
  auto admin = Admin();
  ASSERT_TRUE(admin.Reload(Soon()).has_value());
  ASSERT_TRUE(admin.Reconnect("", Soon()).has_value());
  EXPECT_TRUE(Eventually([&] {
    auto client = postgres::Connection::Open(pooler().Options("kyoyu", kUser, kUserPassword),
                                             Deadline::After(std::chrono::milliseconds(500)));
    return !client.has_value() ||
           !client->Query("SELECT 1", Deadline::After(std::chrono::milliseconds(500))).has_value();
  }));
}

TEST_F(TlsTest, AnAuthorityAndItsCertificatesAreExchangedUnderQueries) {
  std::atomic<int> failures = 0;
  std::atomic<int> queries = 0;
  std::string first_trust = trust_;
  std::jthread load([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      // An application that read ca.crt once, and connects anew each time.
      auto client = ThroughPooler("verify-full", first_trust);
      if (One(client, "SELECT 'one'") != "one") ++failures;
      ++queries;
    }
  });
  auto admin = Admin();
  for (int round = 2; round <= 3; ++round) {
    pki::Identity next = *pki::MakeAuthority("pgtier test " + std::to_string(round), Now(), std::chrono::hours(1000));
    cross_ = *pki::CrossSign(authority_, next.certificate, Now()) + cross_;
    trust_ = next.certificate + trust_;
    authority_ = next;
    HandOut();
    auto connection = Connect();
    ASSERT_TRUE(connection.Query("SELECT pg_reload_conf()", Soon()).has_value());
    ASSERT_TRUE(Eventually([&] {
      auto direct = Direct("verify-full", first_trust);
      return direct.has_value() && direct->ServerCertificate() == Presented();
    })) << "Postgres takes it by a reload";
    Write(pooler().folder(), "", server_);
    ASSERT_TRUE(admin.Reload(Soon()).has_value());
    ASSERT_TRUE(Eventually([&] {
      auto client = ThroughPooler("verify-full", authority_.certificate);
      return client.has_value() && client->ServerCertificate() == Presented();
    })) << "PgBouncer takes it by a RELOAD";
    ASSERT_TRUE(admin.Reconnect("", Soon()).has_value());
    int before = queries;
    ASSERT_TRUE(Eventually([&] { return queries > before + 5; }));
  }
  load.request_stop();
  load.join();
  EXPECT_EQ(failures, 0) << "of " << queries;
}

}  // namespace
}  // namespace pgtier::poolers
