#include "controllers/scale_tier/postgres_config.h"

#include <gmock/gmock.h>

#include <sstream>

#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// Reads a file as PostgreSQL's grammar does: one setting a line, 'quoted', '' and \\ within.
std::map<std::string, std::string> Parse(const std::string& conf) {
  std::map<std::string, std::string> settings;
  std::istringstream file(conf);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;
    size_t equals = line.find(" = '");
    EXPECT_NE(equals, std::string::npos) << line;
    std::string value;
    size_t i = equals + 4;
    for (; i < line.size(); ++i) {
      if (line[i] == '\'' && (i + 1 == line.size() || line[i + 1] != '\'')) break;
      if (line[i] == '\'' || line[i] == '\\') ++i;
      value += line[i];
    }
    EXPECT_EQ(i + 1, line.size()) << "something follows the value: " << line;
    settings[line.substr(0, equals)] = value;
  }
  return settings;
}

std::map<std::string, std::string> SettingsOf(const Json& managed) {
  Scene scene(TwoTiers({{"postgres", {{"managed", managed}}}}));
  return PostgresSettings(*scene.policy.spec.managed, scene.resolved);
}

TEST(PostgresConfig, AValueNeverBeginsAnotherSetting) {
  for (const std::string& value :
       {std::string("plain"), std::string("it's"), std::string("\\'; x = 'y"), std::string("a\nssl = 'off'"),
        std::string("a\r\nssl = off"), std::string("'\nssl = 'off"), std::string("\\"), std::string("\\\\'"),
        std::string("a\0b", 3), std::string("'"), std::string("''"), std::string("")}) {
    std::string conf = RenderPostgresConf({{"search_path", value}, {"work_mem", "4MB"}});
    std::map<std::string, std::string> read = Parse(conf);
    std::string kept = value;
    std::erase_if(kept, [](char c) { return c == '\n' || c == '\r' || c == '\0'; });
    EXPECT_EQ(read, (std::map<std::string, std::string>{{"search_path", kept}, {"work_mem", "4MB"}})) << conf;
  }
}

TEST(PostgresConfig, ThePolicysSettingsAreOverTheDefaultsAndUnderPgtiers) {
  // What the schema refuses may still be stored in an object older than the rule.
  auto settings =
      SettingsOf({{"parameters", {{"shared_buffers", "8GB"}, {"work_mem", "7MB"}, {"wal_level", "minimal"}}}});
  EXPECT_EQ(settings["shared_buffers"], "8GB");
  EXPECT_EQ(settings["work_mem"], "7MB");
  EXPECT_EQ(settings["wal_level"], "logical");
}

TEST(PostgresConfig, NoFileIsIncludedAndNoRecoveryEndsEarlyForAPolicy) {
  auto settings = SettingsOf({{"parameters",
                               {{"include", "/tmp/theirs.conf"},
                                {"include_if_exists", "/tmp/theirs.conf"},
                                {"include_dir", "/tmp"},
                                {"recovery_target_time", "2026-01-01"}}}});
  EXPECT_EQ(settings["include_if_exists"], "/run/postgresql/pgtier-routing.conf");
  for (const char* name : {"include", "include_dir", "recovery_target_time"}) EXPECT_FALSE(settings.contains(name));
}

TEST(PostgresConfig, MemoryAndVolumeScaleTheDefaults) {
  auto small = SettingsOf(Json::parse(R"({"resources": {"limits": {"memory": "1Gi"}}, "storage": {"size": "10Gi"}})"));
  auto large = SettingsOf(Json::parse(R"({"resources": {"limits": {"memory": "32Gi"}}, "storage": {"size": "1Ti"}})"));
  EXPECT_EQ(small["shared_buffers"], "256MB");
  EXPECT_EQ(large["shared_buffers"], "8192MB");
  EXPECT_EQ(small["max_wal_size"], "1024MB");
  EXPECT_EQ(large["max_wal_size"], "8192MB");
  EXPECT_EQ(small["max_slot_wal_keep_size"], "2048MB") << "a slot must not fill the volume";
  auto asked = SettingsOf(Json::parse(R"({"resources": {"requests": {"memory": "2Gi"}}})"));
  EXPECT_EQ(asked["shared_buffers"], "512MB");
}

TEST(PostgresConfig, SynchronousCommitStaysOnUnlessThePolicySetsIt) {
  EXPECT_FALSE(SettingsOf(Json::object()).contains("synchronous_commit"));
  EXPECT_EQ(SettingsOf({{"parameters", {{"synchronous_commit", "off"}}}})["synchronous_commit"], "off");
}

TEST(PostgresConfig, ConnectionsAreEnoughForTwoGenerationsOfPoolersOfTheLargestTier) {
  Json object = TwoTiers({{"pooler", {{"instances", 2}, {"defaultPoolSize", 50}, {"reservePoolSize", 10}}}});
  Scene base(object);
  EXPECT_EQ(PostgresSettings(*base.policy.spec.managed, base.resolved)["max_connections"], "510");
  object["spec"]["tiers"][1]["pooler"] = {{"instances", 3}};
  Scene larger(object);
  EXPECT_EQ(PostgresSettings(*larger.policy.spec.managed, larger.resolved)["max_connections"], "750");
}

TEST(PostgresConfig, ExtensionsThatNeedItArePreloaded) {
  EXPECT_EQ(SettingsOf(Json::object())["shared_preload_libraries"], "pg_stat_statements");
  EXPECT_EQ(SettingsOf({{"extensions", {"vector", "pg_cron", "timescaledb"}}})["shared_preload_libraries"],
            "timescaledb,pg_stat_statements,pg_cron");
}

TEST(PostgresConfig, TheHashFollowsEverySetting) {
  auto one = SettingsOf({{"parameters", {{"work_mem", "7MB"}}}});
  auto same = SettingsOf({{"parameters", {{"work_mem", "7MB"}}}});
  auto other = SettingsOf({{"parameters", {{"work_mem", "8MB"}}}});
  EXPECT_EQ(one[kConfigSetting], same[kConfigSetting]);
  EXPECT_NE(one[kConfigSetting], other[kConfigSetting]);
}

TEST(PostgresConfig, NobodyIsTrusted) {
  std::string hba = RenderPgHba();
  EXPECT_THAT(hba, Not(HasSubstr("trust")));
  EXPECT_THAT(hba, Not(HasSubstr("md5")));
  EXPECT_THAT(hba, HasSubstr("scram-sha-256"));
}

TEST(PostgresConfig, OverTheNetworkNobodyComesWithoutTls) {
  std::istringstream hba(RenderPgHba(true));
  for (std::string line; std::getline(hba, line);) {
    if (!line.starts_with("host ")) continue;
    EXPECT_THAT(line, HasSubstr("reject"));
  }
  EXPECT_THAT(RenderPgHba(false), Not(HasSubstr("hostssl")));
}

TEST(PostgresConfig, PgCatAloneComesWithoutTls) {
  std::istringstream hba(RenderPgHba(true, "kyoyu"));
  std::vector<std::string> plain;
  for (std::string line; std::getline(hba, line);) {
    if (line.starts_with("host ") && line.find("reject") == std::string::npos) plain.push_back(line);
  }
  EXPECT_EQ(plain, std::vector<std::string>{"host       \"kyoyu\"      \"kyoyu\"             all      scram-sha-256"});
  Scene scene;
  PostgresTerms terms;
  std::string without = RenderPostgresFiles(scene.policy, scene.resolved, terms).hash;
  terms.pgcat = true;
  EXPECT_NE(RenderPostgresFiles(scene.policy, scene.resolved, terms).hash, without) << "a server would not be told";
}

TEST(PostgresConfig, AStandbyDemandsTlsWhereEveryInstanceSpeaksIt) {
  Scene scene;
  PostgresTerms terms;
  PostgresFiles encrypted = RenderPostgresFiles(scene.policy, scene.resolved, terms);
  terms.encrypted = false;
  PostgresFiles plain = RenderPostgresFiles(scene.policy, scene.resolved, terms);
  EXPECT_NE(plain.hash, encrypted.hash) << "a server would not be told";
  EXPECT_THAT(plain.conninfo, Not(HasSubstr("sslmode")));
  EXPECT_THAT(encrypted.conninfo, HasSubstr("sslmode=verify-full sslrootcert=/etc/pgtier/tls/ca.crt"));
  EXPECT_EQ(Parse(encrypted.conf)["primary_conninfo"], encrypted.conninfo);
  EXPECT_THAT(encrypted.conninfo, Not(HasSubstr("password=")));
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier
