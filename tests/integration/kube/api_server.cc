#include "tests/integration/kube/api_server.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "lib/http/client.h"
#include "lib/kube/config.h"
#include "lib/kube/json.h"

namespace pgtier::test {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::string Environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

fs::path Program(const std::string& name) {
  const fs::path cache = Environment("PGTIER_CACHE", Environment("HOME", "/root") + "/.cache/pgtier");
  return fs::path(Environment("KUBEBUILDER_ASSETS", (cache / "bin").string())) / name;
}

void Write(const fs::path& path, const std::string& content) { std::ofstream(path) << content; }

std::string Tail(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  return text.substr(text.size() - std::min<size_t>(text.size(), 3000));
}

void Run(const std::vector<std::string>& command, const fs::path& log) {
  if (ChildProcess(command, log).Wait() != 0) {
    throw std::runtime_error(command[0] + " " + command[1] + " failed: " + Tail(log));
  }
}

std::string Base64(const std::string& bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    unsigned group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (size_t j = 0; j < 4; ++j) text += i + j <= bytes.size() ? kAlphabet[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

}  // namespace

std::string ApiServer::Missing() {
  for (const char* name : {"etcd", "kube-apiserver", "kubectl"}) {
    if (access(Program(name).c_str(), X_OK) != 0) {
      return "no " + Program(name).string() + ": build it with testbed/programs.sh or set KUBEBUILDER_ASSETS";
    }
  }
  return access("/usr/bin/openssl", X_OK) == 0 ? "" : "no /usr/bin/openssl";
}

ApiServer& ApiServer::Instance() {
  static ApiServer instance;
  return instance;
}

ApiServer::ApiServer() : etcd_port_(FreePort()), port_(FreePort()) {
  // Its threads must outlive this static object, which uses them to the end.
  http::InitialiseThreads();
  std::string pattern = (fs::temp_directory_path() / "pgtier-apiserver-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary directory");
  directory_ = pattern;
  MakeCertificates();
  StartEtcd();
  Start();
}

ApiServer::~ApiServer() {
  server_.reset();
  etcd_.reset();
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

std::string ApiServer::url() const { return "https://127.0.0.1:" + std::to_string(port_); }

void ApiServer::MakeCertificates() const {
  auto path = [this](const std::string& name) { return (directory_ / name).string(); };
  auto openssl = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "/usr/bin/openssl");
    Run(arguments, directory_ / "openssl.log");
  };
  const std::vector<std::string> key = {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"};
  auto certificate = [&](const std::string& name, const std::string& subject, const std::string& extensions) {
    Write(path(name + ".ext"), extensions);
    std::vector<std::string> request = {
        "req", "-subj", subject, "-keyout", path(name + ".key"), "-out", path(name + ".csr")};
    request.insert(request.begin() + 1, key.begin(), key.end());
    openssl(request);
    openssl({"x509", "-req", "-in", path(name + ".csr"), "-CA", path("ca.crt"), "-CAkey", path("ca.key"),
             "-CAcreateserial", "-days", "2", "-extfile", path(name + ".ext"), "-out", path(name + ".crt")});
  };
  std::vector<std::string> ca = {"req",     "-x509",        "-subj", "/CN=pgtier-test-ca", "-days", "2",
                                 "-keyout", path("ca.key"), "-out",  path("ca.crt")};
  ca.insert(ca.begin() + 2, key.begin(), key.end());
  openssl(ca);
  certificate("server", "/CN=kube-apiserver", "subjectAltName=IP:127.0.0.1,DNS:localhost\n");
  certificate("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth\n");
  openssl({"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path("sa.key")});
  Write(directory_ / "tokens.csv", "nobody-token,nobody,1000\n");
  Write(directory_ / "kubeconfig",
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n"
        "contexts: [{name: test, context: {cluster: test, user: admin}}]\n"
        "clusters: [{name: test, cluster: {server: '" +
            url() +
            "', certificate-authority: ca.crt}}]\n"
            "users: [{name: admin, user: {client-certificate: admin.crt, client-key: "
            "admin.key}}]\n");
}

void ApiServer::StartEtcd() {
  const std::string etcd_url = "http://127.0.0.1:" + std::to_string(etcd_port_);
  etcd_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{Program("etcd").string(), "--data-dir=" + (directory_ / "etcd").string(),
                               "--listen-client-urls=" + etcd_url, "--advertise-client-urls=" + etcd_url,
                               "--listen-peer-urls=http://127.0.0.1:0", "--unsafe-no-fsync"},
      directory_ / "etcd.log");
}

void ApiServer::Start() {
  auto path = [this](const std::string& name) { return (directory_ / name).string(); };
  server_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{
          Program("kube-apiserver").string(), "--etcd-servers=http://127.0.0.1:" + std::to_string(etcd_port_),
          "--bind-address=127.0.0.1", "--secure-port=" + std::to_string(port_),
          "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
          "--tls-cert-file=" + path("server.crt"), "--tls-private-key-file=" + path("server.key"),
          "--client-ca-file=" + path("ca.crt"), "--token-auth-file=" + path("tokens.csv"),
          "--service-account-issuer=https://localhost", "--service-account-key-file=" + path("sa.key"),
          "--service-account-signing-key-file=" + path("sa.key"), "--authorization-mode=RBAC",
          // There is no controller that would make a namespace's service account.
          "--disable-admission-plugins=ServiceAccount"},
      directory_ / "apiserver.log");
  WaitUntilReady();
}

void ApiServer::WaitUntilReady() {
  auto client = Connect();
  const Deadline deadline = Deadline::After(seconds(90));
  while (!client->GetRaw("/readyz", Deadline::After(seconds(5))).has_value()) {
    if (deadline.Expired() || !server_->Running()) {
      throw std::runtime_error("kube-apiserver does not start: " + Tail(directory_ / "apiserver.log"));
    }
    std::this_thread::sleep_for(milliseconds(100));
  }
}

std::unique_ptr<kube::Client> ApiServer::Connect(const kube::ClientOptions& options) const {
  auto config = kube::LoadConfig(kubeconfig());
  if (!config.has_value()) throw std::runtime_error(config.error().message);
  auto client = kube::Client::Connect(*config, options);
  if (!client.has_value()) throw std::runtime_error(client.error().message);
  return *std::move(client);
}

std::string ApiServer::NewNamespace() {
  const std::string name = "test-" + std::to_string(++namespaces_);
  auto made = Connect()->Create(kube::kNamespaces, {{"metadata", {{"name", name}}}}, Deadline::After(seconds(10)));
  if (!made.has_value()) throw std::runtime_error(made.error().message);
  return name;
}

void ApiServer::Kubectl(const std::vector<std::string>& arguments) const {
  std::vector<std::string> command = {Program("kubectl").string(), "--kubeconfig=" + kubeconfig()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Run(command, directory_ / "kubectl.log");
}

void ApiServer::Kill() { server_->Stop(SIGKILL); }

std::string ApiServer::Etcd(const std::string& path, const std::string& body) const {
  http::ClientOptions options;
  options.base_url = "http://127.0.0.1:" + std::to_string(etcd_port_);
  auto client = http::Client::Create(options);
  if (!client.has_value()) throw std::runtime_error(client.error().message);
  http::Request request;
  request.method = "POST";
  request.path_and_query = path;
  request.body = body;
  request.content_type = "application/json";
  auto response = (*client)->Send(request, Deadline::After(seconds(10)), {});
  if (!response.has_value()) throw std::runtime_error(response.error().message);
  if (response->status != 200) throw std::runtime_error("etcd: " + response->body);
  return response->body;
}

void ApiServer::DeleteFromEtcd(const std::string& key) const {
  Etcd("/v3/kv/deleterange", R"({"key":")" + Base64(key) + R"("})");
}

void ApiServer::CompactEtcd() const {
  const auto range = kube::ParseJson(Etcd("/v3/kv/range", R"({"key":")" + Base64("/") + R"("})"));
  const std::string revision = kube::StringAt(*range, {"header", "revision"});
  Etcd("/v3/kv/compaction", R"({"revision":")" + revision + R"(","physical":true})");
}

}  // namespace pgtier::test
