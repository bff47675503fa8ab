// PgBouncer's files from names and passwords that others choose, and its console's rows: a value never becomes a line,
// an option or an end of a quotation of its own.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "lib/poolers/pgbouncer_config.h"

namespace {

using pgtier::poolers::PgBouncerDatabase;
using pgtier::poolers::PgBouncerSettings;

// Fields are parted by bytes of 1.
std::vector<std::string> Fields(std::string_view text) {
  std::vector<std::string> fields(1);
  for (char c : text) {
    if (c == '\1') {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  fields.resize(std::max<size_t>(fields.size(), 10));
  return fields;
}

PgBouncerSettings Settings(const std::vector<std::string>& fields) {
  PgBouncerDatabase database;
  database.name = fields[0];
  database.hosts = {fields[1]};
  database.dbname = fields[2];
  database.auth_user = fields[3];
  database.auth_query = fields[4];
  PgBouncerSettings settings;
  settings.databases = {database};
  settings.auth_user = fields[5];
  settings.auth_query = fields[6];
  settings.admin_users = {fields[7]};
  settings.auth_file = fields[8];
  return settings;
}

// The names of settings and sections, in order: what must not depend on any value.
std::vector<std::string> Skeleton(const std::string& ini) {
  std::vector<std::string> names;
  size_t begin = 0;
  bool databases = false;
  while (begin < ini.size()) {
    const size_t end = std::min(ini.find('\n', begin), ini.size());
    const std::string line = ini.substr(begin, end - begin);
    begin = end + 1;
    if (line.starts_with("[")) databases = line == "[databases]";
    names.push_back(databases && !line.empty() && line[0] != '[' ? "a database" : line.substr(0, line.find('=')));
  }
  return names;
}

// Quoted words of a line of the userlist, with "" for a quote; aborts where the line is anything else.
void CheckUserlist(const std::string& text, const std::string& user, const std::string& password) {
  std::string wanted;
  for (const std::string* word : {&user, &password}) {
    wanted += wanted.empty() ? "\"" : " \"";
    for (char c : *word) wanted += c == '"' ? std::string("\"\"") : std::string(1, c);
    wanted += '"';
  }
  if (text != wanted + "\n") abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<std::string> fields = Fields({reinterpret_cast<const char*>(data), size});
  const PgBouncerSettings settings = Settings(fields);
  auto ini = pgtier::poolers::RenderIni(settings);
  if (ini.has_value()) {
    std::vector<std::string> plain = fields;
    for (std::string& field : plain) field = field.empty() ? "" : "x";
    auto expected = pgtier::poolers::RenderIni(Settings(plain));
    if (!expected.has_value() || Skeleton(*ini) != Skeleton(*expected)) abort();
  }
  auto users = pgtier::poolers::RenderUserlist({{fields[0], fields[9]}});
  if (users.has_value()) CheckUserlist(*users, fields[0], fields[9]);

  std::vector<pgtier::poolers::ConfigEntry> config;
  for (size_t i = 0; i + 1 < fields.size(); i += 2) config.push_back({fields[i], fields[i + 1], "", true});
  std::vector<pgtier::poolers::DatabaseStats> databases(1);
  databases[0].name = fields[0];
  databases[0].host = fields[1];
  databases[0].pool_size = static_cast<int64_t>(size) - 10;
  std::ignore = pgtier::poolers::CompareWithRunning(settings, config, databases);
  std::vector<pgtier::poolers::PoolStats> pools(1);
  pools[0].database = fields[0];
  pools[0].sv_active = static_cast<int64_t>(size);
  std::ignore = pgtier::poolers::ComputeUtilisation(pools, databases);
  return 0;
}
