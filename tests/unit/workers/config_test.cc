#include "workers/config.h"

#include <gtest/gtest.h>

namespace pgtier::workers {
namespace {

using std::chrono::milliseconds;

constexpr const char* kLeast = R"({"policy": "data/audit", "mode": "notify",
  "database": {"host": "db", "name": "kyoyu", "user": "pgtier_shadow_notify"}})";

TEST(WorkerConfig, DefaultsAndAllFields) {
  auto least = ParseConfig(kLeast);
  ASSERT_TRUE(least.has_value()) << least.error().message;
  EXPECT_EQ(least->database.port, 5432);
  EXPECT_EQ(least->batch_rows, 1000);
  EXPECT_EQ(least->batch_interval, milliseconds(100));
  EXPECT_EQ(least->listen_port, 8080);
  EXPECT_FALSE(least->payload);
  auto all = ParseConfig(R"({"policy": "data/audit", "mode": "cdc", "unknown": 1,
    "database": {"host": "db", "port": 6000, "name": "kyoyu", "user": "u", "passwordFile": "/p", "sslMode": "verify-full",
                 "caFile": "/ca"},
    "channel": "c", "delivery": "Payload", "batch": {"rows": 10, "interval": "1s"}, "slot": "s", "publication": "pub", "stallAfter": "2m", "sleep": {"after": "3s", "most": "4s"},
    "spill": {"memory": "32Mi", "directory": "/spill"}, "listen": {"address": "127.0.0.1", "port": 0}})");
  ASSERT_TRUE(all.has_value()) << all.error().message;
  EXPECT_EQ(all->database.port, 6000);
  EXPECT_EQ(all->database.ssl_mode, "verify-full");
  EXPECT_EQ(all->batch_rows, 10);
  EXPECT_EQ(all->batch_interval, milliseconds(1000));
  EXPECT_EQ(all->stall_limit, std::chrono::minutes(2));
  EXPECT_EQ(all->awake, std::chrono::seconds(3));
  EXPECT_EQ(all->asleep, std::chrono::seconds(4));
  EXPECT_EQ(all->spill_memory, 32 << 20);
  EXPECT_TRUE(all->payload);
  EXPECT_EQ(all->listen_port, 0);
}

TEST(WorkerConfig, SaysWhatIsWrong) {
  auto message = [](const std::string& from, const std::string& to) {
    std::string text = kLeast;
    text.replace(text.find(from), from.size(), to);
    auto config = ParseConfig(text);
    return config.has_value() ? "" : config.error().message;
  };
  EXPECT_EQ(message(R"("mode": "notify")", R"("mode": 3)"), "mode is no text");
  EXPECT_EQ(message(R"("host": "db", )", ""), "database.host is missing");
  EXPECT_EQ(message(R"("host": "db")", R"("host": "")"), "database.host is empty");
  EXPECT_EQ(message(R"("host": "db")", R"("host": "db", "port": 70000)"), "database.port is not between 1 and 65535");
  EXPECT_EQ(message(R"("mode")", R"("batch": {"rows": 0}, "mode")"), "batch.rows is not between 1 and 100000");
  EXPECT_EQ(message(R"("mode")", R"("batch": {"interval": "soon"}, "mode")"),
            "batch.interval is no duration such as 100ms");
  EXPECT_EQ(message(R"("mode")", R"("batch": [], "mode")"), "batch is no object");
  EXPECT_EQ(message(R"("mode")", R"("delivery": "Mail", "mode")"), "delivery is neither Outbox nor Payload");
  EXPECT_EQ(ParseConfig("[]").error().message, "the configuration is no JSON object");
  EXPECT_EQ(ParseConfig("{").error().message, "the configuration is no JSON object");
}

TEST(WorkerConfig, APasswordFileThatIsMissingIsAnError) {
  Config config = *ParseConfig(kLeast);
  config.database.password_file = "/does/not/exist";
  auto options = ConnectOptionsOf(config);
  ASSERT_FALSE(options.has_value());
  EXPECT_EQ(options.error().message, "can't read /does/not/exist");
}

}  // namespace
}  // namespace pgtier::workers
