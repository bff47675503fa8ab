// A program that a test starts and that does not outlive it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pgtier::test {

class ChildProcess {
 public:
  // Starts `command` (path and arguments), its output appended to `log`. Call on the main thread: the kernel kills the
  // child when the thread that started it ends.
  ChildProcess(const std::vector<std::string>& command, const std::filesystem::path& log);
  // Kills it.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  void Signal(int signal) const;
  // Sends `signal` and waits for the end.
  void Stop(int signal);
  // The exit status; waits for it. -1: ended by a signal.
  int Wait();
  // At most so long; -1 also where it still runs.
  int Wait(std::chrono::milliseconds limit);
  [[nodiscard]] bool Running();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

// A port of 127.0.0.1 that is free now.
uint16_t FreePort();

}  // namespace pgtier::test
