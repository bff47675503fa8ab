#include "lib/settings/json_reader.h"

#include <fstream>
#include <sstream>

#include "lib/base/quantity.h"
#include "lib/base/time_format.h"

namespace pgtier::settings {

using Json = nlohmann::json;

const Json* JsonReader::Find(const char* name, bool required) const {
  auto found = object_.find(name);
  if (found != object_.end() && !found->is_null()) return &*found;
  if (required) Fail(name, "is missing");
  return nullptr;
}

void JsonReader::Fail(const char* name, const std::string& what) const {
  if (!error_->has_value()) *error_ = MakeError(Code::kInvalidArgument, path_ + name + " " + what);
}

bool JsonReader::Has(const char* name) const { return Find(name, false) != nullptr; }

void JsonReader::Text(const char* name, std::string& to, bool required) const {
  const Json* value = Find(name, required);
  if (value == nullptr) return;
  if (!value->is_string()) return Fail(name, "is no text");
  to = value->get<std::string>();
  if (required && to.empty()) Fail(name, "is empty");
}

void JsonReader::Number(const char* name, int64_t& to, int64_t least, int64_t most) const {
  const Json* value = Find(name, false);
  if (value == nullptr) return;
  if (!value->is_number_integer()) return Fail(name, "is no whole number");
  int64_t number = value->get<int64_t>();
  if (number < least || number > most) {
    return Fail(name, "is not between " + std::to_string(least) + " and " + std::to_string(most));
  }
  to = number;
}

void JsonReader::Flag(const char* name, bool& to) const {
  const Json* value = Find(name, false);
  if (value == nullptr) return;
  if (!value->is_boolean()) return Fail(name, "is neither true nor false");
  to = value->get<bool>();
}

void JsonReader::Time(const char* name, Duration& to) const {
  std::string text;
  Text(name, text);
  if (text.empty()) return;
  auto duration = ParseDuration(text);
  if (!duration.has_value() || *duration <= Duration::zero()) return Fail(name, "is no duration such as 100ms");
  to = *duration;
}

void JsonReader::Bytes(const char* name, int64_t& to) const {
  std::string text;
  Text(name, text);
  if (text.empty()) return;
  auto bytes = ParseQuantity(text);
  if (!bytes.has_value() || *bytes < 1) return Fail(name, "is no number of bytes such as 16Mi");
  to = static_cast<int64_t>(*bytes);
}

JsonReader JsonReader::Object(const char* name, bool required) const {
  static const Json kNothing = Json::object();
  const Json* value = Find(name, required);
  if (value != nullptr && !value->is_object()) {
    Fail(name, "is no object");
    value = nullptr;
  }
  return {value == nullptr ? kNothing : *value, path_ + name + ".", error_};
}

void JsonReader::ForEach(const char* name, const std::function<void(const JsonReader&)>& each) const {
  const Json* list = Find(name, false);
  if (list == nullptr) return;
  if (!list->is_array()) return Fail(name, "is no list");
  size_t index = 0;
  for (const Json& item : *list) {
    std::string path = path_ + name + "[" + std::to_string(index++) + "]";
    if (item.is_object()) {
      each(JsonReader(item, path + ".", error_));
    } else if (!error_->has_value()) {
      *error_ = MakeError(Code::kInvalidArgument, path + " is no object");
    }
  }
}

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) return MakeError(Code::kUnavailable, "can't read " + path);
  return std::move(text).str();
}

}  // namespace pgtier::settings
