// pgtier-operator as a process of its own, seen from outside as a node sees it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "lib/http/client.h"
#include "tests/support/child_process.h"

namespace pgtier::bench {

using Seconds = std::chrono::duration<double>;

// From /proc/<pid>/status, in MiB.
struct Memory {
  double rss = 0;
  double anonymous = 0;  // Its own: heap, stacks, relocated data.
  double file = 0;       // Pages of the program and its libraries, shared with whoever else runs them.
  double peak = 0;       // The highest RSS so far.
};

// Processor time used so far, user and system, of the child of this process that runs a program of that name
// ("kube-apiserver"). Throws std::runtime_error when there is none.
Seconds CpuOf(const std::string& program);

class OperatorProcess {
 public:
  // Starts it and waits until /readyz says 200. Throws std::runtime_error when that takes longer than a minute.
  OperatorProcess(const std::string& program, std::vector<std::string> arguments, const std::filesystem::path& log);

  // From before fork to the first 200.
  [[nodiscard]] Seconds start_time() const { return start_time_; }
  [[nodiscard]] Memory ReadMemory() const;
  // The body of /metrics.
  [[nodiscard]] std::string Scrape();
  // SIGTERM, as a rolling update ends it: the lease is given back, so that the next one need not wait for its end.
  void Stop();

 private:
  bool Ready();

  std::unique_ptr<http::Client> http_;
  std::unique_ptr<test::ChildProcess> process_;
  Seconds start_time_{};
  pid_t pid_ = -1;
};

// The sum of a metric's samples in Prometheus' text format whose line contains all of `parts`.
double SumOf(const std::string& exposition, const std::string& metric, const std::vector<std::string>& parts = {});

}  // namespace pgtier::bench
