// pgtier-worker as a child of the test.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "tests/integration/postgres/local_server.h"

namespace pgtier::testing {

// The file that the worker is given; the password in a file beside it.
inline std::string WorkerConfig(const ServerFolder& folder, const postgres::ConnectOptions& database,
                                const std::string& mode, const std::string& policy = "data/audit",
                                const std::string& more = "") {
  return R"({"policy": ")" + policy + R"(", "mode": ")" + mode + R"(", "channel": "audit_shadow_channel", )" +
         R"("database": {"host": ")" + database.host + R"(", "port": )" + std::to_string(database.port) +
         R"(, "name": ")" + database.database + R"(", "user": ")" + database.user + R"(", "passwordFile": ")" +
         folder.path() + R"(/password"}, "listen": {"address": "127.0.0.1", "port": 0})" + more + "}";
}

class WorkerProcess {
 public:
  // `config` is the file's path; what the worker logs is appended to `log`.
  WorkerProcess(const std::string& config, const std::string& log) {
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(out, STDOUT_FILENO);
      dup2(out, STDERR_FILENO);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, nullptr);
      execl(PGTIER_WORKER_PROGRAM, PGTIER_WORKER_PROGRAM, "--config", config.c_str(), nullptr);
      _exit(127);
    }
  }
  ~WorkerProcess() { Kill(); }
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  // SIGTERM; the exit code, or -1 when it did not end by itself.
  int Terminate(std::chrono::seconds limit = std::chrono::seconds(60)) {
    kill(pid_, SIGTERM);
    auto until = std::chrono::steady_clock::now() + limit;
    while (std::chrono::steady_clock::now() < until) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return -1;
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool Running() const { return pid_ > 0 && kill(pid_, 0) == 0; }

 private:
  pid_t pid_ = -1;
};

}  // namespace pgtier::testing
