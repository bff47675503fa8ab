#include "tests/e2e/pod_trouble.h"

#include <signal.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kSystem[] = "pgtier-system";

// Files of /proc have no size, and are gone with their process.
std::string TextOf(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string UidOf(const std::string& pod, const std::string& name_space) {
  if (pod.empty()) return "";
  return Kubectl({"get", "pod", pod, "-n", name_space, "-o", "jsonpath={.metadata.uid}"}, "", true);
}

struct PodProcess {
  int pid = 0;          // the machine's
  std::string command;  // as ps shows it; Postgres' processes say there what they do
};

// A pod's processes as the machine sees them, without the one that holds its namespaces: for kill -9 and SIGSTOP, which
// a container's first process ignores when they come from inside of it. None: the pod runs on another machine than the
// test, or the test is not root.
std::vector<PodProcess> ProcessesOf(const std::string& pod, const std::string& name_space) {
  const std::string uid = UidOf(pod, name_space);
  // The kubelet names a pod's cgroup after it: with '_' where systemd makes cgroups.
  std::string escaped = uid;
  std::replace(escaped.begin(), escaped.end(), '-', '_');
  std::vector<PodProcess> processes;
  if (uid.empty()) return processes;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    PodProcess process;
    if (std::from_chars(name.data(), name.data() + name.size(), process.pid).ec != std::errc()) continue;
    const std::string group = TextOf(entry.path() / "cgroup");
    if (group.find("pod" + uid) == std::string::npos && group.find("pod" + escaped) == std::string::npos) continue;
    process.command = TextOf(entry.path() / "cmdline");
    std::replace(process.command.begin(), process.command.end(), '\0', ' ');
    // A zombie has no command line.
    if (!process.command.empty() && !process.command.starts_with("/pause")) processes.push_back(std::move(process));
  }
  return processes;
}

}  // namespace

PodTrouble::PodTrouble(std::string name_space, std::string policy, const std::string& instance, unsigned seed)
    : namespace_(std::move(name_space)),
      policy_(std::move(policy)),
      pod_(instance + "-0"),
      seed_(seed),
      random_(seed + 77) {
  Shuffle();
}

// Troubles of a worker come where there is one, those of its session where it has one.
void PodTrouble::Shuffle() {
  for (size_t i = 0; i < kKinds; ++i) order_.at(i) = static_cast<Kind>(i);
  auto fits = [&] {
    for (size_t i = 0; i < kKinds; ++i) {
      if (order_.at(i) <= Kind::kStopWorker && (i < 1 || i > 5)) return false;
      if (order_.at(i) <= Kind::kEndSession && (i < 1 || i > 6)) return false;
    }
    return true;
  };
  do std::shuffle(order_.begin(), order_.end(), random_);
  while (!fits());
}

void PodTrouble::Befall(size_t at) {
  switch (order_.at(at)) {
    case Kind::kKillWorker:
      if (const std::string worker = Worker(); !worker.empty()) return Kill("kill -9 of a worker", worker, namespace_);
      return Tell("");
    case Kind::kDeleteWorker:
      return Delete("deletion of a worker", Worker(), "0");
    case Kind::kStopWorker: {
      bool stopped = false;
      for (const PodProcess& process : ProcessesOf(Worker(), namespace_)) stopped = Pause(process.pid) || stopped;
      return Tell(stopped ? "SIGSTOP of a worker" : "");
    }
    case Kind::kStopSession:
      return Tell(Pause(Session(seconds(10))) ? "SIGSTOP of a worker's session" : "");
    case Kind::kEndSession: {
      const int pid = Session(seconds(10));
      return Tell(pid != 0 && kill(pid, SIGTERM) == 0 ? "end of a worker's session" : "");
    }
    case Kind::kCrash: {  // Postgres ends all processes when one dies so
      int pid = Session(seconds(0));
      if (pid == 0) pid = OfPostgres({": checkpointer"});
      return Tell(pid != 0 && kill(pid, SIGKILL) == 0 ? "kill -9 of a server process" : "");
    }
    case Kind::kPostgres:
      // Not by force: two servers on one volume is what that risks.
      if (seed_ % 2 == 0) return Delete("deletion of Postgres' pod", pod_, "1");
      return Kill("kill -9 of Postgres", pod_, namespace_);
    case Kind::kOperator: {
      if (seed_ % 2 == 0) {
        Kubectl({"delete", "pods", "-n", kSystem, "-l", "app.kubernetes.io/name=pgtier", "--grace-period=0", "--force",
                 "--wait=false"},
                "", true);
        return Tell("deletion of all operators");
      }
      return Kill("kill -9 of the operator that leads", "", kSystem);
    }
  }
}

// One of the policy's worker pods; empty: there came none.
std::string PodTrouble::Worker() {
  for (Deadline until = Deadline::After(seconds(20)); !until.Expired(); Rest(200, 200)) {
    const Json pods = KubectlJson({"get", "pods", "-n", namespace_, "-l", "pgtier.dev/shadow-policy=" + policy_,
                                   "--field-selector=status.phase=Running"});
    std::vector<std::string> names;
    for (const Json& pod : pods.value("items", Json::array())) {
      if (!pod["metadata"].contains("deletionTimestamp")) names.push_back(pod["metadata"]["name"]);
    }
    if (!names.empty()) return names[static_cast<size_t>(Roll(static_cast<int>(names.size())))];
  }
  return "";
}

// A server process that works for somebody's worker, rather one that sends the log; 0: there came none.
int PodTrouble::Session(Duration patience) {
  for (Deadline until = Deadline::After(patience);; Rest(200, 200)) {
    const int pid = OfPostgres({": walsender pgtier_shadow", ": pgtier_shadow"});
    if (pid != 0 || until.Expired()) return pid;
  }
}

// One of those in whose title is the first of these that is in any: "postgres: app-1: walsender pgtier_shadow_cdc …".
int PodTrouble::OfPostgres(const std::vector<std::string>& titles) {
  const auto processes = ProcessesOf(pod_, namespace_);
  for (const std::string& title : titles) {
    std::vector<int> pids;
    for (const PodProcess& process : processes) {
      if (process.command.find(title) != std::string::npos) pids.push_back(process.pid);
    }
    if (!pids.empty()) return pids[static_cast<size_t>(Roll(static_cast<int>(pids.size())))];
  }
  return 0;
}

// No pod: the operator's that leads.
void PodTrouble::Kill(const std::string& what, const std::string& pod, const std::string& name_space) {
  bool killed = false;
  // Somebody else's trouble may have been here a moment ago.
  for (Deadline until = Deadline::After(seconds(20)); !killed && !until.Expired(); Rest(200, 200)) {
    std::string victim = pod;
    if (victim.empty()) {
      victim = Kubectl({"get", "lease", "pgtier", "-n", kSystem, "-o", "jsonpath={.spec.holderIdentity}"}, "", true);
      victim.resize(std::min(victim.size(), victim.find('_')));
    }
    for (const PodProcess& process : ProcessesOf(victim, name_space)) {
      // Postgres' first process takes the others with it.
      if (!process.command.starts_with("postgres: ")) killed = kill(process.pid, SIGKILL) == 0 || killed;
    }
  }
  Tell(killed ? what : "");
}

void PodTrouble::Delete(const std::string& what, const std::string& pod, const std::string& grace) {
  if (pod.empty()) return Tell("");
  std::vector<std::string> arguments = {
      "delete", "pod", pod, "-n", namespace_, "--wait=false", "--grace-period=" + grace};
  if (grace == "0") arguments.emplace_back("--force");
  Kubectl(arguments, "", true);
  Tell(what);
}

bool PodTrouble::Pause(int pid) {
  if (pid == 0 || kill(pid, SIGSTOP) != 0) return false;
  Rest(200, 1500);
  kill(pid, SIGCONT);
  return true;
}

void PodTrouble::Tell(const std::string& what) {
  story_ += (story_.empty() ? "" : ", ") + (what.empty() ? "nothing" : what);
  if (!what.empty()) ++counts_[what];
}

void PodTrouble::Rest(int least_ms, int most_ms) {
  std::this_thread::sleep_for(milliseconds(least_ms + Roll(most_ms - least_ms + 1)));
}

}  // namespace pgtier::e2e
