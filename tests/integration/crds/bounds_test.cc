// Every bound of the schema holds: for each, one object just beyond it.
#include <gmock/gmock.h>

#include <functional>

#include "tests/integration/crds/policy_server.h"
#include "tests/support/yaml.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::AnyOf;
using testing::HasSubstr;

// Items enough to break a list's limit; they need not be valid otherwise.
Json Items(size_t count) {
  Json list = Json::array();
  for (size_t i = 0; i < count; ++i) list.push_back({{"name", "n" + std::to_string(i)}});
  return list;
}

struct Beyond {
  const char* keyword;
  std::function<Json(int64_t bound, const Json& schema)> value;
  const char* words;  // Of the apiserver.
};

const std::vector<Beyond>& Bounds() {
  static const std::vector<Beyond> kBounds = {
      {"minimum", [](int64_t bound, const Json&) { return Json(bound - 1); }, "should be greater than or equal to"},
      {"maximum", [](int64_t bound, const Json&) { return Json(bound + 1); }, "should be less than or equal to"},
      {"minLength", [](int64_t, const Json&) { return Json(""); }, "should be at least"},
      {"maxLength", [](int64_t bound, const Json&) { return Json(std::string(static_cast<size_t>(bound) + 1, '1')); },
       "may not be more than"},
      {"minItems", [](int64_t, const Json&) { return Json::array(); }, "should have at least"},
      {"maxItems",
       [](int64_t bound, const Json& schema) {
         Json list = Items(static_cast<size_t>(bound) + 1);
         if (schema["items"].value("type", "") == "string") {
           for (Json& item : list) item = item["name"];
         }
         return list;
       },
       "must have at most"},
      {"maxProperties",
       [](int64_t bound, const Json&) {
         Json map = Json::object();
         for (int64_t i = 0; i <= bound; ++i) map["k" + std::to_string(i)] = "1";
         return map;
       },
       "must have at most"}};
  return kBounds;
}

// Calls `each` with every field below `schema` and the JSON pointer to it; items are item 0, members of maps "key".
void Walk(const Json& schema, const std::string& pointer,
          const std::function<void(const std::string&, const Json&)>& each) {
  each(pointer, schema);
  if (schema.contains("properties")) {
    for (const auto& [name, field] : schema["properties"].items()) Walk(field, pointer + "/" + name, each);
  }
  if (schema.contains("items")) Walk(schema["items"], pointer + "/0", each);
  if (schema.contains("additionalProperties")) Walk(schema["additionalProperties"], pointer + "/key", each);
}

// As the apiserver writes it: "spec.tiers[0].name".
std::string FieldPath(const std::string& pointer) {
  std::string path;
  for (size_t i = 1; i < pointer.size(); ++i) {
    if (pointer.compare(i, 2, "0/") == 0 || pointer.substr(i) == "0") {
      path.back() = '[';
      path += "0]";
    } else {
      path += pointer[i] == '/' ? '.' : pointer[i];
    }
  }
  return path;
}

class SchemaBounds : public PolicyServerTest {};

TEST_F(SchemaBounds, EachHolds) {
  Json crd = tests::LoadYaml("crds/scaletierpolicies.yaml");
  Json spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
  int tried = 0;
  Walk(spec, "/spec", [&](const std::string& pointer, const Json& field) {
    for (const Beyond& beyond : Bounds()) {
      if (!field.contains(beyond.keyword)) continue;
      Json policy{{"apiVersion", kScaleTierPolicies.ApiVersion()},
                  {"kind", kScaleTierPolicies.kind},
                  {"metadata", {{"name", "bound"}, {"namespace", namespace_name()}}}};
      policy[Json::json_pointer(pointer)] = beyond.value(field[beyond.keyword].get<int64_t>(), field);
      // An array that nlohmann makes for "/0" is one; nothing else is needed, for the apiserver names every fault.
      std::string words = Refusal(policy);
      EXPECT_THAT(words, HasSubstr(FieldPath(pointer))) << beyond.keyword;
      EXPECT_THAT(words, AnyOf(HasSubstr(beyond.words), HasSubstr("Too many"), HasSubstr("Too long")))
          << pointer << " " << beyond.keyword;
      ++tried;
    }
  });
  EXPECT_GT(tried, 150);
}

}  // namespace
}  // namespace pgtier::test
