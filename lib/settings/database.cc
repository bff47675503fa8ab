#include "lib/settings/database.h"

namespace pgtier::settings {

Database ReadDatabase(const JsonReader& field) {
  Database database;
  field.Text("host", database.host, true);
  int64_t port = database.port;
  field.Number("port", port, 1, 65535);
  database.port = static_cast<int>(port);
  field.Text("name", database.name, true);
  field.Text("user", database.user, true);
  field.Text("passwordFile", database.password_file);
  field.Text("sslMode", database.ssl_mode);
  field.Text("caFile", database.ca_file);
  return database;
}

Result<postgres::ConnectOptions> ConnectOptionsOf(const Database& database, const std::string& application_name) {
  postgres::ConnectOptions options;
  options.host = database.host;
  options.port = database.port;
  options.database = database.name;
  options.user = database.user;
  options.ssl_mode = database.ssl_mode;
  options.application_name = application_name;
  options.options = postgres::kOwnSettings;
  if (!database.password_file.empty()) {
    PGTIER_ASSIGN_OR_RETURN(options.password, ReadFile(database.password_file));
    while (!options.password.empty() && (options.password.back() == '\n' || options.password.back() == '\r')) {
      options.password.pop_back();
    }
  }
  if (!database.ca_file.empty()) {
    PGTIER_ASSIGN_OR_RETURN(options.ssl_root_pem, ReadFile(database.ca_file));
  }
  return options;
}

}  // namespace pgtier::settings
