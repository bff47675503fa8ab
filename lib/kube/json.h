// Reading JSON documents without exceptions: whatever is absent or of another type counts as empty.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "lib/base/result.h"
#include "lib/kube/resource.h"

namespace pgtier::kube {

// Errors: kInvalidArgument, when `text` is not one JSON document.
Result<nlohmann::json> ParseJson(std::string_view text);
// Compact text. Bytes that are not UTF-8 are replaced rather than thrown at.
std::string DumpJson(const nlohmann::json& document);

// The same without metadata.managedFields, which is often half of an object.
std::string DumpWithoutManagedFields(const nlohmann::json& object);

// The value under `path` (names of object members), or null when any step is missing. The reference is `document`'s
// own, or a constant's.
const nlohmann::json& At(const nlohmann::json& document, std::initializer_list<std::string_view> path);
// The string there, else empty.
std::string StringAt(const nlohmann::json& document, std::initializer_list<std::string_view> path);
// The whole number there, else `fallback`.
long long IntAt(const nlohmann::json& document, std::initializer_list<std::string_view> path, long long fallback = 0);

// The item of status.conditions of that type, or null.
const nlohmann::json& ConditionAt(const nlohmann::json& object, std::string_view type);

// metadata.namespace and metadata.name.
ObjectKey KeyOf(const nlohmann::json& object);
// metadata.uid.
std::string UidOf(const nlohmann::json& object);

}  // namespace pgtier::kube
