#include "tests/integration/ledger/trouble.h"

#include <csignal>
#include <filesystem>

#include "tests/integration/ledger/application.h"
#include "tests/integration/ledger/seed.h"

namespace pgtier::testing {
namespace {

constexpr int kNotifyWorkers = 2;

}  // namespace

Trouble::Trouble(LocalPostgres& server, std::string database, const shadow::Spec& spec, unsigned seed)
    : server_(server), database_(std::move(database)), spec_(spec), random_(seed), network_(server.port()) {
  auto file = [&](const std::string& mode, const std::string& user, const std::string& password,
                  const std::string& more) {
    folder_.Write(mode + "/password", password);
    postgres::ConnectOptions options = server_.Options(database_);
    options.user = user;
    options.port = network_.port();
    std::string config = WorkerConfig(folder_, options, mode, spec_.policy, more);
    const std::string plain = folder_.path() + "/password";
    config.replace(config.find(plain), plain.size(), folder_.path() + "/" + mode + "/password");
    folder_.Write(mode + "/worker.json", config);
  };
  for (const char* mode : {"notify", "cdc"}) std::filesystem::create_directory(folder_.path() + "/" + mode);
  file("notify", std::string(shadow::kNotifyRole), kNotifyPassword, R"(, "batch": {"rows": 200, "interval": "30ms"})");
  // Little memory: what is streamed spills.
  file("cdc", std::string(shadow::kCdcRole), kCdcPassword,
       R"(, "slot": ")" + spec_.slot + R"(", "publication": ")" + shadow::PublicationName(spec_) +
           R"(", "batch": {"rows": 200, "interval": "20ms"}, "spill": {"memory": "64Ki"})");
}

Trouble::~Trouble() { over_ = calm_ = true; }

void Trouble::Begin() {
  thread_ = std::jthread([this] { Run(); });
}

void Trouble::SetCdc(bool on) {
  wanted_ = on;
  const int seen = ++changed_;
  while (changed_ == seen) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

void Trouble::Calm() {
  calm_ = true;
  while (!rested_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

std::unique_ptr<test::ChildProcess> Trouble::Start(const std::string& mode) {
  return StartWorker(folder_.path() + "/" + mode + "/worker.json", folder_.path() + "/log");
}

void Trouble::Rest(int least_ms, int most_ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(least_ms + Roll(most_ms - least_ms + 1)));
}

void Trouble::Run() {
  const MonoTime began = std::chrono::steady_clock::now();
  for (int i = 0; i < kNotifyWorkers; ++i) notify_.push_back(Start("notify"));
  while (!over_) {
    if (changed_ % 2 != 0) {
      cdc_ = wanted_ ? Start("cdc") : nullptr;
      second_.reset();
      ++changed_;
    }
    if (calm_) {
      rested_ = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    Once();
    // Less and less: what comes to an end only in peace gets there on a slow machine too.
    const auto grown = std::chrono::steady_clock::now() - began;
    for (Deadline pause = Deadline::After(std::chrono::milliseconds(20 + Roll(200)) + grown / 10);
         !pause.Expired() && changed_ % 2 == 0 && !calm_;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  cdc_.reset();
  second_.reset();
  notify_.clear();
}

int Trouble::Backend(const std::string& condition) {
  auto connection = server_.Connect();
  if (!connection.has_value()) return 0;
  auto rows = connection->Query(
      "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND " + condition + " ORDER BY random() LIMIT 1",
      {database_}, Patience());
  if (!rows.has_value() || rows->empty()) return 0;
  return static_cast<int>((*rows)[0].Get<int64_t>(0).value_or(0));
}

void Trouble::Stop(int pid, int least_ms, int most_ms) {
  if (pid <= 0 || kill(pid, SIGSTOP) != 0) return;
  Rest(least_ms, most_ms);
  kill(pid, SIGCONT);
}

// What befalls the server's processes.
void Trouble::OneServer(int what) {
  if (what == 0) {  // of one process: Postgres restarts all of them
    int pid = Backend("backend_type = 'walsender'");
    if (pid == 0) pid = Backend("application_name LIKE 'pgtier-%'");
    if (pid == 0) return;
    kill(pid, SIGKILL);
    Count("kill -9 of a server process");
  } else {
    server_.Signal(SIGQUIT);  // as pg_ctl stop -m immediate: a crash for all that is in it
    Rest(0, 100);
    for (Deadline limit = Deadline::After(std::chrono::seconds(60)); !limit.Expired();) {
      if (server_.Restart().has_value()) break;
    }
    Count(kServerKilled);
  }
  crashed_ = true;
}

void Trouble::Once() {
  // Crashes cost the most: one for certain, few more.
  if (!crashed_ && Roll(6) == 0) return OneServer(Roll(2));
  auto& of_notify = notify_[static_cast<size_t>(Roll(kNotifyWorkers))];
  switch (int what = Roll(20); what) {
    case 0:
    case 1:
    case 2:
      of_notify->Stop(SIGKILL);
      Rest(0, 50);
      of_notify = Start("notify");
      return Count("kill -9 of a notify worker");
    case 3:
    case 4:
    case 5:
      if (cdc_ == nullptr) return;
      cdc_->Stop(SIGKILL);
      Rest(0, 50);
      cdc_ = Start("cdc");
      return Count("kill -9 of the cdc worker");
    case 6:
      Stop(of_notify->pid(), 50, 500);
      return Count("SIGSTOP of a notify worker");
    case 7:
    case 8:
      if (cdc_ == nullptr) return;
      Stop(cdc_->pid(), 50, 500);
      return Count("SIGSTOP of the cdc worker");
    case 9:
    case 10: {
      int pid = Backend(what == 9 ? "backend_type = 'walsender'" : "application_name LIKE 'pgtier-%'");
      if (pid == 0) return;
      Stop(pid, 50, 400);
      return Count("SIGSTOP of a server process");
    }
    case 11:
    case 12:
      network_.Cut();
      return Count("network cut");
    case 13:
    case 14:
      network_.Stall(true);
      Rest(50, 400);
      if (what == 14) network_.Cut();
      network_.Stall(false);
      return Count("network stalled");
    case 15:
    case 16: {
      int pid = Backend(what == 15 ? "backend_type = 'walsender'" : "application_name LIKE 'pgtier-%'");
      if (pid == 0 || kill(pid, SIGTERM) != 0) return;
      return Count("session ended");
    }
    case 17: {
      int pid = Backend(std::string("application_name = '") + kOperatorName + "'");
      if (pid == 0 || kill(pid, SIGTERM) != 0) return;
      return Count("operator's session ended");
    }
    case 18:
      // A second consumer, as when a node was thought dead: stopped with the first one running, or in its place.
      if (cdc_ == nullptr) return;
      second_ = Start("cdc");
      if (Roll(2) == 0) {
        Stop(cdc_->pid(), 200, 400);
      } else {
        Rest(100, 300);
      }
      second_.reset();
      return Count("second cdc worker");
    default:
      if (Roll(12) == 0) OneServer(Roll(2));
  }
}

}  // namespace pgtier::testing
