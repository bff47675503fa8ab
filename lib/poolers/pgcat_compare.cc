#include <map>
#include <tuple>

#include "lib/poolers/pgcat_config.h"

namespace pgtier::poolers {
namespace {

using Wanted = std::map<std::string, std::string>;

std::string Flag(bool value) { return value ? "true" : "false"; }

// What SHOW CONFIG shows of it, in its words.
Wanted ShownOf(const PgCatSettings& settings) {
  Wanted wanted{{"host", settings.listen_host},
                {"port", std::to_string(settings.listen_port)},
                {"connect_timeout", std::to_string(settings.connect_timeout.count())},
                {"idle_timeout", std::to_string(settings.idle_timeout.count())},
                {"healthcheck_timeout", std::to_string(settings.healthcheck_timeout.count())},
                {"healthcheck_delay", std::to_string(settings.healthcheck_delay.count())},
                {"shutdown_timeout", std::to_string(settings.shutdown_timeout.count())},
                {"ban_time", std::to_string(settings.ban_time.count())},
                {"idle_client_in_transaction_timeout", std::to_string(settings.idle_in_transaction_timeout.count())}};
  for (const PgCatPool& pool : settings.pools) {
    std::string at = "pools." + pool.name + ".";
    wanted[at + "pool_mode"] = pool.pool_mode;
    wanted[at + "load_balancing_mode"] =
        pool.load_balancing_mode == "loc" ? "least_outstanding_connections" : pool.load_balancing_mode;
    wanted[at + "default_role"] = pool.default_role;
    wanted[at + "query_parser_enabled"] = Flag(pool.splits);
    wanted[at + "query_parser_read_write_splitting"] = Flag(pool.splits);
    wanted[at + "primary_reads_enabled"] = Flag(pool.primary_reads);
  }
  return wanted;
}

void CompareConfig(const PgCatSettings& settings, const std::vector<ConfigEntry>& running,
                   std::vector<Difference>& differences) {
  std::map<std::string_view, const ConfigEntry*> by_key;
  for (const ConfigEntry& entry : running) by_key[entry.key] = &entry;
  for (const auto& [key, value] : ShownOf(settings)) {
    auto found = by_key.find(key);
    if (found == by_key.end()) {
      differences.push_back({key, value, "", false});
    } else if (found->second->value != value) {
      differences.push_back({key, value, found->second->value, !found->second->changeable});
    }
  }
}

// What of a server connection's way a row of SHOW DATABASES shows.
using Line = std::tuple<std::string, int64_t, std::string, int64_t, int64_t, std::string>;

std::string InWords(const Line& line) {
  const auto& [host, port, database, size, least, mode] = line;
  return host + ":" + std::to_string(port) + "/" + database + " " + std::to_string(least) + " to " +
         std::to_string(size) + " " + mode;
}

void CompareServers(const PgCatSettings& settings, const std::vector<DatabaseStats>& running,
                    std::vector<Difference>& differences) {
  std::map<std::pair<std::string, std::string>, std::string> wanted;
  std::map<std::pair<std::string, std::string>, std::string> found;
  for (const PgCatPool& pool : settings.pools) {
    for (size_t i = 0; i < pool.servers.size(); ++i) {
      for (const PgCatUser& user : pool.users) {
        const Server& server = pool.servers[i];
        wanted[{PgCatAddressName(pool, i), user.username}] =
            InWords({server.host, server.port, pool.database.empty() ? pool.name : pool.database, user.pool_size,
                     user.min_pool_size, pool.pool_mode});
      }
    }
  }
  for (const DatabaseStats& row : running) {
    found[{row.name, row.force_user}] =
        InWords({row.host, row.port, row.database, row.pool_size, row.min_pool_size, row.pool_mode});
  }
  for (const auto& [key, line] : wanted) {
    auto other = found.find(key);
    std::string now = other == found.end() ? "" : other->second;
    if (now != line) differences.push_back({"server " + key.first, line, now, false});
  }
  for (const auto& [key, line] : found) {
    if (!wanted.contains(key)) differences.push_back({"server " + key.first, "", line, false});
  }
}

}  // namespace

Result<std::vector<Difference>> CompareWithRunning(const PgCatSettings& settings,
                                                   const std::vector<ConfigEntry>& show_config,
                                                   const std::vector<DatabaseStats>& show_databases) {
  PGTIER_ASSIGN_OR_RETURN(std::string mark, PgCatMark(settings));
  std::vector<Difference> differences;
  CompareConfig(settings, show_config, differences);
  CompareServers(settings, show_databases, differences);
  // The rest of the file, which PgCat shows nowhere.
  bool marked = false;
  for (const ConfigEntry& entry : show_config) marked = marked || entry.key == "pools." + mark + ".pool_mode";
  if (!marked && differences.empty()) differences.push_back({"the file as a whole", mark, "another one", false});
  return differences;
}

}  // namespace pgtier::poolers
