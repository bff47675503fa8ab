#include "lib/observe/json_path.h"

#include <gmock/gmock.h>

namespace pgtier::observe {
namespace {

using Json = nlohmann::json;

// What the path finds as text; "none" where there is nothing.
std::string Find(const std::string& path, const Json& document) {
  Result<JsonPath> parsed = JsonPath::Parse(path);
  if (!parsed.has_value()) return "refused";
  const Json* value = parsed->Find(document);
  return value == nullptr ? "none" : value->dump();
}

TEST(JsonPath, FindsWhatItNames) {
  Json document = Json::parse(
      R"({"data": [{"p99": 1.5, "a b": 2}, {"p99": 3}], "x-y": {"z": null}, "it's": 4, "ä": 5, "_u1": [[6]], "a\"b": 7})");
  EXPECT_EQ(Find("$", Json(7)), "7");
  EXPECT_EQ(Find("$.data[0].p99", document), "1.5");
  EXPECT_EQ(Find("$.data[1]['p99']", document), "3");
  EXPECT_EQ(Find("$.data[-1].p99", document), "3");
  EXPECT_EQ(Find("$['data'][ 0 ][\"a b\"]", document), "2");
  EXPECT_EQ(Find("$['x-y'].z", document), "null");
  EXPECT_EQ(Find("$['it\\'s']", document), "4");
  EXPECT_EQ(Find("$[\"a\\\"b\"]", document), "7");
  EXPECT_EQ(Find("$.ä", document), "5");
  EXPECT_EQ(Find("$._u1[0][0]", document), "6");
}

TEST(JsonPath, FindsNothingWhereNothingIs) {
  Json document = Json::parse(R"({"data": [1, 2], "n": 3})");
  for (const char* path :
       {"$.nothing", "$.data[2]", "$.data[-3]", "$.data.length", "$.n[0]", "$.n.m", "$[0]", "$.data['0']", "$.Data"}) {
    EXPECT_EQ(Find(path, document), "none") << path;
  }
}

TEST(JsonPath, RefusesWhatNamesMoreThanOneValueOrIsNone) {
  for (const char* path : {"",
                           "data",
                           ".data",
                           "$data",
                           "$.",
                           "$..a",
                           "$.*",
                           "$[*]",
                           "$[0:2]",
                           "$[?@.a]",
                           "$[0,1]",
                           "$[",
                           "$[0",
                           "$['a",
                           "$['a'",
                           "$[]",
                           "$[a]",
                           "$.1a",
                           "$.a-b",
                           "$[01]",
                           "$[-0]",
                           "$[-]",
                           "$[99999999999999999999]",
                           "$.a ",
                           " $.a",
                           "$['\\u0041']",
                           "$['a\\"}) {
    EXPECT_EQ(Find(path, Json::object()), "refused") << path;
  }
  EXPECT_EQ(JsonPath::Parse("$.a[*]").error().message,
            "an index or a quoted name is needed (no wildcard, slice or filter) at character 5 of $.a[*]");
}

}  // namespace
}  // namespace pgtier::observe
