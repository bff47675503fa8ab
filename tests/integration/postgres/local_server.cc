#include "tests/integration/postgres/local_server.h"

#include <signal.h>

#include <thread>

#include "lib/poolers/pgbouncer_admin.h"
#include "tests/support/child_process.h"

namespace pgtier::testing {
namespace {

constexpr const char* kPassword = "postgres' \\password";  // with characters that have to be quoted somewhere
constexpr const char* kAdmin = "pgtier_admin";
constexpr const char* kAdminPassword = "admin-password";
constexpr Duration kStartLimit = std::chrono::seconds(60);
constexpr Duration kStopLimit = std::chrono::seconds(20);
constexpr int kStartTries = 3;  // another process may take the free port first

Status RunTool(const ServerFolder& folder, const std::vector<std::string>& command,
               const std::map<std::string, std::string>& environment = {}) {
  ServerProcess tool;
  PGTIER_RETURN_IF_ERROR(tool.Start(folder, command, "tool.log", environment));
  PGTIER_ASSIGN_OR_RETURN(int exit_code, tool.Wait(kStartLimit));
  if (exit_code == 0) return {};
  return MakeError(Code::kInternal, command[0] + " failed: " + folder.Read("tool.log"));
}

// Connects until it works; gives up when the process ended or the time is over.
Status AwaitConnection(ServerProcess& process, const postgres::ConnectOptions& options) {
  Deadline deadline = Deadline::After(kStartLimit);
  Error last;
  while (!deadline.Expired() && process.Running()) {
    auto connection = postgres::Connection::Open(options, deadline.AtMost(std::chrono::seconds(5)));
    if (connection.has_value()) return {};
    last = connection.error();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return last.WithContext("the server did not start");
}

}  // namespace

Result<std::unique_ptr<LocalPostgres>> LocalPostgres::Start(const PostgresOptions& options) {
  std::unique_ptr<LocalPostgres> server(new LocalPostgres);
  server->folder_.Write("password", kPassword);
  PGTIER_RETURN_IF_ERROR(RunTool(
      server->folder_, {"initdb", "-D", server->folder_.path() + "/data", "-U", "postgres", "--auth=scram-sha-256",
                        "--pwfile=password", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"}));
  PGTIER_RETURN_IF_ERROR(server->Configure(options));
  return server;
}

Result<std::unique_ptr<LocalPostgres>> LocalPostgres::StartStandby(const LocalPostgres& primary,
                                                                   const PostgresOptions& options) {
  std::unique_ptr<LocalPostgres> server(new LocalPostgres);
  std::vector<std::string> command = {"pg_basebackup",
                                      "-D",
                                      server->folder_.path() + "/data",
                                      "-R",
                                      "-X",
                                      "stream",
                                      "-c",
                                      "fast",
                                      "--no-sync",
                                      "-h",
                                      primary.address_,
                                      "-p",
                                      std::to_string(primary.port_),
                                      "-U",
                                      "postgres"};
  // -R copies the connection's settings, but for the name: that comes from a connection string.
  if (!options.application_name.empty())
    // With a database: who copies slots for a failover connects to one.
    command.insert(command.end(), {"-d", "dbname=postgres application_name=" + options.application_name});
  if (!options.slot.empty()) command.insert(command.end(), {"-C", "-S", options.slot});
  PGTIER_RETURN_IF_ERROR(RunTool(server->folder_, command, {{"PGPASSWORD", kPassword}}));
  PGTIER_RETURN_IF_ERROR(server->Configure(options));
  return server;
}

Status LocalPostgres::Configure(const PostgresOptions& options) {
  std::string conf = "listen_addresses = '" + options.address +
                     "'\nunix_socket_directories = ''\nfsync = off\nshared_buffers = 32MB\n"
                     "wal_level = logical\nmax_wal_size = 256MB\nlog_min_duration_statement = -1\n";
  for (const std::string& line : options.conf) conf += line + "\n";
  address_ = options.address;
  Status started;
  for (int attempt = 0; attempt < kStartTries; ++attempt) {
    port_ = options.port == 0 ? test::FreePort() : options.port;
    folder_.Append("data/postgresql.conf", conf + "port = " + std::to_string(port_) + "\n");
    started = StartServer();
    if (started.has_value()) break;
  }
  return started;
}

Status LocalPostgres::StartServer() {
  PGTIER_RETURN_IF_ERROR(process_.Start(folder_, {"postgres", "-D", folder_.path() + "/data"}, "log"));
  auto ready = AwaitConnection(process_, Options());
  if (!ready.has_value()) return std::move(ready).error().WithContext(Log());
  return {};
}

LocalPostgres::~LocalPostgres() {
  if (!process_.Running()) return;
  process_.Signal(SIGCONT);
  process_.Signal(SIGQUIT);
  std::ignore = process_.Wait(kStopLimit);
}

postgres::ConnectOptions LocalPostgres::Options(const std::string& database) const {
  postgres::ConnectOptions options;
  options.host = address_;
  options.port = port_;
  options.database = database;
  options.user = "postgres";
  options.password = kPassword;
  return options;
}

Result<postgres::Connection> LocalPostgres::Connect(const std::string& database) const {
  return postgres::Connection::Open(Options(database), Deadline::After(std::chrono::seconds(10)));
}

Status LocalPostgres::Stop() {
  process_.Signal(SIGINT);
  PGTIER_RETURN_IF_ERROR(process_.Wait(kStopLimit));
  return {};
}

Status LocalPostgres::Restart() {
  if (process_.Running()) PGTIER_RETURN_IF_ERROR(Stop());
  return StartServer();
}

Result<std::unique_ptr<LocalPgBouncer>> LocalPgBouncer::Start(poolers::PgBouncerSettings settings,
                                                              std::map<std::string, std::string> users) {
  std::unique_ptr<LocalPgBouncer> pooler(new LocalPgBouncer);
  users[kAdmin] = kAdminPassword;
  PGTIER_ASSIGN_OR_RETURN(std::string userlist, poolers::RenderUserlist(users));
  pooler->folder_.Write("userlist.txt", userlist);
  Status started;
  for (int attempt = 0; attempt < kStartTries; ++attempt) {
    pooler->port_ = test::FreePort();
    PGTIER_RETURN_IF_ERROR(pooler->WriteSettings(settings));
    PGTIER_RETURN_IF_ERROR(
        pooler->process_.Start(pooler->folder_, {"pgbouncer", pooler->folder_.path() + "/pgbouncer.ini"}, "log"));
    started = AwaitConnection(pooler->process_, pooler->AdminOptions());
    if (started.has_value()) return pooler;
  }
  return std::move(started).error().WithContext(pooler->Log());
}

LocalPgBouncer::~LocalPgBouncer() {
  if (!process_.Running()) return;
  process_.Signal(SIGTERM);  // immediate shutdown
  std::ignore = process_.Wait(kStopLimit);
}

Status LocalPgBouncer::WriteSettings(poolers::PgBouncerSettings settings) {
  settings.listen_addr = "127.0.0.1";
  settings.listen_port = port_;
  settings.auth_file = folder_.path() + "/userlist.txt";
  settings.admin_users = {kAdmin};
  PGTIER_ASSIGN_OR_RETURN(std::string ini, poolers::RenderIni(settings));
  folder_.Write("pgbouncer.ini", ini);
  settings_ = std::move(settings);
  return {};
}

postgres::ConnectOptions LocalPgBouncer::Options(const std::string& database, const std::string& user,
                                                 const std::string& password) const {
  postgres::ConnectOptions options;
  options.host = "127.0.0.1";
  options.port = port_;
  options.database = database;
  options.user = user;
  options.password = password;
  return options;
}

postgres::ConnectOptions LocalPgBouncer::AdminOptions() const { return Options("pgbouncer", kAdmin, kAdminPassword); }

}  // namespace pgtier::testing
