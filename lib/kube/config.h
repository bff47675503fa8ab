// How to reach the API server and as whom: kubeconfig files and a pod's own service account.
#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/http/client.h"
#include "lib/kube/exec_plugin.h"

namespace pgtier::kube {

struct Config {
  std::string server;              // https://host:port[/prefix]
  std::string namespace_;          // the context's, or the pod's own; "default" when none is given
  http::TlsOptions tls;            // contents as of loading
  std::string token;               // a fixed bearer token, or empty
  std::string token_file;          // a token that is rotated in place; takes precedence over `token`
  std::string ca_file;             // where tls.ca_pem came from, when it may be rotated in place
  std::string cert_file;           // likewise the client's certificate
  std::string key_file;            // and its key
  std::string tls_server_name;     // what the server's certificate must name, where not the host of `server`
  std::optional<ExecConfig> exec;  // a command that prints credentials; takes the place of the token
};

// The first of these that exists: `explicit_path` (of --kubeconfig; when given it must exist), $KUBECONFIG (a list
// of files with colons, the first that names a thing wins, as kubectl has it), the pod's service account,
// ~/.kube/config.
// Errors: kNotFound: none of them; kInvalidArgument: unreadable, or wants what is never done (skipping TLS
// verification), or has no context `context`; kUnimplemented: exec plugins that must ask a person, auth
// providers, passwords (which Kubernetes itself has given up), impersonation, proxies. `context` empty: the current
// one; given, a pod's service account is not considered.
Result<Config> LoadConfig(const std::string& explicit_path, const std::string& context = "");

// One kubeconfig file's text; relative paths in it start from `directory`. Errors as LoadConfig.
Result<Config> ParseKubeconfig(std::string_view yaml, const std::filesystem::path& directory);

// The service account mounted into this pod, with KUBERNETES_SERVICE_HOST and _PORT from the environment.
// Errors: kNotFound: not in a pod.
Result<Config> InClusterConfig(
    const std::filesystem::path& directory = "/var/run/secrets/kubernetes.io/serviceaccount");

// A file's content. Errors: kNotFound, kUnavailable.
Result<std::string> ReadFile(const std::filesystem::path& path);

// A bearer token that may be rotated in its file. Thread-safe.
class TokenSource {
 public:
  // `file` may be empty: `fixed` is then the token for ever. The clock outlives this.
  TokenSource(std::string fixed, std::string file, const Clock* clock);

  // The token, read again when it was read more than a minute ago (as client-go); kept when the file can't be read.
  std::string Get();
  // The server refused it (401): the next Get reads the file.
  void Drop();

 private:
  const std::string file_;
  const Clock* const clock_;
  std::mutex mutex_;
  std::string token_;
  MonoTime read_at_{};
  bool stale_ = true;
};

}  // namespace pgtier::kube
