// Credentials from a command that kubeconfig names: aws, gke-gcloud-auth-plugin, kubelogin and others
// (client.authentication.k8s.io/v1 and v1beta1; kubernetes.io, "client-go credential plugins").
#pragma once

#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::kube {

// `exec` of a kubeconfig's user.
struct ExecConfig {
  std::string command;  // a path, or a name that is looked for in PATH
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> env;  // on top of our own
  std::string api_version;                               // client.authentication.k8s.io/v1 or v1beta1
  std::string install_hint;                              // shown when there is no such command
  // The JSON that the command finds in KUBERNETES_EXEC_INFO.
  std::string exec_info;

  bool operator==(const ExecConfig&) const = default;
};

// What such a command has printed. Holds secrets.
struct ExecCredential {
  std::string token;
  std::string client_cert_pem;
  std::string client_key_pem;
  std::optional<WallTime> expires;  // nothing: as long as the server takes it
};

// Errors: kInvalidArgument: no ExecCredential of that version, or one without credentials. The text stays out of the
// message.
Result<ExecCredential> ParseExecCredential(std::string_view text, const std::string& api_version);

// Runs the command with an empty standard input; its standard error is ours. Errors: kNotFound: no such command;
// kUnauthenticated: it ended with another code than 0; kDeadlineExceeded, kCancelled: it was killed;
// kInvalidArgument: what it printed is no credential.
Result<ExecCredential> RunExecPlugin(const ExecConfig& config, Deadline deadline, const std::stop_token& stop);

// The credential of a command, run again when it has expired or was refused. Thread-safe.
class ExecSource {
 public:
  // The clock outlives this.
  ExecSource(ExecConfig config, const Clock* clock) : config_(std::move(config)), clock_(clock) {}

  // The credential and a number that changes with it. Errors: those of RunExecPlugin.
  Result<std::pair<ExecCredential, int>> Get(Deadline deadline, const std::stop_token& stop);
  // The server refused credential number `number` (401): the next Get runs the command, unless it was run meanwhile.
  void Drop(int number);

 private:
  const ExecConfig config_;
  const Clock* const clock_;
  std::mutex mutex_;
  std::optional<ExecCredential> credential_;
  int number_ = 0;
  MonoTime ran_at_{};
};

}  // namespace pgtier::kube
