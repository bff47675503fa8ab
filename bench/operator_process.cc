#include "bench/operator_process.h"

#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <vector>

namespace pgtier::bench {
namespace {

namespace fs = std::filesystem;

// Fields of /proc/<pid>/stat after the name, which alone may hold blanks; the first is the state.
std::vector<std::string> StatOf(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream rest(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

// The kernel keeps 15 bytes of a program's name. Asked by name and parent, because the fixture that starts
// kube-apiserver and etcd tells nobody their pids.
std::optional<pid_t> ChildNamed(const std::string& program) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string number = entry.path().filename();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    std::string name;
    std::ifstream(entry.path() / "comm") >> name;
    if (name != program.substr(0, 15)) continue;
    const pid_t pid = std::stoi(number);
    std::vector<std::string> fields = StatOf(pid);
    if (fields.size() > 1 && std::stoi(fields[1]) == getpid()) return pid;
  }
  return std::nullopt;
}

pid_t PidOf(const std::string& program) {
  if (std::optional<pid_t> pid = ChildNamed(program)) return *pid;
  throw std::runtime_error(program + " does not run");
}

std::unique_ptr<http::Client> ClientOf(uint16_t port) {
  http::ClientOptions options;
  options.base_url = "http://127.0.0.1:" + std::to_string(port);
  auto client = http::Client::Create(options);
  if (!client.has_value()) throw std::runtime_error(client.error().message);
  return *std::move(client);
}

Result<http::Response> Get(http::Client& client, const std::string& path, Duration patience) {
  http::Request request;
  request.method = "GET";
  request.path_and_query = path;
  return client.Send(request, Deadline::After(patience), {});
}

}  // namespace

Seconds CpuOf(const std::string& program) {
  constexpr size_t kUserTime = 11;  // Fields 14 and 15 of proc(5), less the three up to the state.
  const std::vector<std::string> fields = StatOf(PidOf(program));
  if (fields.size() <= kUserTime + 1) throw std::runtime_error(program + " has no times");
  const double ticks = std::stod(fields[kUserTime]) + std::stod(fields[kUserTime + 1]);
  return Seconds(ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

OperatorProcess::OperatorProcess(const std::string& program, std::vector<std::string> arguments, const fs::path& log) {
  const uint16_t port = test::FreePort();
  http_ = ClientOf(port);
  std::vector<std::string> command = {program, "--listen-address=127.0.0.1", "--port=" + std::to_string(port),
                                      "--postgres-image=bench", "--pgbouncer-image=bench"};
  command.insert(command.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  const auto begun = std::chrono::steady_clock::now();
  process_ = std::make_unique<test::ChildProcess>(command, log);
  const Deadline deadline = Deadline::After(std::chrono::minutes(1));
  while (!Ready()) {
    if (deadline.Expired() || !process_->Running()) {
      throw std::runtime_error(program + " does not get ready; its log: " + log.string());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  start_time_ = std::chrono::steady_clock::now() - begun;
  pid_ = PidOf(fs::path(program).filename());
}

bool OperatorProcess::Ready() {
  auto response = Get(*http_, "/readyz", std::chrono::seconds(5));
  return response.has_value() && response->status == 200;
}

Memory OperatorProcess::ReadMemory() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
  Memory memory;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    double kib = 0;
    words >> name >> kib;
    if (name == "VmRSS:") memory.rss = kib / 1024;
    if (name == "RssAnon:") memory.anonymous = kib / 1024;
    if (name == "RssFile:") memory.file = kib / 1024;
    if (name == "VmHWM:") memory.peak = kib / 1024;
  }
  if (memory.rss == 0) throw std::runtime_error("pgtier-operator has ended");
  return memory;
}

std::string OperatorProcess::Scrape() {
  auto response = Get(*http_, "/metrics", std::chrono::seconds(30));
  if (!response.has_value()) throw std::runtime_error("/metrics: " + response.error().message);
  return std::move(response->body);
}

void OperatorProcess::Stop() { process_->Stop(SIGTERM); }

double SumOf(const std::string& exposition, const std::string& metric, const std::vector<std::string>& parts) {
  double sum = 0;
  std::istringstream lines(exposition);
  for (std::string line; std::getline(lines, line);) {
    // The name ends where labels or the value begin: others may begin with it.
    if (!line.starts_with(metric) || (line[metric.size()] != '{' && line[metric.size()] != ' ')) continue;
    bool all = true;
    for (const std::string& part : parts) all = all && line.find(part) != std::string::npos;
    if (all) sum += std::stod(line.substr(line.rfind(' ') + 1));
  }
  return sum;
}

}  // namespace pgtier::bench
