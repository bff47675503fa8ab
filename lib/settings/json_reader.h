// Reads the configuration file of a program that pgtier runs in a pod: JSON, as a controller wrote it.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::settings {

// Fields of one object; the first thing that is wrong is kept in `error`, by its path. Fields that nobody asks for are
// left alone: an older program may be given a newer file. What is absent leaves `to` as it is.
class JsonReader {
 public:
  // `object` and `error` outlive this. `path` ends with a dot, or is empty at the root.
  JsonReader(const nlohmann::json& object, std::string path, std::optional<Error>* error)
      : object_(object), path_(std::move(path)), error_(error) {}

  // Required: it is there and not empty.
  void Text(const char* name, std::string& to, bool required = false) const;
  void Number(const char* name, int64_t& to, int64_t least, int64_t most) const;
  void Flag(const char* name, bool& to) const;
  // As "100ms".
  void Time(const char* name, Duration& to) const;
  // As "16Mi".
  void Bytes(const char* name, int64_t& to) const;
  [[nodiscard]] JsonReader Object(const char* name, bool required = false) const;
  // Calls `each` with every object of a list.
  void ForEach(const char* name, const std::function<void(const JsonReader& item)>& each) const;

  [[nodiscard]] bool Has(const char* name) const;
  [[nodiscard]] const nlohmann::json& json() const { return object_; }
  // Notes what is wrong with a field.
  void Fail(const char* name, const std::string& what) const;

 private:
  [[nodiscard]] const nlohmann::json* Find(const char* name, bool required) const;
  const nlohmann::json& object_;
  std::string path_;
  std::optional<Error>* error_;
};

// Errors: kUnavailable.
Result<std::string> ReadFile(const std::string& path);

}  // namespace pgtier::settings
