// Structured logs: one JSON object a line on standard error, with the fields that the caller names.
// Values are never secrets; that is the caller's duty.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace pgtier::log {

enum class Level { kDebug, kInfo, kWarn, kError };

struct Field {
  Field(std::string_view field_name, std::string text) : name(field_name), value(std::move(text)) {}
  Field(std::string_view field_name, const char* text) : name(field_name), value(text) {}
  Field(std::string_view field_name, std::string_view text) : name(field_name), value(text) {}
  Field(std::string_view field_name, long long number)
      : name(field_name), value(std::to_string(number)), quoted(false) {}

  std::string_view name;
  std::string value;
  bool quoted = true;
};

// Sets the lowest level that is written: "debug", "info", "warn" or "error". False when it is none of these.
bool SetLevel(std::string_view level);

void Write(Level level, std::string_view message, std::initializer_list<Field> fields = {});

inline void Debug(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kDebug, message, fields);
}
inline void Info(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kInfo, message, fields);
}
inline void Warn(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kWarn, message, fields);
}
inline void Error(std::string_view message, std::initializer_list<Field> fields = {}) {
  Write(Level::kError, message, fields);
}

// Fields that every line of this thread carries while the scope lives: the policy and the id of the pass.
class Scope {
 public:
  Scope(std::initializer_list<Field> fields);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  size_t added_;
};

}  // namespace pgtier::log
