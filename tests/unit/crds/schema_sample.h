// Samples made from a schema, and the fields in them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pgtier::crds {

using Json = nlohmann::json;

// A value that fits the schema, with every optional field filled in.
inline Json Sample(const Json& schema) {
  if (schema.contains("enum")) return schema["enum"][0];
  if (schema.value("x-kubernetes-int-or-string", false)) return 1;
  std::string type = schema.value("type", "");
  if (type == "integer") return 1;
  if (type == "boolean") return true;
  if (type == "array") return Json::array({Sample(schema["items"])});
  if (type == "object") {
    Json object = Json::object();
    if (schema.contains("properties")) {
      for (const auto& [name, field] : schema["properties"].items()) object[name] = Sample(field);
    }
    if (schema.contains("additionalProperties")) object["key"] = Sample(schema["additionalProperties"]);
    return object;
  }
  return schema.value("format", "") == "duration" ? "10s" : "text";
}

inline bool IsLeaf(const Json& schema) { return !schema.contains("properties") && !schema.contains("items"); }

// Paths of all leaves as JSON pointers into a sample; list items are item 0.
inline void Leaves(const Json& schema, const std::string& path, std::vector<std::string>& leaves) {
  if (IsLeaf(schema)) {
    leaves.push_back(schema.contains("additionalProperties") ? path + "/key" : path);
    return;
  }
  if (schema.contains("items")) return Leaves(schema["items"], path + "/0", leaves);
  for (const auto& [name, field] : schema["properties"].items()) Leaves(field, path + "/" + name, leaves);
}

}  // namespace pgtier::crds
