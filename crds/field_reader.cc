#include "crds/field_reader.h"

#include <limits>

#include "lib/base/quantity.h"
#include "lib/base/time_format.h"

namespace pgtier::crds {

const nlohmann::json* FieldReader::Find(const char* name) const {
  if (node_ == nullptr || !node_->is_object()) return nullptr;
  auto found = node_->find(name);
  return found == node_->end() || found->is_null() ? nullptr : &*found;
}

void FieldReader::Problem(const char* name, const std::string& why) const {
  if (problems_ != nullptr) problems_->push_back(path_ + "." + name + ": " + why);
}

FieldReader FieldReader::Child(const char* name) const {
  const nlohmann::json* child = Find(name);
  if (child != nullptr && !child->is_object()) {
    Problem(name, "is not an object");
    child = nullptr;
  }
  return {child, path_ + "." + name, problems_};
}

void FieldReader::ForEach(const char* name, const std::function<void(const FieldReader&)>& each) const {
  const nlohmann::json* list = Find(name);
  if (list == nullptr) return;
  if (!list->is_array()) return Problem(name, "is not a list");
  size_t index = 0;
  for (const nlohmann::json& item : *list) {
    each(FieldReader(&item, path_ + "." + name + "[" + std::to_string(index++) + "]", problems_));
  }
}

std::optional<std::string> FieldReader::OptionalString(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  Problem(name, "is not a string");
  return std::nullopt;
}

std::optional<int64_t> FieldReader::OptionalInt(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_integer()) return value->get<int64_t>();
  Problem(name, "is not an integer");
  return std::nullopt;
}

std::optional<int> FieldReader::OptionalSmallInt(const char* name) const {
  std::optional<int64_t> value = OptionalInt(name);
  if (!value.has_value()) return std::nullopt;
  if (*value >= 0 && *value <= std::numeric_limits<int>::max()) return static_cast<int>(*value);
  Problem(name, "is out of range");
  return std::nullopt;
}

bool FieldReader::Bool(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return false;
  if (value->is_boolean()) return value->get<bool>();
  Problem(name, "is not a boolean");
  return false;
}

std::optional<Duration> FieldReader::OptionalDuration(const char* name) const {
  std::optional<std::string> text = OptionalString(name);
  if (!text.has_value()) return std::nullopt;
  Result<Duration> duration = ParseDuration(*text);
  if (duration.has_value()) return *duration;
  Problem(name, duration.error().message);
  return std::nullopt;
}

std::optional<double> FieldReader::OptionalQuantity(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return std::nullopt;
  Result<double> number = ParseQuantity(IntOrString(name));
  if (number.has_value()) return *number;
  Problem(name, number.error().message);
  return std::nullopt;
}

std::string FieldReader::IntOrString(const char* name) const {
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return "";
  if (value->is_string()) return value->get<std::string>();
  if (value->is_number_integer()) return std::to_string(value->get<int64_t>());
  Problem(name, "is neither an integer nor a string");
  return "";
}

std::optional<WallTime> FieldReader::OptionalTime(const char* name) const {
  std::optional<std::string> text = OptionalString(name);
  if (!text.has_value()) return std::nullopt;
  Result<WallTime> time = ParseTime(*text);
  if (time.has_value()) return *time;
  Problem(name, time.error().message);
  return std::nullopt;
}

std::map<std::string, std::string> FieldReader::StringMap(const char* name) const {
  std::map<std::string, std::string> map;
  const nlohmann::json* value = Find(name);
  if (value == nullptr || !value->is_object()) return map;
  FieldReader child = Child(name);
  for (const auto& [key, item] : value->items()) map[key] = child.IntOrString(key.c_str());
  return map;
}

std::vector<std::string> FieldReader::StringList(const char* name) const {
  std::vector<std::string> list;
  const nlohmann::json* value = Find(name);
  if (value == nullptr) return list;
  if (!value->is_array()) {
    Problem(name, "is not a list");
    return list;
  }
  for (const nlohmann::json& item : *value) {
    if (item.is_string()) {
      list.push_back(item.get<std::string>());
    } else {
      Problem(name, "holds something that is not a string");
    }
  }
  return list;
}

}  // namespace pgtier::crds
