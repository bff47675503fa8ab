#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/integration/postgres/local_server.h"

namespace pgtier::testing {
namespace {

constexpr uid_t kServerUid = 999;  // "postgres" in the root file system
constexpr Duration kPollInterval = std::chrono::milliseconds(5);

// PGTIER_POSTGRES=15: that one, where somebody has made it.
bool WantsFifteen() {
  const char* wanted = std::getenv("PGTIER_POSTGRES");
  return wanted != nullptr && std::string_view(wanted) == "15";
}

const std::string& Rootfs() {
  static const std::string path = [] {
    const char* given = std::getenv("PGTIER_ROOTFS_17");
    if (given != nullptr && !WantsFifteen()) return std::string(given);
    std::string out;
    FILE* pipe = popen(WantsFifteen() ? PGTIER_SOURCE_DIR "/testbed/rootfs.sh 15 --present 2>/dev/null"
                                      : PGTIER_SOURCE_DIR "/testbed/rootfs.sh 17",
                       "r");
    if (pipe == nullptr) return out;
    std::array<char, 4096> buffer{};
    while (fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) out += buffer.data();
    if (pclose(pipe) != 0) return std::string();
    while (!out.empty() && out.back() == '\n') out.pop_back();
    return out;
  }();
  return path;
}

}  // namespace

std::string WhyNoServers() {
  if (geteuid() != 0) return "servers of the testbed need root, for chroot";
  if (Rootfs().empty() && WantsFifteen()) return "there is no PostgreSQL 15: testbed/rootfs.sh 15 makes it";
  if (Rootfs().empty()) return "testbed/rootfs.sh 17 made no root file system";
  return "";
}

ServerFolder::ServerFolder() : path_("/tmp/pgtier-server-XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr || chown(path_.c_str(), kServerUid, kServerUid) != 0) path_.clear();
}

ServerFolder::~ServerFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

void ServerFolder::Write(const std::string& name, const std::string& content) const {
  std::string path = path_ + "/" + name;
  // Renamed into place: a server that reads meanwhile sees the old file or the new one.
  std::ofstream(path + ".new") << content;
  std::ignore = chown((path + ".new").c_str(), kServerUid, kServerUid);
  std::filesystem::rename(path + ".new", path);
}

void ServerFolder::Append(const std::string& name, const std::string& content) const {
  Write(name, Read(name) + content);
}

std::string ServerFolder::Read(const std::string& name) const {
  std::ifstream file(path_ + "/" + name);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

ServerProcess::~ServerProcess() {
  if (!Running()) return;
  Signal(SIGKILL);
  std::ignore = Wait(std::chrono::seconds(5));
}

Status ServerProcess::Start(const ServerFolder& folder, const std::vector<std::string>& command, const std::string& log,
                            const std::map<std::string, std::string>& environment) {
  std::vector<std::string> words = {PGTIER_SOURCE_DIR "/testbed/run-in-rootfs.sh", Rootfs(), folder.path(), "env"};
  for (const auto& [name, value] : environment) words.push_back(name + "=" + value);
  // Set only here: a change of the user id clears it.
  words.insert(words.end(), {"setpriv", "--pdeathsig", "SIGQUIT"});
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string log_path = folder.path() + "/" + log;

  pid_ = fork();
  if (pid_ < 0) return MakeError(Code::kResourceExhausted, "fork failed");
  if (pid_ == 0) {
    int out = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    setsid();
    execv(argv[0], argv.data());
    _exit(127);
  }
  return {};
}

void ServerProcess::Signal(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

bool ServerProcess::Running() {
  if (pid_ <= 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

Result<int> ServerProcess::Wait(Duration limit) {
  Deadline deadline = Deadline::After(limit);
  while (pid_ > 0) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      if (WIFEXITED(status)) return WEXITSTATUS(status);
      return MakeError(Code::kInternal, "ended by signal " + std::to_string(WTERMSIG(status)));
    }
    if (deadline.Expired()) return MakeError(Code::kDeadlineExceeded, "still runs");
    std::this_thread::sleep_for(kPollInterval);
  }
  return MakeError(Code::kFailedPrecondition, "not started");
}

}  // namespace pgtier::testing
