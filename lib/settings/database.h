// The part `database` of such a file: where the server is, and as whom to log in.
#pragma once

#include <string>

#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/settings/json_reader.h"

namespace pgtier::settings {

struct Database {
  std::string host;
  int port = 5432;
  std::string name;
  std::string user;
  std::string password_file;  // its trailing line end is no part of the password
  std::string ssl_mode;       // libpq's; empty: "prefer"
  std::string ca_file;        // empty: none
};

// `field`: the object `database`.
Database ReadDatabase(const JsonReader& field);

// How to reach it, with password and certificates read from their files now, and postgres::kOwnSettings.
// Errors: kUnavailable: a file can't be read.
Result<postgres::ConnectOptions> ConnectOptionsOf(const Database& database, const std::string& application_name);

}  // namespace pgtier::settings
