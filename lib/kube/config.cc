#include "lib/kube/config.h"

#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "lib/base/base64.h"
#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

namespace fs = std::filesystem;

struct File {
  YAML::Node root;
  fs::path directory;
};

std::string Text(const YAML::Node& node, const char* name) {
  const YAML::Node child = node[name];
  return child && child.IsScalar() ? child.Scalar() : std::string();
}

struct Named {
  YAML::Node node;
  fs::path directory;
};

// The entry called `name` of `list` ("clusters") in the first file that has one, and in it the member `member`.
Result<Named> Find(const std::vector<File>& files, const char* list, const char* member, const std::string& name) {
  for (const File& file : files) {
    const YAML::Node entries = file.root[list];
    if (!entries || !entries.IsSequence()) continue;
    for (const auto& entry : entries) {
      if (entry.IsMap() && Text(entry, "name") == name && entry[member] && entry[member].IsMap()) {
        return Named{entry[member], file.directory};
      }
    }
  }
  return MakeError(Code::kInvalidArgument, "kubeconfig: no \"" + name + "\" among its " + list);
}

// The content under `name`-data (base64) or in the file under `name`, whose path goes to `path`; empty when neither.
Result<std::string> DataOrFile(const Named& from, const std::string& name, std::string* path) {
  const std::string data = Text(from.node, (name + "-data").c_str());
  if (!data.empty()) {
    auto decoded = DecodeBase64(data);
    if (!decoded.has_value()) return decoded.error().WithContext("kubeconfig: " + name + "-data");
    return *std::move(decoded);
  }
  const std::string file = Text(from.node, name.c_str());
  if (file.empty()) return std::string();
  const fs::path full = from.directory / file;  // an absolute file stays as it is
  auto content = ReadFile(full);
  if (!content.has_value()) return MakeError(Code::kInvalidArgument, "kubeconfig: " + content.error().message);
  *path = full.string();
  return *std::move(content);
}

Status FillCluster(const Named& cluster, Config* config) {
  config->server = Text(cluster.node, "server");
  if (config->server.empty()) return MakeError(Code::kInvalidArgument, "kubeconfig: the cluster has no server");
  if (Text(cluster.node, "insecure-skip-tls-verify") == "true") {
    return MakeError(Code::kInvalidArgument,
                     "kubeconfig: insecure-skip-tls-verify is never done; give certificate-authority");
  }
  if (!Text(cluster.node, "proxy-url").empty()) {
    return MakeError(Code::kUnimplemented, "kubeconfig: proxy-url is not supported");
  }
  config->tls_server_name = Text(cluster.node, "tls-server-name");
  PGTIER_ASSIGN_OR_RETURN(config->tls.ca_pem, DataOrFile(cluster, "certificate-authority", &config->ca_file));
  return {};
}

// What the command is told of the cluster, where kubeconfig wants it to be.
std::string ExecInfo(const ExecConfig& exec, bool with_cluster, const Config& config) {
  nlohmann::json info{{"apiVersion", exec.api_version}, {"kind", "ExecCredential"}, {"spec", {{"interactive", false}}}};
  if (with_cluster) {
    nlohmann::json cluster{{"server", config.server}};
    if (!config.tls_server_name.empty()) cluster["tls-server-name"] = config.tls_server_name;
    if (!config.tls.ca_pem.empty()) cluster["certificate-authority-data"] = EncodeBase64(config.tls.ca_pem);
    info["spec"]["cluster"] = std::move(cluster);
  }
  return DumpJson(info);
}

// Refuses what client-go refuses, and what would need a person: nobody sits before an operator.
Status FillExec(const YAML::Node& node, const fs::path& directory, Config* config) {
  auto bad = [](const std::string& what) { return MakeError(Code::kInvalidArgument, "kubeconfig: exec: " + what); };
  if (!node.IsMap()) return bad("not a mapping");
  ExecConfig exec;
  exec.command = Text(node, "command");
  if (exec.command.empty()) return bad("no command");
  // With a slash it is relative to the file, without one it is looked for in PATH.
  if (exec.command.find('/') != std::string::npos) exec.command = (directory / exec.command).string();
  exec.api_version = Text(node, "apiVersion");
  const std::string group = "client.authentication.k8s.io/";
  if (exec.api_version != group + "v1" && exec.api_version != group + "v1beta1") {
    return bad("apiVersion is \"" + exec.api_version + "\"; " + group + "v1 and v1beta1 are known");
  }
  const std::string mode = Text(node, "interactiveMode");
  if (mode == "Always") {
    return MakeError(Code::kUnimplemented, "kubeconfig: exec: interactiveMode Always (" + exec.command +
                                               " wants to ask a person) is not supported");
  }
  if (mode.empty() ? exec.api_version == group + "v1" : mode != "Never" && mode != "IfAvailable") {
    return bad("interactiveMode must be Never, IfAvailable or Always");
  }
  exec.install_hint = Text(node, "installHint");
  for (const auto& argument : node["args"] ? node["args"] : YAML::Node(YAML::NodeType::Sequence)) {
    if (!argument.IsScalar()) return bad("args must be texts");
    exec.args.push_back(argument.Scalar());
  }
  for (const auto& variable : node["env"] ? node["env"] : YAML::Node(YAML::NodeType::Sequence)) {
    if (!variable.IsMap() || Text(variable, "name").empty()) return bad("env must be names and values");
    exec.env.emplace_back(Text(variable, "name"), Text(variable, "value"));
  }
  exec.exec_info = ExecInfo(exec, Text(node, "provideClusterInfo") == "true", *config);
  config->exec = std::move(exec);
  return {};
}

Status FillUser(const Named& user, Config* config) {
  if (const YAML::Node exec = user.node["exec"]) PGTIER_RETURN_IF_ERROR(FillExec(exec, user.directory, config));
  for (const char* name : {"auth-provider", "as"}) {
    if (user.node[name]) {
      return MakeError(Code::kUnimplemented, std::string("kubeconfig: the user's ") + name + " is not supported");
    }
  }
  for (const char* name : {"username", "password"}) {
    if (user.node[name]) {
      return MakeError(Code::kUnimplemented, std::string("kubeconfig: the user's ") + name +
                                                 " is not supported: Kubernetes has taken no passwords since 1.19");
    }
  }
  PGTIER_ASSIGN_OR_RETURN(config->tls.client_cert_pem, DataOrFile(user, "client-certificate", &config->cert_file));
  PGTIER_ASSIGN_OR_RETURN(config->tls.client_key_pem, DataOrFile(user, "client-key", &config->key_file));
  config->token = Text(user.node, "token");
  const std::string token_file = Text(user.node, "tokenFile");
  if (!token_file.empty()) config->token_file = (user.directory / token_file).string();
  return {};
}

Result<Config> Assemble(const std::vector<File>& files, const std::string& chosen) {
  std::string current = chosen;
  for (const File& file : files) {
    if (current.empty()) current = Text(file.root, "current-context");
  }
  if (current.empty()) return MakeError(Code::kInvalidArgument, "kubeconfig: no current-context");
  PGTIER_ASSIGN_OR_RETURN(const Named context, Find(files, "contexts", "context", current));
  PGTIER_ASSIGN_OR_RETURN(const Named cluster, Find(files, "clusters", "cluster", Text(context.node, "cluster")));
  Config config;
  config.namespace_ = Text(context.node, "namespace");
  if (config.namespace_.empty()) config.namespace_ = "default";
  PGTIER_RETURN_IF_ERROR(FillCluster(cluster, &config));
  const std::string user_name = Text(context.node, "user");
  if (!user_name.empty()) {
    PGTIER_ASSIGN_OR_RETURN(const Named user, Find(files, "users", "user", user_name));
    PGTIER_RETURN_IF_ERROR(FillUser(user, &config));
  }
  return config;
}

Result<File> Parse(std::string_view yaml, const fs::path& directory) {
  File file{YAML::Load(std::string(yaml)), directory};
  if (!file.root.IsMap()) return MakeError(Code::kInvalidArgument, "kubeconfig: not a YAML mapping");
  return file;
}

Result<Config> FromFiles(const std::vector<fs::path>& paths, const std::string& context) {
  try {
    std::vector<File> files;
    for (const fs::path& path : paths) {
      PGTIER_ASSIGN_OR_RETURN(const std::string content, ReadFile(path));
      auto file = Parse(content, path.parent_path());
      if (!file.has_value()) return file.error().WithContext(path.string());
      files.push_back(*std::move(file));
    }
    return Assemble(files, context);
  } catch (const YAML::Exception& error) {
    return MakeError(Code::kInvalidArgument, std::string("kubeconfig: ") + error.what());
  }
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing of ours calls setenv
  return value == nullptr ? std::string() : std::string(value);
}

// Those files of a list with colons that exist: kubectl, too, passes over the others.
std::vector<fs::path> ExistingFiles(const std::string& list) {
  std::vector<fs::path> paths;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(':', begin), list.size());
    const fs::path path = list.substr(begin, end - begin);
    std::error_code ignored;
    if (!path.empty() && fs::exists(path, ignored)) paths.push_back(path);
    begin = end + 1;
  }
  return paths;
}

}  // namespace

Result<Config> ParseKubeconfig(std::string_view yaml, const std::filesystem::path& directory) {
  try {
    PGTIER_ASSIGN_OR_RETURN(File file, Parse(yaml, directory));
    return Assemble({file}, "");
  } catch (const YAML::Exception& error) {
    return MakeError(Code::kInvalidArgument, std::string("kubeconfig: ") + error.what());
  }
}

Result<Config> InClusterConfig(const std::filesystem::path& directory) {
  std::string host = Environment("KUBERNETES_SERVICE_HOST");
  const std::string port = Environment("KUBERNETES_SERVICE_PORT");
  std::error_code ignored;
  if (host.empty() || port.empty() || !fs::exists(directory / "token", ignored)) {
    return MakeError(Code::kNotFound, "not in a pod with a service account");
  }
  // The HTTP library can't resolve IPv6 literals; the API server's certificate has this name in every cluster.
  if (host.find(':') != std::string::npos) host = "kubernetes.default.svc";
  Config config;
  config.server = "https://" + host + ":" + port;
  config.token_file = (directory / "token").string();
  config.ca_file = (directory / "ca.crt").string();
  PGTIER_ASSIGN_OR_RETURN(config.tls.ca_pem, ReadFile(config.ca_file));
  auto namespace_name = ReadFile(directory / "namespace");
  config.namespace_ = namespace_name.has_value() ? *namespace_name : "default";
  return config;
}

Result<Config> LoadConfig(const std::string& explicit_path, const std::string& context) {
  if (!explicit_path.empty()) return FromFiles({explicit_path}, context);
  const auto from_environment = ExistingFiles(Environment("KUBECONFIG"));
  if (!from_environment.empty()) return FromFiles(from_environment, context);
  if (context.empty()) {
    auto in_cluster = InClusterConfig();
    if (in_cluster.has_value() || in_cluster.error().code != Code::kNotFound) return in_cluster;
  }
  const auto at_home = ExistingFiles(Environment("HOME") + "/.kube/config");
  if (!at_home.empty()) return FromFiles(at_home, context);
  return MakeError(Code::kNotFound,
                   "no way to the API server: no --kubeconfig, KUBECONFIG, service account or ~/.kube/config");
}

}  // namespace pgtier::kube
