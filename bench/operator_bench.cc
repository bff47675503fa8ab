// pgtier-operator against a real etcd and kube-apiserver, measured from outside.
//
//   operator_bench <pgtier-operator> <folder for operator.json and the operator's log>
//
// PGTIER_BENCH_POLICIES (2000), PGTIER_BENCH_INTERVAL (metrics.interval of the policies; absent: the default, 15 s),
// PGTIER_BENCH_REST (seconds at rest, 300), PGTIER_BENCH_WORKERS (the operator's --workers), PGTIER_BENCH_PARTS (some of
// idle,unrelated,policies,soak; absent: all). Ends with 1 only where something could not be measured.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <thread>

#include "bench/cluster_load.h"
#include "bench/operator_process.h"
#include "bench/report.h"
#include "tests/integration/kube/api_server.h"

namespace pgtier::bench {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr int kStarts = 5;
constexpr seconds kIdle{20};
constexpr seconds kQuiet{75};
constexpr int kUnrelated = 600;
constexpr int kEvents = 200;
constexpr milliseconds kEventEvery{50};
// What has not come by then is not waited for: the figure is then a lower bound.
constexpr std::chrono::seconds kPatience{240};
constexpr int kScrapes = 10;
constexpr seconds kSoak{90};
constexpr char kDemand[] = "by-hand";

std::string Environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

Seconds Since(steady_clock::time_point begin) { return steady_clock::now() - begin; }

double Milliseconds(Seconds time) { return time.count() * 1000; }

struct Setup {
  std::string program;
  fs::path folder;
  int policies = 0;
  std::string interval;
  int rest_seconds = 0;
  std::string workers;
  std::string parts;

  [[nodiscard]] bool Has(const char* part) const { return parts.empty() || parts.find(part) != std::string::npos; }
};

class OperatorBench {
 public:
  OperatorBench(const Setup& setup, Report* report)
      : setup_(setup), report_(*report), server_(test::ApiServer::Instance()), client_(server_.Connect()) {}

  void Run() {
    server_.Kubectl({"apply", "--server-side", "-f", std::string(PGTIER_SOURCE_DIR) + "/crds/scaletierpolicies.yaml"});
    server_.Kubectl({"wait", "--for=condition=Established", "crd/scaletierpolicies.pgtier.dev", "--timeout=30s"});
    if (setup_.Has("idle")) Idle();
    if (setup_.Has("unrelated")) Unrelated();
    if (!setup_.Has("policies")) return;
    CreateNamespace(*client_, kNamespace);
    const auto begun = steady_clock::now();
    CreatePolicies(*client_, setup_.policies, setup_.interval);
    report_.Note("policies", std::to_string(setup_.policies) + ", created in " +
                                 std::to_string(static_cast<int>(Since(begun).count())) + " s");
    PolicyWatch watch(client_.get());
    std::unique_ptr<OperatorProcess> process = FirstStatuses(watch);
    MemoryWithPolicies(*process);
    Events(watch);
    // Numbers that moved are written at most every fourth interval: with the default one, all are written by then.
    std::this_thread::sleep_for(kQuiet);
    Rest(watch, *process, std::to_string(changed_) + " demands stand");
    std::ignore = Latencies(watch, ChangeSpecs(nullptr));  // Only their being done with is waited for.
    Rest(watch, *process, "at rest");
    if (setup_.Has("soak")) Soak(watch, *process);
  }

 private:
  [[nodiscard]] std::unique_ptr<OperatorProcess> Start() const {
    std::vector<std::string> arguments = {"--kubeconfig=" + server_.kubeconfig()};
    if (!setup_.workers.empty()) arguments.push_back("--workers=" + setup_.workers);
    return std::make_unique<OperatorProcess>(setup_.program, arguments, setup_.folder / "operator.log");
  }

  void AddMemory(const std::string& when, const Memory& memory, double rss_aim, std::optional<double> anonymous_aim) {
    report_.Add(when + ": RSS", memory.rss, "MiB", rss_aim);
    report_.Add(when + ": anonymous", memory.anonymous, "MiB", anonymous_aim);
    report_.Add(when + ": pages of program and libraries, shared", memory.file, "MiB");
  }

  void Idle() {
    std::vector<double> starts;
    for (int i = 0; i < kStarts; ++i) {
      auto process = Start();
      starts.push_back(Milliseconds(process->start_time()));
      process->Stop();
    }
    report_.Add(
        {"start to /readyz 200, median of " + std::to_string(kStarts), Quantile(starts, 0.5), "ms", {}, "", starts});
    auto process = Start();
    std::this_thread::sleep_for(kIdle);
    AddMemory("idle", process->ReadMemory(), 26, 10);
    idle_ = process->ReadMemory();
    process->Stop();
  }

  // Both ways in which a cache would fill: by events of a running watch, and by the first list after a start.
  void Unrelated() {
    auto process = Start();
    std::this_thread::sleep_for(kIdle);
    const Memory before = process->ReadMemory();
    CreateUnrelated(*client_, kUnrelated);
    std::this_thread::sleep_for(kIdle);
    const Memory after = process->ReadMemory();
    process->Stop();
    const std::string objects = std::to_string(kUnrelated) + " unrelated Secrets and ConfigMaps";
    report_.Add({objects + " come: change of RSS", after.rss - before.rss, "MiB", {}, "unchanged", {}});
    process = Start();
    std::this_thread::sleep_for(kIdle);
    AddMemory("restarted with them", process->ReadMemory(), 26, 10);
    process->Stop();
  }

  std::unique_ptr<OperatorProcess> FirstStatuses(PolicyWatch& watch) {
    const auto begun = steady_clock::now();
    auto process = Start();
    const std::string policies = std::to_string(setup_.policies) + " policies: ";
    report_.Add(policies + "start to caches synced", process->start_time().count(), "s", 3);
    const size_t derived = watch.WaitForStatuses(static_cast<size_t>(setup_.policies), kPatience);
    report_.Add(policies + "start to first status of all", Since(begun).count(), "s", 40);
    report_.Add({policies + "with a status by then", static_cast<double>(derived), "", {}, "all", {}});
    report_.Add(policies + "the operator's CPU until then", CpuOf("pgtier-operator").count(), "s");
    report_.Add(policies + "kube-apiserver's CPU from its own start", CpuOf("kube-apiserver").count(), "s");
    return process;
  }

  void MemoryWithPolicies(OperatorProcess& process) {
    std::this_thread::sleep_for(kIdle);
    const std::string policies = std::to_string(setup_.policies) + " policies";
    const Memory settled = process.ReadMemory();
    AddMemory(policies, settled, 100, {});
    report_.Add(policies + ": anonymous, each beyond idle",
                (settled.anonymous - idle_.anonymous) * 1024 / setup_.policies, "KiB");
    size_t bytes = 0;
    std::vector<double> times;
    for (int i = 0; i < kScrapes; ++i) {
      const auto begun = steady_clock::now();
      bytes = process.Scrape().size();
      times.push_back(Milliseconds(Since(begun)));
    }
    const Memory scraped = process.ReadMemory();
    report_.Add({"/metrics of " + std::to_string(bytes / 1024) + " KiB, median time",
                 Quantile(times, 0.5),
                 "ms",
                 {},
                 "",
                 times});
    report_.Add(policies + ", scraped " + std::to_string(kScrapes) + " times: RSS", scraped.rss, "MiB", 100);
    report_.Add(policies + ", scraped " + std::to_string(kScrapes) + " times: anonymous", scraped.anonymous, "MiB");
    report_.Add(policies + ": highest RSS so far", scraped.peak, "MiB", 100);
  }

  struct Change {
    std::string name;
    long long generation = 0;
    steady_clock::time_point sent;
  };

  // Sets or withdraws the demand of some policies at a steady pace, whether or not earlier changes were answered.
  std::vector<Change> ChangeSpecs(const nlohmann::json& demands) {
    std::vector<Change> changes;
    const auto begun = steady_clock::now();
    for (int i = 0; i < changed_; ++i) {
      std::this_thread::sleep_until(begun + i * kEventEvery);
      // Spread over all of them, so that no order of theirs matters.
      Change change{PolicyName(i * (setup_.policies / changed_)), 0, steady_clock::now()};
      auto patched = client_->MergePatch(kPolicies, {kNamespace, change.name}, {{"spec", {{"demands", demands}}}},
                                         Deadline::After(seconds(30)));
      if (!patched.has_value()) throw std::runtime_error(patched.error().message);
      change.generation = kube::IntAt(*patched, {"metadata", "generation"});
      changes.push_back(std::move(change));
    }
    return changes;
  }

  // Milliseconds from each change to the status that was derived from it; so far, where that does not come in time.
  static std::vector<double> Latencies(PolicyWatch& watch, const std::vector<Change>& changes) {
    const Deadline deadline = Deadline::After(kPatience);
    std::vector<double> latencies;
    for (const Change& change : changes) {
      auto seen = watch.WaitForStatus(change.name, change.generation, deadline);
      latencies.push_back(Milliseconds(seen.value_or(steady_clock::now()) - change.sent));
    }
    return latencies;
  }

  void Events(PolicyWatch& watch) {
    const std::vector<double> latencies = Latencies(watch, ChangeSpecs(nlohmann::json::array({kDemand})));
    const std::string what = std::to_string(changed_) + " spec changes, 20/s: patch sent to status seen, ";
    report_.Add({what + "p50", Quantile(latencies, 0.5), "ms", {}, "", latencies});
    report_.Add(what + "p99", Quantile(latencies, 0.99), "ms", 1000);
  }

  // Requests that the API server has counted for which all of `parts` hold; leases are left out: the leader renews its
  // own, and the API server does.
  double Requests(const std::string& exposition, const std::vector<std::string>& verbs) const {
    double sum = 0;
    for (const std::string& verb : verbs) {
      sum += SumOf(exposition, "apiserver_request_total", {"verb=\"" + verb + "\""}) -
             SumOf(exposition, "apiserver_request_total", {"verb=\"" + verb + "\"", "resource=\"leases\""});
    }
    return sum;
  }

  std::string ServerMetrics() const {
    auto body = client_->GetRaw("/metrics", Deadline::After(seconds(30)));
    if (!body.has_value()) throw std::runtime_error(body.error().message);
    return *std::move(body);
  }

  void Rest(PolicyWatch& watch, OperatorProcess& process, const std::string& when) {
    std::this_thread::sleep_for(kIdle);
    const std::vector<std::string> kWrites = {"POST", "PUT", "PATCH", "APPLY", "DELETE"};
    const auto versions = watch.Versions();
    const std::string server_before = ServerMetrics();
    const std::string before = process.Scrape();
    const Seconds cpu = CpuOf("pgtier-operator");
    const Seconds server_cpu = CpuOf("kube-apiserver");
    const auto begun = steady_clock::now();
    std::this_thread::sleep_for(seconds(setup_.rest_seconds));
    const double elapsed = Since(begun).count();
    const Seconds cpu_used = CpuOf("pgtier-operator") - cpu;
    const Seconds server_cpu_used = CpuOf("kube-apiserver") - server_cpu;
    const std::string after = process.Scrape();
    const std::string server_after = ServerMetrics();
    const auto now = watch.Versions();
    double changed = 0;
    for (const auto& [name, version] : now) changed += versions.at(name) == version ? 0 : 1;

    const std::string rest = when + ", " + std::to_string(setup_.rest_seconds) + " s: ";
    report_.Add(rest + "policies written", changed, "", 0);
    report_.Add(rest + "all writes the API server counted, but leases",
                Requests(server_after, kWrites) - Requests(server_before, kWrites), "", 0);
    report_.Add(rest + "the operator's CPU", cpu_used.count(), "s");
    report_.Add(rest + "kube-apiserver's CPU", server_cpu_used.count(), "s");
    auto passes = [](const std::string& text) { return SumOf(text, "pgtier_reconcile_seconds_count"); };
    auto spent = [](const std::string& text) { return SumOf(text, "pgtier_reconcile_seconds_sum"); };
    const double done = passes(after) - passes(before);
    report_.Add(rest + "passes", done / elapsed, "/s");
    if (done > 0) report_.Add(rest + "a pass", (spent(after) - spent(before)) / done * 1000, "ms");
    report_.Add(rest + "LIST calls", (Requests(server_after, {"LIST"}) - Requests(server_before, {"LIST"})) / elapsed,
                "/s");
    report_.Add(rest + "RSS at its end", process.ReadMemory().rss, "MiB", 100);
  }

  // Changes for some minutes, scraped all the while: what leaks shows as a slope.
  void Soak(PolicyWatch& watch, OperatorProcess& process) {
    const double before = process.ReadMemory().rss;
    const auto begun = steady_clock::now();
    int changes = 0;
    std::vector<double> rss;
    while (Since(begun) < kSoak) {
      for (const auto& demands : {nlohmann::json::array({kDemand}), nlohmann::json(nullptr)}) {
        const std::vector<Change> sent = ChangeSpecs(demands);
        std::ignore = Latencies(watch, sent);  // Only their being done with is waited for.
        changes += static_cast<int>(sent.size());
        std::ignore = process.Scrape();
        rss.push_back(process.ReadMemory().rss);
      }
    }
    const std::string what = std::to_string(changes) + " changes in " +
                             std::to_string(static_cast<int>(Since(begun).count())) + " s: change of RSS";
    report_.Add(what, rss.back() - before, "MiB");
    report_.Add(what + ", second half", rss.back() - rss[rss.size() / 2], "MiB", 1);
  }

  const Setup& setup_;
  Report& report_;
  test::ApiServer& server_;
  std::unique_ptr<kube::Client> client_;
  Memory idle_;
  const int changed_ = std::min(kEvents, setup_.policies);
};

int Main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: operator_bench <pgtier-operator> <folder for results>\n";
    return 64;
  }
  if (const std::string missing = test::ApiServer::Missing(); !missing.empty()) {
    std::cerr << missing << '\n';
    return 1;
  }
  const Setup setup{argv[1],
                    argv[2],
                    std::stoi(Environment("PGTIER_BENCH_POLICIES", "2000")),
                    Environment("PGTIER_BENCH_INTERVAL", ""),
                    std::stoi(Environment("PGTIER_BENCH_REST", "300")),
                    Environment("PGTIER_BENCH_WORKERS", ""),
                    Environment("PGTIER_BENCH_PARTS", "")};
  Report report;
  report.Note("cores", std::to_string(sysconf(_SC_NPROCESSORS_ONLN)));
  report.Note("workers", setup.workers.empty() ? "16, the default" : setup.workers);
  report.Note("metrics.interval", setup.interval.empty() ? "15s, the default" : setup.interval);
  OperatorBench(setup, &report).Run();
  if (report.Write(setup.folder / "operator.json")) return 0;
  std::cerr << "cannot write into " << setup.folder << '\n';
  return 1;
}

}  // namespace
}  // namespace pgtier::bench

int main(int argc, char** argv) {
  try {
    return pgtier::bench::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "not measured: " << error.what() << '\n';
    return 1;
  }
}
