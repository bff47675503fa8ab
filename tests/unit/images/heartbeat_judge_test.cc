// When a standby takes itself out of reads and back: images/postgres/pgtier-heartbeat on samples, and where there is no
// answer to sample.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/yaml.h"

namespace pgtier {
namespace {

using Json = nlohmann::json;

// A folder with a pg_isready of its own, and the samples.
class Judge : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Fake(const std::string& program, const std::string& script) {
    std::string path = folder_ + "/" + program;
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    chmod(path.c_str(), 0755);
  }

  // Each line that it printed.
  std::vector<std::string> Run(const std::string& samples, const std::string& primary) {
    std::ofstream(folder_ + "/samples") << samples;
    Fake("pg_isready", primary == "refused"  ? "exit 2"
                       : primary == "silent" ? "sleep 1; exit 2"
                       : primary == "hangs"  ? "exec sleep 60"
                                             : "exit 0");
    std::string command = "PATH=" + folder_ +
                          ":$PATH PGTIER_PRIMARY_HOST=primary sh " PGTIER_SOURCE_DIR
                          "/images/postgres/pgtier-heartbeat judge <" +
                          folder_ + "/samples";
    std::vector<std::string> lines;
    FILE* pipe = popen(command.c_str(), "r");
    std::array<char, 256> line{};
    while (fgets(line.data(), line.size(), pipe) != nullptr) lines.emplace_back(line.data());
    EXPECT_EQ(pclose(pipe), 0);
    return lines;
  }

  // Runs beside a standby that is out of reads, whose server is asked for the schema and does `script`. True: still
  // out.
  bool StaysOut(const std::string& script) {
    Fake("psql", "case \"$*\" in\n*pgtier.database*) echo app;;\n*to_regprocedure*) " + script + ";;\nesac");
    std::ofstream(folder_ + "/pgtier-out") << "";
    std::string command = "PATH=" + folder_ + ":$PATH PGTIER_RUN=" + folder_ +
                          " sh " PGTIER_SOURCE_DIR "/images/postgres/pgtier-heartbeat run";
    EXPECT_NE(std::system(command.c_str()), 0);
    return std::filesystem::exists(folder_ + "/pgtier-out");
  }

 private:
  std::string folder_ = "/tmp/pgtier-judge-XXXXXX";
};

// A number of a sample, as text; "none" is a null of the server.
std::string Number(const Json& sample, const char* name, const char* otherwise) {
  if (!sample.contains(name)) return otherwise;
  if (sample[name].is_string()) return "-";
  return std::to_string(sample[name].get<int64_t>());
}

TEST_F(Judge, Cases) {
  Json file = tests::LoadYaml("tests/cases/heartbeat/judge.yaml");
  ASSERT_GT(file["cases"].size(), 20U);
  for (const Json& each : file["cases"]) {
    SCOPED_TRACE(each["name"].get<std::string>());
    std::string samples;
    for (const Json& sample : each["samples"]) {
      std::string line = "standby " + std::string(sample.value("streams", true) ? "t " : "f ") +
                         (sample.value("caught_up", false) ? "t " : "f ") + Number(sample, "age", "100") + " " +
                         Number(sample, "offset", "0") + " " + Number(sample, "quiet", "100") + " " +
                         Number(sample, "limit", "1000") + " kyoyu-2,kyoyu-3\n";
      for (int i = 0; i < sample.value("times", 1); ++i) samples += line;
    }
    std::vector<std::string> lines = Run(samples, each.value("primary", "accepted"));
    ASSERT_FALSE(lines.empty());
    std::istringstream last(lines.back());
    std::string state;
    int64_t lag = -1;
    last >> state >> lag;
    EXPECT_EQ(state, each["state"].get<std::string>());
    if (each.contains("lag")) {
      EXPECT_EQ(lag, each["lag"].get<int64_t>());
    }
  }
}

// A clock that was set is believed once the windows have passed, not before.
TEST_F(Judge, AClockThatWasSetIsBelievedInTheEnd) {
  auto times = [](int count, const std::string& line) {
    std::string all;
    for (int i = 0; i < count; ++i) all += line;
    return all;
  };
  std::string before = "standby t f 100 0 100 1000 -\n";
  std::string after = "standby t f 30100 30000 100 1000 -\n";
  EXPECT_EQ(Run(times(10, before) + times(100, after), "accepted").back(), "out 29850\n");
  EXPECT_EQ(Run(times(10, before) + times(2400, after), "accepted").back(), "in 0\n");
}

// pg_isready's timeout leaves the look-up of a name out.
TEST_F(Judge, APrimaryWhoseNameIsNotFoundInTimeIsNotDown) {
  auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(Run("standby t f 100 0 100 1000 -\nstandby t f 100 0 100 1000 -\nstandby t f 100 0 100 1000 -\n"
                "standby t f 100 0 100 1000 -\nstandby f f 9000 0 9000 1000 -\n",
                "hangs")
                .back(),
            "out 8750\n");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(40));
}

TEST_F(Judge, AServerThatDoesNotAnswerIsNotOneWithoutTheSchema) {
  EXPECT_FALSE(StaysOut("echo f"));
  EXPECT_TRUE(StaysOut("exit 2"));
}

}  // namespace
}  // namespace pgtier
