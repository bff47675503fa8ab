// Includes point one way (docs/architecture.md), and each third-party library is seen by the folder that owns it only.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace pgtier {
namespace {

namespace fs = std::filesystem;

// What each folder may include, besides itself.
const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"lib/base", {}},
    {"lib/http", {"lib/base"}},
    {"lib/kube", {"lib/base", "lib/http"}},
    {"lib/pki", {"lib/base"}},
    {"lib/postgres", {"lib/base"}},
    {"lib/settings", {"lib/base", "lib/postgres"}},
    {"lib/poolers", {"lib/base", "lib/postgres"}},
    {"lib/pgoutput", {"lib/base", "lib/postgres"}},
    {"core", {"lib/base"}},
    {"lib/observe", {"lib/base", "lib/http", "lib/postgres", "lib/poolers", "core"}},
    {"migrations", {"lib/base", "lib/postgres", "lib/settings", "sql"}},
    {"migrations/program", {"lib/base", "migrations", "shadow/partition"}},
    {"shadow", {"lib/base", "lib/postgres", "sql"}},
    {"shadow/partition", {"lib/base", "lib/postgres", "sql", "shadow", "migrations"}},
    {"workers/cdc", {"lib/base", "lib/postgres", "lib/pgoutput"}},
    {"crds", {"lib/base", "core"}},
    {"controllers/runtime", {"lib/base", "lib/kube"}},
    {"controllers/ladder", {"lib/base", "lib/kube", "lib/postgres", "lib/observe", "core", "crds"}},
    {"controllers/scale_tier",
     {"lib/base", "lib/kube", "lib/postgres", "lib/poolers", "lib/observe", "lib/pki", "core", "crds",
      "controllers/ladder", "controllers/runtime", "sql"}},
    {"controllers/database",
     {"lib/base", "lib/kube", "lib/postgres", "crds", "controllers/ladder", "controllers/scale_tier"}},
    {"controllers/shadow_table",
     {"lib/base", "lib/kube", "lib/postgres", "lib/observe", "core", "crds", "shadow", "shadow/partition",
      "controllers/database", "controllers/ladder", "controllers/runtime", "controllers/scale_tier"}},
    {"controllers/sql_migration",
     {"lib/base", "lib/kube", "lib/postgres", "crds", "migrations", "controllers/database", "controllers/ladder",
      "controllers/runtime", "controllers/scale_tier"}},
    {"operator",
     {"lib/base", "lib/http", "lib/kube", "lib/observe", "core", "crds", "controllers/ladder", "controllers/runtime",
      "controllers/scale_tier", "controllers/shadow_table", "controllers/sql_migration"}},
    {"workers", {"lib/base", "lib/http", "lib/postgres", "lib/settings", "shadow", "workers/cdc"}},
    {"cli",
     {"lib/base", "lib/http", "lib/kube", "core", "crds", "controllers/ladder", "controllers/scale_tier",
      "controllers/shadow_table"}},
    {"demo/load", {"lib/base", "lib/postgres"}},
};

// Which folders see a library's headers.
const std::map<std::string, std::set<std::string>> kOwners = {
    {"cpprest/", {"lib/http"}},
    {"pplx/", {"lib/http"}},
    {"libpq-fe.h", {"lib/postgres"}},
    {"prometheus/", {"lib/base", "demo/load"}},
    {"spdlog/", {"lib/base"}},
    {"yaml-cpp/", {"lib/kube"}},
    {"CLI/", {"operator", "workers", "cli", "demo/load", "migrations/program"}},
    {"nlohmann/",
     {"lib/kube", "lib/observe", "crds", "controllers/ladder", "controllers/runtime", "controllers/scale_tier",
      "controllers/shadow_table", "controllers/database", "controllers/sql_migration", "operator", "cli", "demo/load",
      "workers", "workers/cdc", "lib/settings", "migrations", "shadow/partition"}},
};

std::string FolderOf(const std::string& path) {
  std::string best;
  for (const auto& [folder, allowed] : kMayInclude) {
    if (path.starts_with(folder + "/") && folder.size() > best.size()) best = folder;
  }
  if (best.empty() && path.starts_with("sql/")) return "sql";
  return best;
}

std::vector<std::string> Sources() {
  std::vector<std::string> sources;
  for (const auto& [folder, allowed] : kMayInclude) {
    for (const auto& entry : fs::directory_iterator(fs::path(PGTIER_SOURCE_DIR) / folder)) {
      std::string extension = entry.path().extension();
      if (extension == ".h" || extension == ".cc") sources.push_back(folder + "/" + entry.path().filename().string());
    }
  }
  return sources;
}

TEST(Architecture, IncludesPointOneWay) {
  const std::regex kInclude(R"re(^#include ["<]([^">]+)[">])re");
  std::vector<std::string> sources = Sources();
  ASSERT_GT(sources.size(), 50U);
  for (const std::string& source : sources) {
    std::string folder = FolderOf(source);
    std::ifstream file(fs::path(PGTIER_SOURCE_DIR) / source);
    int lines = 0;
    for (std::string line; std::getline(file, line); ++lines) {
      std::smatch match;
      if (!std::regex_search(line, match, kInclude)) continue;
      std::string header = match[1];
      std::string target = FolderOf(header);
      if (!target.empty() && target != folder) {
        EXPECT_TRUE(kMayInclude.at(folder).contains(target)) << source << " includes " << header;
      }
      for (const auto& [prefix, owners] : kOwners) {
        if (!header.starts_with(prefix)) continue;
        EXPECT_TRUE(owners.contains(folder)) << source << " includes " << header;
      }
    }
    EXPECT_LE(lines, 400) << source << " has grown too long";
  }
}

TEST(Architecture, CoreIsPure) {
  const std::set<std::string> kForbidden = {"thread", "mutex", "fstream", "iostream", "future", "atomic"};
  const std::regex kInclude(R"(^#include <([^>]+)>)");
  for (const std::string& source : Sources()) {
    if (!source.starts_with("core/")) continue;
    std::ifstream file(fs::path(PGTIER_SOURCE_DIR) / source);
    for (std::string line; std::getline(file, line);) {
      std::smatch match;
      if (!std::regex_search(line, match, kInclude)) continue;
      EXPECT_FALSE(kForbidden.contains(match[1])) << source << " includes " << match[1];
      EXPECT_EQ(line.find("system_clock::now"), std::string::npos) << source;
    }
  }
}

}  // namespace
}  // namespace pgtier
