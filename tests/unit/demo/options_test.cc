#include "demo/load/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace pgtier::load {
namespace {

std::optional<int> Parse(std::vector<std::string> words, LoadOptions& options) {
  words.insert(words.begin(), "kyoyu-load");
  std::vector<char*> argv;
  argv.reserve(words.size());
  for (auto& word : words) argv.push_back(word.data());
  return ParseOptions(static_cast<int>(argv.size()), argv.data(), options);
}

TEST(LoadOptions, ReadsFlagsAndEnvironment) {
  setenv("PGPASSWORD", "from-env", 1);
  setenv("KYOYU_WRITE_HOST", "rw.example", 1);
  LoadOptions options;
  EXPECT_EQ(Parse({"--read-host", "ro.example", "--read-port", "6432", "--ramp", "2m", "--mix", "1,2,3"}, options),
            std::nullopt);
  unsetenv("KYOYU_WRITE_HOST");
  EXPECT_EQ(options.Write().host, "rw.example");
  EXPECT_EQ(options.Write().port, 5432);
  EXPECT_EQ(options.Write().password, "from-env");
  EXPECT_EQ(options.Read().host, "ro.example");
  EXPECT_EQ(options.Read().port, 6432);
  EXPECT_EQ(options.ramp, std::chrono::minutes(2));
  EXPECT_EQ(options.mix, (std::vector<int>{1, 2, 3}));
}

TEST(LoadOptions, ReadsGoToTheWriteEndpointByDefault) {
  LoadOptions options;
  EXPECT_EQ(Parse({"--write-host", "one", "--write-port", "7"}, options), std::nullopt);
  EXPECT_EQ(options.Read().host, "one");
  EXPECT_EQ(options.Read().port, 7);
}

TEST(LoadOptions, PasswordComesFromAFile) {
  std::string path = ::testing::TempDir() + "/kyoyu-password";
  std::ofstream(path) << "from file\n";
  LoadOptions options;
  EXPECT_EQ(Parse({"--password-file", path}, options), std::nullopt);
  EXPECT_EQ(options.password, "from file");
  EXPECT_TRUE(Parse({"--password-file", "/absent"}, options).has_value());
}

TEST(LoadOptions, RefusesNonsense) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{{"--ramp", "10"},
                                                                                     {"--agents", "0"},
                                                                                     {"--mix", "0,0,0"},
                                                                                     {"--readers-max", "1"},
                                                                                     {"--unknown"},
                                                                                     {"--metrics-port", "99999"},
                                                                                     {"--query-rate", "-1"}}) {
    LoadOptions options;
    auto exit_code = Parse(words, options);
    ASSERT_TRUE(exit_code.has_value()) << words[0];
    EXPECT_NE(*exit_code, 0) << words[0];
  }
}

TEST(LoadOptions, RampsEvenly) {
  LoadOptions options;
  options.warmup = std::chrono::seconds(10);
  options.ramp = std::chrono::seconds(20);
  options.readers_start = 2;
  options.readers_max = 42;
  const std::tuple<int, int, const char*> cases[] = {{0, 2, "warmup"}, {9, 2, "warmup"}, {10, 2, "ramp"},
                                                     {20, 22, "ramp"}, {30, 42, "peak"}, {999, 42, "peak"}};
  for (const auto& [at, readers, phase] : cases) {
    EXPECT_EQ(ReadersAt(options, std::chrono::seconds(at)), readers) << at;
    EXPECT_EQ(PhaseAt(options, std::chrono::seconds(at)), phase) << at;
  }
  options.ramp = Duration::zero();
  EXPECT_EQ(ReadersAt(options, std::chrono::seconds(10)), 42);
}

TEST(LoadOptions, EventsRiseEvenly) {
  LoadOptions options;
  options.warmup = std::chrono::seconds(10);
  options.ramp = std::chrono::seconds(20);
  options.events_per_second = 500;
  EXPECT_EQ(EventsBy(options, std::chrono::seconds(40)), 20'000);
  options.events_start = 100;
  // 100/s for 10 s, then 100/s + 20/s more each second for 20 s, then 500/s.
  const std::pair<int, double> cases[] = {{0, 0}, {10, 1000}, {20, 3000}, {30, 7000}, {40, 12'000}};
  for (const auto& [at, events] : cases) EXPECT_DOUBLE_EQ(EventsBy(options, std::chrono::seconds(at)), events) << at;
  options.ramp = Duration::zero();
  EXPECT_DOUBLE_EQ(EventsBy(options, std::chrono::seconds(12)), 2000);
}

}  // namespace
}  // namespace pgtier::load
