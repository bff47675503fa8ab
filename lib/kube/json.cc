#include "lib/kube/json.h"

#include <algorithm>

namespace pgtier::kube {

Result<nlohmann::json> ParseJson(std::string_view text) {
  nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) {
    return MakeError(Code::kInvalidArgument, "not a JSON document (" + std::to_string(text.size()) + " bytes)");
  }
  return document;
}

std::string DumpJson(const nlohmann::json& document) {
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string DumpWithoutManagedFields(const nlohmann::json& object) {
  if (!At(object, {"metadata", "managedFields"}).is_array()) return DumpJson(object);
  nlohmann::json metadata = At(object, {"metadata"});
  metadata.erase("managedFields");
  std::string text = "{\"metadata\":" + DumpJson(metadata);
  for (const auto& [name, value] : object.items()) {
    if (name != "metadata") text.append(",").append(DumpJson(name)).append(":").append(DumpJson(value));
  }
  return text + "}";
}

const nlohmann::json& At(const nlohmann::json& document, std::initializer_list<std::string_view> path) {
  static const nlohmann::json kNull;
  const nlohmann::json* node = &document;
  for (std::string_view name : path) {
    if (!node->is_object()) return kNull;
    auto found = node->find(name);
    if (found == node->end()) return kNull;
    node = &*found;
  }
  return *node;
}

std::string StringAt(const nlohmann::json& document, std::initializer_list<std::string_view> path) {
  const nlohmann::json& node = At(document, path);
  return node.is_string() ? node.get<std::string>() : std::string();
}

long long IntAt(const nlohmann::json& document, std::initializer_list<std::string_view> path, long long fallback) {
  const nlohmann::json& node = At(document, path);
  return node.is_number_integer() ? node.get<long long>() : fallback;
}

ObjectKey KeyOf(const nlohmann::json& object) {
  return {StringAt(object, {"metadata", "namespace"}), StringAt(object, {"metadata", "name"})};
}

const nlohmann::json& ConditionAt(const nlohmann::json& object, std::string_view type) {
  static const nlohmann::json kNone;
  const nlohmann::json& conditions = At(object, {"status", "conditions"});
  if (!conditions.is_array()) return kNone;
  auto found = std::find_if(conditions.begin(), conditions.end(),
                            [&](const nlohmann::json& condition) { return StringAt(condition, {"type"}) == type; });
  return found == conditions.end() ? kNone : *found;
}

std::string UidOf(const nlohmann::json& object) { return StringAt(object, {"metadata", "uid"}); }

}  // namespace pgtier::kube
