// pgtier-migrate as a child of the test.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

namespace pgtier::testing {

class MigrateProcess {
 public:
  // `config` is the file's path; what it logs is appended to `log`.
  MigrateProcess(const std::string& config, const std::string& log) {
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(out, STDOUT_FILENO);
      dup2(out, STDERR_FILENO);
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, nullptr);
      execl(PGTIER_MIGRATE_PROGRAM, PGTIER_MIGRATE_PROGRAM, "--config", config.c_str(), nullptr);
      _exit(127);
    }
  }
  ~MigrateProcess() { Kill(); }
  MigrateProcess(const MigrateProcess&) = delete;
  MigrateProcess& operator=(const MigrateProcess&) = delete;

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void Terminate() const { kill(pid_, SIGTERM); }
  // Its exit code; -1 when it did not end by itself in time.
  int Wait(std::chrono::seconds limit = std::chrono::seconds(120)) {
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

 private:
  pid_t pid_ = -1;
};

}  // namespace pgtier::testing
