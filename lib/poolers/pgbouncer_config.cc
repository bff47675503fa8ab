#include "lib/poolers/pgbouncer_config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <set>
#include <span>
#include <string_view>

#include "lib/poolers/pgbouncer_parameters.h"

namespace pgtier::poolers {
namespace {

// Sizes of PgBouncer's buffers, with the ending zero byte.
constexpr size_t kMaxDatabaseName = 64;
constexpr size_t kMaxUserName = 128;
constexpr size_t kMaxPassword = 2048;
constexpr int kMaxPort = 65535;

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool IsAlnum(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 && static_cast<unsigned char>(c) < 0x80;
}
bool IsOneOf(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

bool AllOf(std::string_view text, std::string_view extra) {
  return std::all_of(text.begin(), text.end(), [&](char c) { return IsAlnum(c) || IsOneOf(c, extra); });
}

Error Bad(std::string_view what, std::string_view why) {
  return MakeError(Code::kInvalidArgument, "pgbouncer: " + std::string(what) + " " + std::string(why));
}

// A value of the [pgbouncer] section is the rest of its line, taken as it is: nothing can be escaped there.
Status CheckLineValue(std::string_view what, std::string_view value) {
  if (std::any_of(value.begin(), value.end(), IsControl)) return Bad(what, "has a line break or control character");
  if (!value.empty() && (value.front() == ' ' || value.back() == ' ')) return Bad(what, "begins or ends with a blank");
  return {};
}

Status CheckNumber(std::string_view what, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return Bad(what, "is " + std::to_string(value) + ", not from " + std::to_string(low) + " to " + std::to_string(high));
}

Status CheckChoice(std::string_view what, std::string_view value, std::span<const std::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return {};
  return Bad(what, "is none of PgBouncer's choices: " + std::string(value.substr(0, 40)));
}

// Collects parameters; the first fault is kept, so that the list below reads as a list.
class ParameterList {
 public:
  void Text(const char* key, const std::string& value) {
    Keep(CheckLineValue(key, value));
    list_.push_back({key, value.empty() ? std::optional<std::string>() : value});
  }
  // Written even when empty: empty differs from PgBouncer's default.
  void AlwaysText(const char* key, const std::string& value) {
    Keep(CheckLineValue(key, value));
    list_.push_back({key, value});
  }
  void Choice(const char* key, const std::string& value, std::span<const std::string_view> choices) {
    if (!value.empty()) Keep(CheckChoice(key, value, choices));
    Text(key, value);
  }
  void Number(const char* key, std::optional<int64_t> value, int64_t low = 0, int64_t high = INT32_MAX) {
    if (value.has_value()) Keep(CheckNumber(key, *value, low, high));
    list_.push_back({key, value.has_value() ? std::optional(std::to_string(*value)) : std::nullopt});
  }
  void Seconds(const char* key, std::optional<std::chrono::seconds> value) {
    Number(key, value.has_value() ? std::optional<int64_t>(value->count()) : std::nullopt);
  }
  // PgBouncer takes fractions of a second.
  void Milliseconds(const char* key, std::chrono::milliseconds value) {
    Keep(CheckNumber(key, value.count(), 0, INT32_MAX));
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%g", static_cast<double>(value.count()) / 1000);
    list_.push_back({key, text.data()});
  }
  void Names(const char* key, const std::vector<std::string>& names) {
    std::string joined;
    for (const std::string& name : names) {
      if (name.empty() || name.find_first_of(", \t") != std::string::npos) {
        Keep(Bad(key, "has a name that is empty or holds a comma or blank"));
      }
      joined += (joined.empty() ? "" : ",") + name;
    }
    Text(key, joined);
  }
  Result<std::vector<Parameter>> Take() && {
    if (fault_.has_value()) return *std::move(fault_);
    return std::move(list_);
  }

 private:
  void Keep(Status status) {
    if (!status.has_value() && !fault_.has_value()) fault_ = std::move(status).error();
  }
  std::vector<Parameter> list_;
  std::optional<Error> fault_;
};

constexpr std::array<std::string_view, 3> kPoolModes = {"session", "transaction", "statement"};
constexpr std::array<std::string_view, 6> kSslModes = {"disable", "allow",     "prefer",
                                                       "require", "verify-ca", "verify-full"};
constexpr std::array<std::string_view, 9> kAuthTypes = {"cert", "md5", "scram-sha-256", "plain", "trust",
                                                        "any",  "hba", "pam",           "ldap"};

void AddConnections(ParameterList& list, const PgBouncerSettings& s) {
  list.Text("listen_addr", s.listen_addr);
  list.Number("listen_port", s.listen_port, 1, kMaxPort);
  list.AlwaysText("unix_socket_dir", s.unix_socket_dir);
  list.Choice("pool_mode", s.pool_mode, kPoolModes);
  list.Number("max_client_conn", s.max_client_conn, 1);
  list.Number("default_pool_size", s.default_pool_size, 1);
  list.Number("min_pool_size", s.min_pool_size);
  list.Number("reserve_pool_size", s.reserve_pool_size);
  list.Seconds("reserve_pool_timeout", s.reserve_pool_timeout);
  list.Number("max_db_connections", s.max_db_connections);
  list.Seconds("server_idle_timeout", s.server_idle_timeout);
  list.Seconds("server_lifetime", s.server_lifetime);
  list.Milliseconds("server_login_retry", s.server_login_retry);
  list.Seconds("server_connect_timeout", s.server_connect_timeout);
  list.Seconds("server_check_delay", s.server_check_delay);
  list.Text("server_reset_query", s.server_release_query);
  list.Number("server_reset_query_always", s.server_release_query.empty() ? std::optional<int64_t>() : 1);
  list.Seconds("query_wait_timeout", s.query_wait_timeout);
  list.Number("max_prepared_statements", s.max_prepared_statements);
}

void AddAuthentication(ParameterList& list, const PgBouncerSettings& s) {
  list.Choice("auth_type", s.auth_type, kAuthTypes);
  list.Text("auth_file", s.auth_file);
  list.Text("auth_user", s.auth_user);
  list.Text("auth_query", s.auth_query);
  list.Text("auth_dbname", s.auth_dbname);
  list.Names("admin_users", s.admin_users);
  list.Names("stats_users", s.stats_users);
}

void AddRest(ParameterList& list, const PgBouncerSettings& s) {
  list.Names("ignore_startup_parameters", s.ignore_startup_parameters);
  list.Number("application_name_add_host", s.application_name_add_host ? 1 : 0);
  list.Number("tcp_keepalive", s.tcp_keepalive ? 1 : 0);
  list.Number("tcp_keepidle", s.tcp_keepidle);
  list.Number("tcp_keepintvl", s.tcp_keepintvl);
  list.Number("tcp_keepcnt", s.tcp_keepcnt);
  list.Number("tcp_user_timeout", s.tcp_user_timeout_ms);
  list.Choice("client_tls_sslmode", s.client_tls_sslmode, kSslModes);
  list.Text("client_tls_key_file", s.client_tls_key_file);
  list.Text("client_tls_cert_file", s.client_tls_cert_file);
  list.Text("client_tls_ca_file", s.client_tls_ca_file);
  list.Choice("server_tls_sslmode", s.server_tls_sslmode, kSslModes);
  list.Text("server_tls_key_file", s.server_tls_key_file);
  list.Text("server_tls_cert_file", s.server_tls_cert_file);
  list.Text("server_tls_ca_file", s.server_tls_ca_file);
  list.Text("logfile", s.logfile);
  list.Text("pidfile", s.pidfile);
  list.Number("log_connections", s.log_connections ? 1 : 0);
  list.Number("log_disconnections", s.log_disconnections ? 1 : 0);
}

Status CheckDatabaseName(const std::string& name) {
  if (name == "*") return {};
  if (name == "pgbouncer") return Bad("database \"pgbouncer\"", "is the admin console's name");
  if (name.empty() || name.size() >= kMaxDatabaseName || !AllOf(name, "_.-")) {
    return Bad("database \"" + name.substr(0, 70) + "\"",
               "has a name that its parser can't take (letters, digits, _ . -, up to 63); use \"*\" for it");
  }
  return {};
}

// A name, an address or the directory of a Unix socket. No quoting would help: the list is split at commas.
Status CheckHosts(const PgBouncerDatabase& database) {
  if (database.hosts.empty()) return Bad("database " + database.name, "has no host");
  for (const std::string& host : database.hosts) {
    bool path = host.starts_with('/');
    if (host.empty() || !AllOf(host, path ? "_.-/" : "_.-:")) {
      return Bad("database " + database.name, "has a host that is no name, address or path");
    }
  }
  return {};
}

// key='value' of a connect string: quotes are doubled, nothing else is special (a backslash is one).
Status AppendPair(std::string& line, const PgBouncerDatabase& database, const char* key, const std::string& value) {
  if (value.empty()) return {};
  if (std::any_of(value.begin(), value.end(), IsControl)) {
    return Bad("database " + database.name + ": " + key, "has a line break or control character");
  }
  line += std::string(" ") + key + "=";
  if (AllOf(value, "_.-,:/")) {
    line += value;
    return {};
  }
  line += '\'';
  for (char c : value) line += c == '\'' ? "''" : std::string(1, c);
  line += '\'';
  return {};
}

Result<std::string> DatabaseLine(const PgBouncerDatabase& database) {
  PGTIER_RETURN_IF_ERROR(CheckDatabaseName(database.name));
  PGTIER_RETURN_IF_ERROR(CheckHosts(database));
  PGTIER_RETURN_IF_ERROR(CheckNumber("database " + database.name + ": port", database.port, 1, kMaxPort));
  if (!database.pool_mode.empty()) {
    PGTIER_RETURN_IF_ERROR(CheckChoice("database " + database.name + ": pool_mode", database.pool_mode, kPoolModes));
  }
  std::string line = database.name + " =";
  std::vector<std::pair<const char*, std::string>> pairs = {
      {"host", JoinHosts(database)},
      {"port", std::to_string(database.port)},
      {"dbname", database.dbname},
      // The default of 1.24, which brought the parameter; older ones know round robin only and refuse the word.
      {"load_balance_hosts", database.hosts.size() > 1 ? "round-robin" : ""},
      {"auth_user", database.auth_user},
      {"auth_query", database.auth_query},
      {"auth_dbname", database.auth_dbname},
      {"pool_mode", database.pool_mode}};
  for (auto [key, number, low] : {std::tuple{"pool_size", database.pool_size, 1},
                                  {"min_pool_size", database.min_pool_size, 0},
                                  {"reserve_pool_size", database.reserve_pool_size, 0},
                                  {"max_db_connections", database.max_db_connections, 0}}) {
    if (!number.has_value()) continue;
    PGTIER_RETURN_IF_ERROR(CheckNumber("database " + database.name + ": " + key, *number, low, INT32_MAX));
    pairs.emplace_back(key, std::to_string(*number));
  }
  for (const auto& [key, value] : pairs) PGTIER_RETURN_IF_ERROR(AppendPair(line, database, key, value));
  return line;
}

}  // namespace

std::string JoinHosts(const PgBouncerDatabase& database) {
  std::string joined;
  for (const std::string& host : database.hosts) joined += (joined.empty() ? "" : ",") + host;
  return joined;
}

Result<std::vector<Parameter>> Parameters(const PgBouncerSettings& settings) {
  ParameterList list;
  AddConnections(list, settings);
  AddAuthentication(list, settings);
  AddRest(list, settings);
  return std::move(list).Take();
}

Result<std::string> RenderIni(const PgBouncerSettings& settings) {
  std::string ini = "[databases]\n";
  std::set<std::string> names;
  for (const PgBouncerDatabase& database : settings.databases) {
    PGTIER_ASSIGN_OR_RETURN(std::string line, DatabaseLine(database));
    if (!names.insert(database.name).second) return Bad("database " + database.name, "is there twice");
    ini += line + "\n";
  }
  ini += "\n[pgbouncer]\n";
  PGTIER_ASSIGN_OR_RETURN(std::vector<Parameter> parameters, Parameters(settings));
  for (const Parameter& parameter : parameters) {
    if (!parameter.value.has_value()) continue;
    ini += parameter.key;
    ini += parameter.value->empty() ? " =\n" : " = " + *parameter.value + "\n";
  }
  return ini;
}

Result<std::string> RenderUserlist(const std::map<std::string, std::string>& users) {
  std::string list;
  for (const auto& [user, password] : users) {
    std::array<std::pair<const std::string*, size_t>, 2> fields = {std::pair{&user, kMaxUserName},
                                                                   std::pair{&password, kMaxPassword}};
    std::string line;
    for (const auto& [text, limit] : fields) {
      std::string quoted;
      for (char c : *text) {
        // The text itself is not shown: it may be the password.
        if (c == '\0' || c == '\n' || c == '\r') return Bad("userlist", "has a line break or zero byte in an entry");
        quoted += c == '"' ? "\"\"" : std::string(1, c);
      }
      // PgBouncer measures the text with its quotes doubled, and stops reading the file at one that is too long.
      if (quoted.size() >= limit) return Bad("userlist", "has an entry that is too long");
      line += (line.empty() ? "\"" : " \"") + quoted + "\"";
    }
    if (user.empty()) return Bad("userlist", "has a user without a name");
    list += line + "\n";
  }
  return list;
}

}  // namespace pgtier::poolers
