#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "lib/poolers/pgbouncer_config.h"
#include "lib/poolers/pgbouncer_parameters.h"

namespace pgtier::poolers {
namespace {

// "300" and "300.0" are one value: PgBouncer prints durations its own way.
bool SameValue(const std::string& a, const std::string& b) {
  if (a == b) return true;
  double x = 0;
  double y = 0;
  auto parsed_a = std::from_chars(a.data(), a.data() + a.size(), x);
  auto parsed_b = std::from_chars(b.data(), b.data() + b.size(), y);
  return parsed_a.ec == std::errc() && parsed_b.ec == std::errc() && parsed_a.ptr == a.data() + a.size() &&
         parsed_b.ptr == b.data() + b.size() && x == y;
}

void CompareParameters(const std::vector<Parameter>& wanted, const std::vector<ConfigEntry>& running,
                       std::vector<Difference>& differences) {
  std::map<std::string_view, const ConfigEntry*> by_key;
  for (const ConfigEntry& entry : running) by_key[entry.key] = &entry;
  for (const Parameter& parameter : wanted) {
    auto found = by_key.find(parameter.key);
    if (found == by_key.end()) {
      if (parameter.value.has_value()) differences.push_back({parameter.key, *parameter.value, "", true});
      continue;
    }
    const ConfigEntry& entry = *found->second;
    // What is left out of the file falls back to the default at RELOAD.
    const std::string& value = parameter.value.has_value() ? *parameter.value : entry.default_value;
    if (!SameValue(value, entry.value)) {
      differences.push_back({parameter.key, value, entry.value, !entry.changeable});
    }
  }
}

void CompareDatabase(const PgBouncerDatabase& wanted, const DatabaseStats& running,
                     std::vector<Difference>& differences) {
  auto compare = [&](const char* what, const std::string& value, const std::string& now) {
    if (value != now) differences.push_back({"database " + running.name + ": " + what, value, now, false});
  };
  auto compare_number = [&](const char* what, std::optional<int> value, int64_t now) {
    if (value.has_value()) compare(what, std::to_string(*value), std::to_string(now));
  };
  compare("host", JoinHosts(wanted), running.host);
  compare_number("port", wanted.port, running.port);
  compare("dbname", wanted.dbname.empty() ? running.name : wanted.dbname, running.database);
  compare_number("pool_size", wanted.pool_size, running.pool_size);
  compare_number("min_pool_size", wanted.min_pool_size, running.min_pool_size);
  compare_number("reserve_pool_size", wanted.reserve_pool_size, running.reserve_pool_size);
  compare_number("max_db_connections", wanted.max_db_connections, running.max_connections);
  if (!wanted.pool_mode.empty()) compare("pool_mode", wanted.pool_mode, running.pool_mode);
}

}  // namespace

Result<std::vector<Difference>> CompareWithRunning(const PgBouncerSettings& settings,
                                                   const std::vector<ConfigEntry>& show_config,
                                                   const std::vector<DatabaseStats>& show_databases) {
  std::vector<Difference> differences;
  PGTIER_ASSIGN_OR_RETURN(std::vector<Parameter> parameters, Parameters(settings));
  CompareParameters(parameters, show_config, differences);

  std::map<std::string_view, const DatabaseStats*> running;
  for (const DatabaseStats& database : show_databases) {
    if (database.name != "pgbouncer") running[database.name] = &database;
  }
  const PgBouncerDatabase* any = nullptr;
  std::set<std::string_view> named;
  for (const PgBouncerDatabase& database : settings.databases) {
    if (database.name == "*") {
      any = &database;
      continue;
    }
    named.insert(database.name);
    auto found = running.find(database.name);
    if (found == running.end()) {
      differences.push_back({"database " + database.name, JoinHosts(database), "", false});
    } else {
      CompareDatabase(database, *found->second, differences);
    }
  }
  for (const auto& [name, database] : running) {
    if (named.contains(name)) continue;
    if (any != nullptr) {
      CompareDatabase(*any, *database, differences);
    } else {
      differences.push_back({"database " + database->name, "", database->host, false});
    }
  }
  return differences;
}

}  // namespace pgtier::poolers
