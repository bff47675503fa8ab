// Real servers as local processes, for integration tests: Postgres 17 and PgBouncer 1.24 out of the testbed's root file
// system (PGTIER_ROOTFS_17, else testbed/rootfs.sh makes it). Needs root, for chroot. Every server listens on 127.0.0.1
// at a free port, keeps its files in a folder of its own under /tmp, and dies with the test.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lib/base/result.h"
#include "lib/poolers/pgbouncer_config.h"
#include "lib/postgres/connection.h"

namespace pgtier::testing {

// Empty when servers can be started here, else why not: for GTEST_SKIP.
std::string WhyNoServers();

// A folder under /tmp that the servers' user may write to; removed at the end.
class ServerFolder {
 public:
  ServerFolder();
  ~ServerFolder();
  ServerFolder(const ServerFolder&) = delete;
  ServerFolder& operator=(const ServerFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  void Write(const std::string& name, const std::string& content) const;
  void Append(const std::string& name, const std::string& content) const;
  [[nodiscard]] std::string Read(const std::string& name) const;

 private:
  std::string path_;
};

// A program inside the root file system; its output goes to `log` in the folder.
class ServerProcess {
 public:
  ServerProcess() = default;
  ~ServerProcess();  // SIGKILL if it still runs
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  Status Start(const ServerFolder& folder, const std::vector<std::string>& command, const std::string& log,
               const std::map<std::string, std::string>& environment = {});
  void Signal(int signal) const;
  // Waits for its end, at most `limit`; the exit status, or an error when it still runs or ended by a signal.
  Result<int> Wait(Duration limit);
  [[nodiscard]] bool Running();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

struct PostgresOptions {
  std::vector<std::string> conf;  // lines of postgresql.conf
  std::string application_name;   // of a standby: how its primary lists it
  std::string slot;               // of a standby: its slot on the primary, made by the clone; empty: none
  std::string address = "127.0.0.1";
  int port = 0;  // 0: a free one
};

class LocalPostgres {
 public:
  // Runs initdb and starts a primary.
  static Result<std::unique_ptr<LocalPostgres>> Start(const PostgresOptions& options = {});
  // Clones a standby by pg_basebackup and starts it.
  static Result<std::unique_ptr<LocalPostgres>> StartStandby(const LocalPostgres& primary,
                                                             const PostgresOptions& options = {});
  ~LocalPostgres();  // immediate shutdown

  // Options to connect as the superuser "postgres" by password.
  [[nodiscard]] postgres::ConnectOptions Options(const std::string& database = "postgres") const;
  Result<postgres::Connection> Connect(const std::string& database = "postgres") const;
  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] pid_t pid() const { return process_.pid(); }
  [[nodiscard]] std::string Log() const { return folder_.Read("log"); }
  // Its files; the data directory is "data".
  [[nodiscard]] const ServerFolder& folder() const { return folder_; }

  // Fast shutdown (SIGINT), at most 20 s; Restart starts it again on the same port.
  Status Stop();
  Status Restart();
  void Signal(int signal) const { process_.Signal(signal); }

 private:
  LocalPostgres() = default;
  Status Configure(const PostgresOptions& options);
  Status StartServer();
  ServerFolder folder_;
  ServerProcess process_;
  std::string address_;
  int port_ = 0;
};

class LocalPgBouncer {
 public:
  // Starts it with these settings; address, port, auth_file and admin_users are set here: the admin is "pgtier_admin".
  // `users` is userlist.txt.
  static Result<std::unique_ptr<LocalPgBouncer>> Start(poolers::PgBouncerSettings settings,
                                                       std::map<std::string, std::string> users);
  ~LocalPgBouncer();

  // Writes the file anew, without a RELOAD.
  Status WriteSettings(poolers::PgBouncerSettings settings);
  // The settings that were written last, with what was set here.
  [[nodiscard]] const poolers::PgBouncerSettings& settings() const { return settings_; }
  [[nodiscard]] postgres::ConnectOptions Options(const std::string& database, const std::string& user,
                                                 const std::string& password) const;
  [[nodiscard]] postgres::ConnectOptions AdminOptions() const;
  [[nodiscard]] int port() const { return port_; }
  [[nodiscard]] std::string Log() const { return folder_.Read("log"); }
  [[nodiscard]] const ServerFolder& folder() const { return folder_; }

 private:
  LocalPgBouncer() = default;
  ServerFolder folder_;
  ServerProcess process_;
  poolers::PgBouncerSettings settings_;
  int port_ = 0;
};

}  // namespace pgtier::testing
