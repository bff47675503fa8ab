// The worker's configuration file (JSON), as the controller writes it and mounts it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/settings/database.h"

namespace pgtier::workers {

struct Config {
  std::string policy;  // "<namespace>/<name>"
  std::string mode;    // "notify", "cdc"
  settings::Database database;
  std::string channel;                                       // of NOTIFY
  bool payload = false;                                      // "delivery": "Payload": rows come in notifications too
  int64_t batch_rows = 1000;                                 // moved in one transaction at most
  Duration batch_interval = std::chrono::milliseconds(100);  // for which rows are gathered
  Duration stall_limit = std::chrono::seconds(60);           // /healthz fails after that long with work and no progress
  Duration awake = std::chrono::seconds(1);                  // without work before a notify worker tries to sleep
  Duration asleep = std::chrono::seconds(2);                 // at most, then it looks, whether it was woken or not
  std::string slot;
  std::string publication;
  int64_t spill_memory = 16LL << 20;  // bytes
  std::string spill_directory;
  std::string listen_address = "::";
  uint16_t listen_port = 8080;
};

// Errors: kInvalidArgument: what is wrong with which field. Fields that are not known are left alone: an older worker
// may be given a newer file.
Result<Config> ParseConfig(std::string_view json);

// How to reach the database, with password and certificates read from their files now.
// Errors: kUnavailable: a file can't be read.
Result<postgres::ConnectOptions> ConnectOptionsOf(const Config& config);

}  // namespace pgtier::workers
