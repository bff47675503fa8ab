// What goes wrong while the ledger is kept: the workers of a policy, and everything that can befall them, their
// network, their server and the one who changes tiers.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "shadow/shadow.h"
#include "tests/integration/postgres/fault_proxy.h"
#include "tests/integration/shadow/worker_process.h"

namespace pgtier::testing {

inline constexpr const char* kOperatorName = "ledger-operator";  // application_name of who changes tiers
inline constexpr const char* kCdcPassword = "of-cdc";
inline constexpr const char* kNotifyPassword = "of-notify";

class Trouble {
 public:
  // Workers are started in Begin(); `server` and `spec` must outlive this.
  Trouble(LocalPostgres& server, std::string database, const shadow::Spec& spec, unsigned seed);
  ~Trouble();

  // From here on notify workers run, and things go wrong until Calm().
  void Begin();
  // Whether a consumer of cdc is to run; waits until it is so.
  void SetCdc(bool on);
  // Nothing goes wrong any more: all that was stopped goes on, what was killed runs again.
  void Calm();
  // What happened how often.
  [[nodiscard]] const std::map<std::string, int>& counts() const { return counts_; }
  [[nodiscard]] std::string WorkersLog() const { return folder_.Read("log"); }

 private:
  void Run();
  void Once();
  void OneServer(int what);
  std::unique_ptr<test::ChildProcess> Start(const std::string& mode);
  void Rest(int least_ms, int most_ms);
  // A process of the server: 0 when there is none.
  int Backend(const std::string& condition);
  void Stop(int pid, int least_ms, int most_ms);
  void Count(const std::string& what) { ++counts_[what]; }
  int Roll(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

  LocalPostgres& server_;
  std::string database_;
  const shadow::Spec& spec_;
  std::mt19937 random_;
  FaultProxy network_;
  ServerFolder folder_;
  std::map<std::string, int> counts_;
  std::atomic<bool> wanted_ = false, calm_ = false, rested_ = false, over_ = false;
  std::atomic<int> changed_ = 0;
  bool crashed_ = false;
  std::vector<std::unique_ptr<test::ChildProcess>> notify_;
  std::unique_ptr<test::ChildProcess> cdc_, second_;
  // Of this thread are the workers: they die with it.
  std::jthread thread_;
};

}  // namespace pgtier::testing
