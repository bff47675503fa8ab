// The runner's configuration file (JSON), as the controller writes it and mounts it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/settings/database.h"

namespace pgtier::migrations {

struct StepConfig {
  std::string name;
  std::string kind;           // the one key beside `name` that says what it is: "sql", "backfill", …
  nlohmann::json definition;  // the whole step
};

struct Throttle {
  std::optional<Duration> replica_lag;   // wait while a standby is further behind
  std::optional<int64_t> slot_retained;  // bytes of WAL that a slot may keep; wait while one keeps more
};

struct Config {
  std::string migration;  // "<namespace>/<name>"
  settings::Database database;
  Duration lock_timeout = std::chrono::milliseconds(500);
  Throttle throttle;
  bool dry_run = false;
  std::string result_file;  // what a dry run found, or why a step failed; empty: nowhere
  std::vector<StepConfig> steps;
};

// The kinds of steps that a file may have.
inline constexpr const char* kKinds[] = {"sql", "createIndex", "backfill", "verify", "partitionHistory"};

// Errors: kInvalidArgument: what is wrong with which field.
Result<Config> ParseConfig(std::string_view json);

// Of what a step does, without what only says how fast: a step that has begun as something else is refused.
std::string HashOfStep(const nlohmann::json& definition);

}  // namespace pgtier::migrations
