// Reads fields of a stored object leniently: a field of the wrong shape is noted by its path and left absent, so that
// an object written under an older schema can still be listed, reported and deleted.
#pragma once

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"

namespace pgtier::crds {

class FieldReader {
 public:
  // Reads `node` (may be null: everything is absent), at `path` for messages; problems are appended to `problems`.
  FieldReader(const nlohmann::json* node, std::string path, std::vector<std::string>* problems)
      : node_(node), path_(std::move(path)), problems_(problems) {}

  [[nodiscard]] bool Has(const char* name) const { return Find(name) != nullptr; }
  [[nodiscard]] FieldReader Child(const char* name) const;
  // Calls `each` with every element of an array.
  void ForEach(const char* name, const std::function<void(const FieldReader&)>& each) const;

  [[nodiscard]] std::optional<std::string> OptionalString(const char* name) const;
  [[nodiscard]] std::string String(const char* name) const { return OptionalString(name).value_or(""); }
  [[nodiscard]] std::optional<int64_t> OptionalInt(const char* name) const;
  [[nodiscard]] std::optional<int> OptionalSmallInt(const char* name) const;
  [[nodiscard]] bool Bool(const char* name) const;
  // A duration of the API ("10m").
  [[nodiscard]] std::optional<Duration> OptionalDuration(const char* name) const;
  // A quantity as a number: 4, "0.05", "100Gi".
  [[nodiscard]] std::optional<double> OptionalQuantity(const char* name) const;
  // An int-or-string as text: 4 and "4" are "4".
  [[nodiscard]] std::string IntOrString(const char* name) const;
  [[nodiscard]] std::optional<WallTime> OptionalTime(const char* name) const;
  [[nodiscard]] std::map<std::string, std::string> StringMap(const char* name) const;
  [[nodiscard]] std::vector<std::string> StringList(const char* name) const;

  [[nodiscard]] const std::string& path() const { return path_; }
  // Notes that `name` cannot be read.
  void Problem(const char* name, const std::string& why) const;

 private:
  [[nodiscard]] const nlohmann::json* Find(const char* name) const;

  const nlohmann::json* node_;
  std::string path_;
  std::vector<std::string>* problems_;
};

}  // namespace pgtier::crds
