// Every rule of the schema refuses what it should, in words that help.
#include <gmock/gmock.h>

#include <set>

#include "tests/integration/crds/policy_server.h"
#include "tests/support/yaml.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class SchemaRules : public PolicyServerTest {
 protected:
  static Json Table() { return tests::LoadYaml("tests/cases/crd/bad.yaml"); }
};

TEST_F(SchemaRules, BadObjectsAreRefusedInHelpfulWords) {
  const Json table = Table();
  ASSERT_GT(table["creates"].size(), 90U);
  ExpectRefusals(kScaleTierPolicies, table["creates"]);
}

TEST_F(SchemaRules, ChangesAreRefusedOrTaken) {
  const Json table = Table();
  ASSERT_GT(table["updates"].size(), 15U);
  ExpectChanges(kScaleTierPolicies, table["updates"]);
}

// What a rule says as far as it does not depend on what was found.
std::string WordsOf(const Json& rule) {
  std::string message = rule["message"];
  if (message == "pin names no tier") return " names no tier of this policy";
  if (message == "the current tier cannot be renamed or removed") return "is current: it cannot be renamed";
  return message;
}

// The names of fields with a pattern or an enum, and the words of every rule, below a schema.
void Demanded(const Json& schema, const std::string& name, std::set<std::string>& fields,
              std::set<std::string>& rules) {
  if (schema.contains("pattern") || schema.contains("enum")) fields.insert(name);
  if (schema.contains("x-kubernetes-validations")) {
    for (const Json& rule : schema["x-kubernetes-validations"]) rules.insert(WordsOf(rule));
  }
  if (schema.contains("properties")) {
    for (const auto& [child, field] : schema["properties"].items()) {
      if (child != "status" || name != "") Demanded(field, child, fields, rules);
    }
  }
  if (schema.contains("items")) Demanded(schema["items"], name, fields, rules);
}

TEST_F(SchemaRules, EachHasARow) {
  Json crd = tests::LoadYaml("crds/scaletierpolicies.yaml");
  std::set<std::string> fields;
  std::set<std::string> rules;
  Demanded(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", fields, rules);
  ASSERT_GT(rules.size(), 20U);
  ASSERT_GT(fields.size(), 25U);
  std::string said;
  const Json table = Table();
  for (const char* part : {"creates", "updates"}) {
    for (const Json& row : table[part]) {
      if (row.contains("says")) said += row["says"].get<std::string>() + "\n";
    }
  }
  auto beginning = [](const std::string& words) { return words.substr(0, 40); };
  for (const std::string& rule : rules) EXPECT_THAT(said, HasSubstr(beginning(rule)));
  for (const std::string& field : fields) {
    auto names = [&](const std::string& after) { return said.find(field + after) != std::string::npos; };
    EXPECT_TRUE(names(" in body should match") || names(": Unsupported value") || names("[0] in body should match"))
        << field << " has a pattern or an enum and no row";
  }
}

TEST_F(SchemaRules, UnknownFieldsAreRefusedByKubectl) {
  bool failed = false;
  std::string file = std::filesystem::path(server().kubeconfig()).parent_path() / "unknown.json";
  Json policy = Example("dev");
  policy["spec"]["pooler"]["instnces"] = 3;
  std::ofstream(file) << policy.dump();
  std::string words = Kubectl({"create", "-f", file}, &failed);
  EXPECT_TRUE(failed);
  EXPECT_THAT(words, HasSubstr("unknown field \"spec.pooler.instnces\""));
}

}  // namespace
}  // namespace pgtier::test
