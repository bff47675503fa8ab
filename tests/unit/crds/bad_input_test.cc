// Holds docs/bad-input.md and the tables of tests/cases together: the document's generated parts are what the tables
// say, so a row without a case fails, and so does a case without a row. PGTIER_UPDATE=1 writes the document anew.
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "tests/support/yaml.h"

namespace pgtier::crds {
namespace {

using Json = nlohmann::json;

std::string ReadText(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A cell of a table: a bar would end it, and so would a line.
std::string Cell(const std::string& text) {
  std::string cell;
  for (char c : text) {
    if (c == '|') cell += '\\';
    cell += c == '\n' ? ' ' : c;
  }
  return cell;
}

std::string Code(const std::string& text) {
  if (text.find('`') != std::string::npos) return "`` " + Cell(text) + " ``";
  return "`" + Cell(text) + "`";
}

// "/spec/tiers/1/name" is spec.tiers[1].name.
std::string Path(const std::string& pointer) {
  std::string path;
  std::stringstream parts(pointer.substr(1));
  for (std::string part; std::getline(parts, part, '/');) {
    bool index = part.find_first_not_of("0123456789") == std::string::npos;
    path += index ? "[" + part + "]" : (path.empty() ? "" : ".") + part;
  }
  return path;
}

std::string Written(const Json& set) {
  std::string all;
  for (const auto& [pointer, value] : set.items()) {
    if (!all.empty()) all += ", ";
    all += value.is_null() ? "no " + Code(Path(pointer)) : Code(Path(pointer) + ": " + value.dump());
  }
  return all;
}

std::string Table(const Json& rows) {
  std::string table = "| you write | kubectl says |\n|---|---|\n";
  for (const Json& row : rows) {
    if (!row.contains("says")) continue;
    std::string written = Written(row["set"]);
    if (row.contains("first")) written = Written(row["first"]) + ", then " + written;
    if (row.contains("status")) written += ", in tier " + Code(row["status"]["tier"].get<std::string>());
    table += "| " + written + " | " + Code(row["says"].get<std::string>()) + " |\n";
  }
  return table;
}

std::string TroubleTable(const Json& rows) {
  std::string table = "| the server, or the way to it | reason | the message has |\n|---|---|---|\n";
  for (const Json& row : rows) {
    table += "| " + Code(row["error"].get<std::string>()) + " | `" + row["reason"].get<std::string>() + "` | " +
             Code(row["says"].get<std::string>()) + " |\n";
  }
  return table;
}

std::string FieldTable(const Json& rows) {
  std::string table = "| named in `NotAvailable` | stops |\n|---|---|\n";
  for (const Json& row : rows) {
    std::string blocks = row.value("blocks", "nothing");
    table += "| " + Code(row["field"].get<std::string>()) + " | " +
             (blocks == "policy" ? "the policy"
              : blocks == "tier" ? "that tier"
                                 : "nothing") +
             " |\n";
  }
  return table;
}

// Puts `table` between the marks of that name.
std::string Replace(const std::string& text, const std::string& name, const std::string& table) {
  std::string begin = "<!-- " + name + " -->\n";
  std::string end = "<!-- end -->\n";
  size_t from = text.find(begin);
  EXPECT_NE(from, std::string::npos) << "no mark for " << name;
  if (from == std::string::npos) return text;
  from += begin.size();
  return text.substr(0, from) + table + text.substr(text.find(end, from));
}

TEST(BadInput, TheDocumentSaysWhatTheTablesSay) {
  const std::filesystem::path path = std::filesystem::path(PGTIER_SOURCE_DIR) / "docs/bad-input.md";
  const std::string now = ReadText(path);
  Json bad = tests::LoadYaml("tests/cases/crd/bad.yaml");
  ASSERT_GT(bad["creates"].size(), 90U);
  std::string wanted = Replace(now, "creates", Table(bad["creates"]));
  wanted = Replace(wanted, "updates", Table(bad["updates"]));
  Json shadow = tests::LoadYaml("tests/cases/crd/bad_shadow.yaml");
  wanted = Replace(wanted, "shadow-creates", Table(shadow["creates"]));
  wanted = Replace(wanted, "shadow-updates", Table(shadow["updates"]));
  Json migration = tests::LoadYaml("tests/cases/crd/bad_migration.yaml");
  wanted = Replace(wanted, "migration-creates", Table(migration["creates"]));
  wanted = Replace(wanted, "migration-updates", Table(migration["updates"]));
  wanted = Replace(wanted, "external", TroubleTable(tests::LoadYaml("tests/cases/plan/external_trouble.yaml")["rows"]));
  wanted = Replace(wanted, "unavailable", FieldTable(tests::LoadYaml("tests/cases/plan/unavailable.yaml")["rows"]));
  if (std::getenv("PGTIER_UPDATE") != nullptr) std::ofstream(path) << wanted;
  EXPECT_EQ(now, wanted) << "run PGTIER_UPDATE=1 build/dev/tests/unit/crds/crds_test --gtest_filter='BadInput.*'";
}

// A reason that no source says any more must leave the document.
TEST(BadInput, EachReasonThatIsNamedIsSaidSomewhere) {
  std::string sources;
  for (const char* folder :
       {"controllers/database", "controllers/ladder", "controllers/scale_tier", "controllers/shadow_table",
        "controllers/sql_migration", "migrations", "core", "lib/observe", "lib/http"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(PGTIER_SOURCE_DIR) / folder)) {
      sources += ReadText(entry.path());
    }
  }
  std::string text = ReadText(std::filesystem::path(PGTIER_SOURCE_DIR) / "docs/bad-input.md");
  text = text.substr(text.find("## Conditions"));
  const std::regex reason("`([A-Z][a-z]+(?:[A-Z]+[a-z]*)+)`");
  int found = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), reason); it != std::sregex_iterator(); ++it, ++found) {
    EXPECT_THAT(sources, testing::HasSubstr((*it)[1].str()));
  }
  EXPECT_GT(found, 20);
}

}  // namespace
}  // namespace pgtier::crds
