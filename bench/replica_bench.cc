// How long a replica that falls behind, or whose server is killed, goes on taking reads: real servers and a real
// PgBouncer as local processes, a Service that is probed every second as a kubelet does, no operator.
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <thread>

#include "bench/report.h"
#include "tests/integration/postgres/replica_fleet.h"

namespace pgtier::bench {
namespace {

using testing::ReplicaFleet;

constexpr Duration kMaxLag = std::chrono::seconds(1);
constexpr int kRounds = 6;
constexpr int kReaders = 8;

bool Eventually(const std::function<bool()>& holds) {
  Deadline deadline = Deadline::After(std::chrono::seconds(60));
  while (!deadline.Expired()) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

int Fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  return 1;
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Clients that read through the pooler and, as applications do, connect again after an error.
class Clients {
 public:
  explicit Clients(const postgres::ConnectOptions& options) {
    for (int i = 0; i < kReaders; ++i) {
      threads_.emplace_back([this, options](const std::stop_token& stop) { Run(options, stop); });
    }
  }

  struct Sums {
    int64_t answers = 0;
    int64_t failures = 0;
    MonoTime last_failure;
    Duration longest_wait{};  // of a client, from one answer to its next
  };
  Sums Now() {
    std::lock_guard lock(mutex_);
    return sums_;
  }
  void Reset() {
    std::lock_guard lock(mutex_);
    sums_ = {};
  }

 private:
  void Run(const postgres::ConnectOptions& options, const std::stop_token& stop) {
    std::optional<postgres::Connection> connection;
    MonoTime answered = std::chrono::steady_clock::now();
    while (!stop.stop_requested()) {
      Deadline soon = Deadline::After(std::chrono::seconds(30));
      bool good = connection.has_value();
      if (!good) {
        auto opened = postgres::Connection::Open(options, soon);
        good = opened.has_value();
        if (good) connection = *std::move(opened);
      }
      good = good && connection->Query("SELECT host(inet_server_addr())", soon).has_value();
      MonoTime now = std::chrono::steady_clock::now();
      std::lock_guard lock(mutex_);
      if (good) {
        ++sums_.answers;
        sums_.longest_wait = std::max(sums_.longest_wait, now - answered);
        answered = now;
      } else {
        connection.reset();
        ++sums_.failures;
        sums_.last_failure = now;
      }
    }
  }

  std::mutex mutex_;
  Sums sums_;
  std::vector<std::jthread> threads_;
};

int Lags(ReplicaFleet& fleet, Report& report) {
  auto& standbys = fleet.standbys();
  testing::Readers readers(fleet.Application(), kReaders);
  std::vector<double> judged, left, back;
  for (int round = 0; round < kRounds; ++round) {
    // The one that takes reads now: after a round the pool stays with the other.
    ReplicaFleet::Standby& lagging = standbys[static_cast<size_t>(round % 2)];
    const std::string address = round % 2 == 0 ? "127.0.0.2" : "127.0.0.3";
    int64_t before = readers.AnswersOf(address);
    auto reads = [&] { return lagging.service->taking() && readers.AnswersOf(address) > before + 50; };
    if (!Eventually(reads)) return Fail(address + " gets no reads\n" + fleet.Log());
    MonoTime paused = std::chrono::steady_clock::now();
    if (auto done = fleet.PauseReplay(lagging, true); !done.has_value()) return Fail(done.error().message);
    if (!Eventually([&] { return lagging.Out(); })) return Fail("it takes no notice\n" + fleet.Log());
    judged.push_back(Seconds(std::chrono::steady_clock::now() - paused - kMaxLag));
    if (!Eventually([&] { return lagging.Drained() && fleet.ConnectionsTo(lagging) == 0; }))
      return Fail("connections stay\n" + fleet.Log());
    left.push_back(Seconds(readers.LastAnswerOf(address) - paused - kMaxLag));
    if (auto done = fleet.PauseReplay(lagging, false); !done.has_value()) return Fail(done.error().message);
    MonoTime resumed = std::chrono::steady_clock::now();
    if (!Eventually([&] { return !lagging.Out() && lagging.service->taking(); }))
      return Fail("it does not come back\n" + fleet.Log());
    back.push_back(Seconds(std::chrono::steady_clock::now() - resumed));
  }
  readers.Stop();
  report.Add({"lags: its own judgement, after its lag passed maxLag", Quantile(judged, 0.5), "s", {}, "", judged});
  report.Add({"lags: the last read on it, after its lag passed maxLag", Quantile(left, 0.5), "s", 2.0, "", left});
  report.Add({"the same, worst of " + std::to_string(kRounds), Quantile(left, 1), "s", 2.0, "", {}});
  report.Add({"takes new connections again, after replay goes on", Quantile(back, 0.5), "s", {}, "", back});
  report.Add("lags: failed queries", static_cast<double>(readers.errors().size()), "", 0);
  return 0;
}

// All of the server's processes at once, as a container ends. What is asked of it then, nobody can answer.
int Dies(ReplicaFleet& fleet, Report& report) {
  Clients clients(fleet.Application());
  std::vector<double> over, waits, failures;
  for (int round = 0; round < kRounds; ++round) {
    ReplicaFleet::Standby& dying = fleet.standbys()[static_cast<size_t>(round % 2)];
    std::this_thread::sleep_for(std::chrono::seconds(2));
    clients.Reset();
    MonoTime killed = std::chrono::steady_clock::now();
    dying.server->Signal(SIGQUIT);
    std::this_thread::sleep_for(std::chrono::seconds(8));
    Clients::Sums sums = clients.Now();
    if (sums.answers == 0) return Fail("nobody gets an answer\n" + fleet.Log());
    over.push_back(sums.failures == 0 ? 0 : Seconds(sums.last_failure - killed));
    waits.push_back(Seconds(sums.longest_wait));
    failures.push_back(static_cast<double>(sums.failures));
    if (auto done = dying.server->Restart(); !done.has_value()) return Fail(done.error().message);
    // Its container would have begun like this.
    dying.server->folder().Write("pgtier-out", "");
    if (!Eventually([&] { return fleet.ConnectionsTo(dying) >= 0 && dying.service->taking(); }))
      return Fail("it does not come back\n" + fleet.Log());
  }
  report.Add({"killed: the last query that failed, after the signal", Quantile(over, 0.5), "s", 2.0, "", over});
  report.Add({"the same, worst of " + std::to_string(kRounds), Quantile(over, 1), "s", 2.0, "", {}});
  report.Add({"killed: longest wait of a client for its next answer, worst", Quantile(waits, 1), "s", {}, "", waits});
  report.Add({"killed: queries that failed, median (clients: " + std::to_string(kReaders) + ")",
              Quantile(failures, 0.5),
              "",
              {},
              "",
              failures});
  return 0;
}

int Run(const std::string& results) {
  if (std::string why = testing::WhyNoServers(); !why.empty()) return Fail(why);
  auto fleet = ReplicaFleet::Start(kMaxLag);
  if (!fleet.has_value()) return Fail(fleet.error().message);
  auto& standbys = (*fleet)->standbys();
  auto taking = [&] { return standbys[0].service->taking() && standbys[1].service->taking(); };
  if (!Eventually(taking)) return Fail((*fleet)->Log());
  Report report;
  report.Note("maxLag", "1s");
  report.Note("readers", std::to_string(kReaders));
  if (int code = Lags(**fleet, report); code != 0) return code;
  if (int code = Dies(**fleet, report); code != 0) return code;
  return report.Write(results + "/replicas.json") ? 0 : 1;
}

}  // namespace
}  // namespace pgtier::bench

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: replica_bench <folder of results>\n");
    return 64;
  }
  return pgtier::bench::Run(argv[1]);
}
