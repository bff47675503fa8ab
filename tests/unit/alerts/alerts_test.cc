// The alerts of the chart: their series are ones that the sources export, and each has its runbook. What fires which is
// tests/cases/alerts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support/yaml.h"

namespace pgtier {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

const fs::path kRoot = PGTIER_SOURCE_DIR;

std::string TextOf(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Json> Alerts() {
  std::vector<Json> alerts;
  Json rules = tests::LoadYaml("helm/pgtier/files/alerts.yaml");
  for (const Json& group : rules["groups"]) {
    for (const Json& rule : group["rules"]) alerts.push_back(rule);
  }
  return alerts;
}

// Names that stand in a Set, Increment or Observe of the programs.
std::set<std::string> Exported() {
  std::set<std::string> names;
  static const std::regex kCall(R"((Set|Increment|Observe|ObserveCount)\(\s*"(pgtier_[a-z_]+)\")");
  for (const char* folder : {"controllers", "lib", "operator", "workers"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (entry.path().extension() != ".cc") continue;
      std::string text = TextOf(entry.path());
      for (std::sregex_iterator it(text.begin(), text.end(), kCall), end; it != end; ++it) names.insert((*it)[2]);
    }
  }
  return names;
}

TEST(Alerts, AskForSeriesThatAreExported) {
  const std::set<std::string> exported = Exported();
  ASSERT_TRUE(exported.contains("pgtier_leader"));
  ASSERT_TRUE(exported.contains("pgtier_shadow_lag_bytes"));
  static const std::regex kName("pgtier_[a-z_]+");
  std::vector<Json> alerts = Alerts();
  ASSERT_GT(alerts.size(), 10U);
  for (const Json& alert : alerts) {
    std::string expression = alert["expr"];
    int found = 0;
    for (std::sregex_iterator it(expression.begin(), expression.end(), kName), end; it != end; ++it, ++found) {
      EXPECT_TRUE(exported.contains(it->str())) << it->str() << " of " << alert["alert"];
    }
    EXPECT_GT(found, 0) << alert["alert"];
  }
}

TEST(Alerts, EachHasARunbookAndEachRunbookAnAlert) {
  std::set<std::string> names;
  for (const Json& alert : Alerts()) {
    std::string name = alert["alert"];
    names.insert(name + ".md");
    EXPECT_EQ(alert["annotations"]["runbook_url"], "docs/runbooks/" + name + ".md");
    std::string book = TextOf(kRoot / "docs/runbooks" / (name + ".md"));
    for (const char* part : {"## Meaning\n", "## Impact\n", "## Diagnosis\n", "## Cure\n"}) {
      EXPECT_THAT(book, testing::HasSubstr(part)) << name;
    }
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(kRoot / "docs/runbooks")) {
    std::string file = entry.path().filename();
    EXPECT_TRUE(names.contains(file) || file == "README.md") << file << " is of no alert";
    // Links between them lead somewhere.
    std::string text = TextOf(entry.path());
    static const std::regex kLink(R"(\]\(([A-Za-z./]+\.(md|yaml))[#)])");
    for (std::sregex_iterator it(text.begin(), text.end(), kLink), end; it != end; ++it) {
      EXPECT_TRUE(fs::exists(entry.path().parent_path() / (*it)[1].str())) << file << ": " << (*it)[1];
    }
  }
}

}  // namespace
}  // namespace pgtier
