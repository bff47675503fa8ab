#include "lib/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cstdio>
#include <memory>
#include <vector>

namespace pgtier::log {
namespace {

thread_local std::vector<Field> scope_fields;

spdlog::logger& Logger() {
  static std::shared_ptr<spdlog::logger> logger = [] {
    auto made = spdlog::stderr_logger_mt("pgtier");
    made->set_pattern(R"({"ts":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})", spdlog::pattern_time_type::utc);
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

// JSON string escapes of RFC 8259 section 7.
void AppendQuoted(std::string& out, std::string_view text) {
  out += '"';
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", byte);
      out += escape.data();
    } else {
      out += c;
    }
  }
  out += '"';
}

void AppendField(std::string& out, const Field& field) {
  out += ',';
  AppendQuoted(out, field.name);
  out += ':';
  if (field.quoted) {
    AppendQuoted(out, field.value);
  } else {
    out += field.value;
  }
}

spdlog::level::level_enum ToSpdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

bool SetLevel(std::string_view level) {
  for (Level candidate : {Level::kDebug, Level::kInfo, Level::kWarn, Level::kError}) {
    constexpr std::array<std::string_view, 4> kNames = {"debug", "info", "warn", "error"};
    if (kNames[static_cast<size_t>(candidate)] != level) continue;
    Logger().set_level(ToSpdlog(candidate));
    return true;
  }
  return false;
}

void Write(Level level, std::string_view message, std::initializer_list<Field> fields) {
  if (!Logger().should_log(ToSpdlog(level))) return;
  std::string line = "\"msg\":";
  AppendQuoted(line, message);
  for (const Field& field : scope_fields) AppendField(line, field);
  for (const Field& field : fields) AppendField(line, field);
  Logger().log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

Scope::Scope(std::initializer_list<Field> fields) : added_(fields.size()) {
  scope_fields.insert(scope_fields.end(), fields.begin(), fields.end());
}

Scope::~Scope() {
  for (size_t i = 0; i < added_; ++i) scope_fields.pop_back();
}

}  // namespace pgtier::log
