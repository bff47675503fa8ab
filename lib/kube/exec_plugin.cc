#include "lib/kube/exec_plugin.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "lib/base/time_format.h"
#include "lib/kube/json.h"

extern char** environ;  // NOLINT: POSIX' name

namespace pgtier::kube {
namespace {

constexpr size_t kOutputBytes = size_t{1} << 20;
constexpr int kPollMillis = 50;
// A token that ends while a request is on its way helps nobody.
constexpr Duration kEarly = std::chrono::seconds(5);
// A user who may do nothing would else have the command run for every call.
constexpr Duration kBetweenRuns = std::chrono::seconds(5);

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }
  void Close() {
    if (descriptor_ >= 0) close(descriptor_);
    descriptor_ = -1;
  }

 private:
  int descriptor_;
};

// argv or envp of what is kept elsewhere.
std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const ExecConfig& config) {
  std::vector<std::string> all;
  auto set = [&](const std::string& name, const std::string& value) {
    std::erase_if(all, [&](const std::string& each) { return each.starts_with(name + "="); });
    all.push_back(name + "=" + value);
  };
  for (char** entry = environ; *entry != nullptr; ++entry) all.emplace_back(*entry);
  for (const auto& [name, value] : config.env) set(name, value);
  set("KUBERNETES_EXEC_INFO", config.exec_info);
  return all;
}

// A command that is running, in a process group of its own; killed when this ends before it.
class Command {
 public:
  ~Command() {
    if (pid_ <= 0) return;
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  Status Start(const ExecConfig& config, int output) {
    std::vector<std::string> arguments = {config.command};
    arguments.insert(arguments.end(), config.args.begin(), config.args.end());
    std::vector<std::string> environment = Environment(config);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    // The operator blocks signals in all of its threads and ignores SIGPIPE; the command shall find neither.
    sigset_t none;
    sigset_t usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    const int error = posix_spawnp(&pid_, config.command.c_str(), &files, &attributes, Pointers(arguments).data(),
                                   Pointers(environment).data());
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (error == 0) return {};
    pid_ = -1;
    std::string message = "can't run: " + std::string(strerror(error));  // NOLINT(concurrency-mt-unsafe)
    if (!config.install_hint.empty()) message += ". " + config.install_hint;
    return MakeError(Code::kNotFound, message);
  }

  // Whether it has ended, and how.
  std::optional<int> Ended() {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == 0) return std::nullopt;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
};

Result<std::string> Run(const ExecConfig& config, Deadline deadline, const std::stop_token& stop) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return MakeError(Code::kUnavailable, "no pipe");
  Descriptor from(ends[0]);
  Descriptor to(ends[1]);
  Command command;
  PGTIER_RETURN_IF_ERROR(command.Start(config, to.get()));
  to.Close();
  std::string output;
  bool open = true;
  std::optional<int> ended;
  while (open || !ended.has_value()) {
    if (stop.stop_requested()) return MakeError(Code::kCancelled, "stopped");
    if (deadline.Expired()) return MakeError(Code::kDeadlineExceeded, "it took too long and was ended");
    if (open) {
      pollfd waiting{from.get(), POLLIN, 0};
      if (poll(&waiting, 1, kPollMillis) > 0) {
        char bytes[4096];
        const ssize_t count = read(from.get(), bytes, sizeof(bytes));
        open = count > 0;
        if (count > 0) output.append(bytes, static_cast<size_t>(count));
        if (output.size() > kOutputBytes) return MakeError(Code::kInvalidArgument, "it printed too much");
        if (open) continue;
      }
    }
    if (!ended.has_value()) ended = command.Ended();
    // A child of its own may keep the pipe open; what the command had to say, it has said.
    if (ended.has_value() && open) {
      pollfd rest{from.get(), POLLIN, 0};
      if (poll(&rest, 1, 0) == 0) break;
    }
    if (!open && !ended.has_value()) SleepFor(std::chrono::milliseconds(2), stop);
  }
  if (*ended != 0) {
    return MakeError(Code::kUnauthenticated, "it ended with code " + std::to_string(*ended) + "; run it by hand");
  }
  return output;
}

}  // namespace

Result<ExecCredential> ParseExecCredential(std::string_view text, const std::string& api_version) {
  auto document = ParseJson(text);
  if (!document.has_value() || StringAt(*document, {"kind"}) != "ExecCredential") {
    return MakeError(Code::kInvalidArgument, "what it printed is no ExecCredential");
  }
  const std::string version = StringAt(*document, {"apiVersion"});
  if (version != api_version) {
    return MakeError(Code::kInvalidArgument,
                     "it speaks " + version.substr(0, 60) + " where kubeconfig says " + api_version);
  }
  ExecCredential credential;
  credential.token = StringAt(*document, {"status", "token"});
  credential.client_cert_pem = StringAt(*document, {"status", "clientCertificateData"});
  credential.client_key_pem = StringAt(*document, {"status", "clientKeyData"});
  if (credential.client_cert_pem.empty() != credential.client_key_pem.empty()) {
    return MakeError(Code::kInvalidArgument,
                     "it printed one of clientCertificateData and clientKeyData without the other");
  }
  if (credential.token.empty() && credential.client_cert_pem.empty()) {
    return MakeError(Code::kInvalidArgument, "it printed neither a token nor a certificate");
  }
  if (credential.token.find_first_of("\r\n") != std::string::npos) {
    return MakeError(Code::kInvalidArgument, "the token that it printed has line breaks");
  }
  const std::string expires = StringAt(*document, {"status", "expirationTimestamp"});
  if (!expires.empty()) {
    auto time = ParseTime(expires);
    if (!time.has_value()) return MakeError(Code::kInvalidArgument, "its expirationTimestamp is no RFC 3339 time");
    credential.expires = *time;
  }
  return credential;
}

Result<ExecCredential> RunExecPlugin(const ExecConfig& config, Deadline deadline, const std::stop_token& stop) {
  auto credential = [&]() -> Result<ExecCredential> {
    PGTIER_ASSIGN_OR_RETURN(const std::string output, Run(config, deadline, stop));
    return ParseExecCredential(output, config.api_version);
  }();
  if (!credential.has_value()) return credential.error().WithContext("kubeconfig's exec plugin " + config.command);
  return credential;
}

Result<std::pair<ExecCredential, int>> ExecSource::Get(Deadline deadline, const std::stop_token& stop) {
  std::lock_guard lock(mutex_);
  const bool expired =
      credential_.has_value() && credential_->expires.has_value() && clock_->Now() + kEarly >= *credential_->expires;
  if (!credential_.has_value() || expired) {
    PGTIER_ASSIGN_OR_RETURN(credential_, RunExecPlugin(config_, deadline, stop));
    ran_at_ = clock_->MonoNow();
    ++number_;
  }
  return std::pair(*credential_, number_);
}

void ExecSource::Drop(int number) {
  std::lock_guard lock(mutex_);
  if (number == number_ && clock_->MonoNow() - ran_at_ >= kBetweenRuns) credential_.reset();
}

}  // namespace pgtier::kube
