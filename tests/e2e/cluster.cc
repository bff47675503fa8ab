#include "tests/e2e/cluster.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <thread>

#include "lib/base/random.h"
#include "tests/support/yaml.h"

namespace pgtier::e2e {
namespace {

struct Output {
  std::string text;
  int exit_code = 0;
};

// Runs a program with `input`; its standard output and error together.
Output Run(const std::vector<std::string>& command, const std::string& input) {
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  if (pipe2(in.data(), O_CLOEXEC) != 0 || pipe2(out.data(), O_CLOEXEC) != 0) return {"pipe failed", 127};
  // Before the fork, for there may be other threads: the child must not allocate.
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t child = fork();
  if (child == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(out[1], STDERR_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  for (size_t done = 0; done < input.size();) {
    ssize_t written = write(in[1], input.data() + done, input.size() - done);
    if (written <= 0) break;
    done += static_cast<size_t>(written);
  }
  close(in[1]);
  Output output;
  std::array<char, 4096> buffer{};
  ssize_t got = 0;
  while ((got = read(out[0], buffer.data(), buffer.size())) > 0) {
    output.text.append(buffer.data(), static_cast<size_t>(got));
  }
  close(out[0]);
  int status = 0;
  waitpid(child, &status, 0);
  output.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return output;
}

std::string Trimmed(std::string text) {
  text.erase(text.find_last_not_of(" \n\r") + 1);
  return text;
}

// Set by the test that runs, for what Eventually prints.
std::string current_namespace;

}  // namespace

std::string Kubectl(const std::vector<std::string>& arguments, const std::string& input, bool may_fail) {
  std::vector<std::string> command = {"kubectl"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Output output = Run(command, input);
  if (output.exit_code == 0) return Trimmed(output.text);
  if (!may_fail) {
    std::string words;
    for (const std::string& word : command) words += word + " ";
    ADD_FAILURE() << words << "ended with " << output.exit_code << ": " << output.text;
  }
  return "";
}

Json KubectlJson(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"-o", "json"});
  Json answer = Json::parse(Kubectl(arguments, "", true), nullptr, false);
  return answer.is_discarded() ? Json::object() : answer;
}

bool Eventually(const std::string& what, Duration timeout, const std::function<bool()>& holds) {
  Deadline deadline = Deadline::After(timeout);
  while (!deadline.Expired()) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
  }
  ADD_FAILURE() << "did not come to pass: " << what << "\n"
                << Kubectl({"get", "scaletiers,pods", "-n", current_namespace, "-o", "wide"}, "", true) << "\n"
                << Kubectl({"get", "scaletiers", "-n", current_namespace, "-o", "jsonpath={.items[*].status}"}, "",
                           true);
  return false;
}

void ClusterTest::SetUp() {
  if (std::getenv("PGTIER_E2E") == nullptr) {
    GTEST_SKIP() << "set PGTIER_E2E=1 and KUBECONFIG to a cluster with pgtier installed; `make e2e` does both";
  }
  namespace_ = "e2e-";
  for (char c : RandomToken(8).value_or("namespace")) namespace_ += static_cast<char>(std::tolower(c));
  current_namespace = namespace_;
  Kubectl({"create", "namespace", namespace_});
}

void ClusterTest::TearDown() {
  if (namespace_.empty()) return;
  if (HasFailure()) {
    std::printf(
        "%s\n",
        Kubectl({"logs", "-n", "pgtier-system", "-l", "app.kubernetes.io/name=pgtier", "--tail=60"}, "", true).c_str());
  }
  Kubectl({"delete", "scaletiers", "--all", "-n", namespace_, "--wait=false"}, "", true);
  Kubectl({"delete", "namespace", namespace_, "--wait=false"}, "", true);
}

void ClusterTest::Apply(Json object) {
  object["metadata"]["namespace"] = namespace_;
  Kubectl({"apply", "-f", "-"}, object.dump());
}

void ClusterTest::Patch(const std::string& kind_and_name, const Json& merge_patch) {
  Kubectl({"patch", "-n", namespace_, kind_and_name, "--type=merge", "-p", merge_patch.dump()});
}

Json ClusterTest::SmallPolicy(const std::string& name, const Json& enter_when) const {
  Json managed{
      {"database", "app"},
      {"storage", {{"size", "1Gi"}}},
      {"resources",
       {{"requests", {{"cpu", "50m"}, {"memory", "128Mi"}}}, {"limits", {{"cpu", "500m"}, {"memory", "512Mi"}}}}},
      {"extensions", Json::array({"timescaledb", "vector"})}};
  Json pooler{
      {"instances", 1}, {"maxClientConn", 200}, {"defaultPoolSize", 10}, {"minPoolSize", 0}, {"reservePoolSize", 2}};
  return {{"apiVersion", "pgtier.dev/v1alpha1"},
          {"kind", "ScaleTierPolicy"},
          {"metadata", {{"name", name}}},
          {"spec",
           {{"postgres", {{"managed", managed}}},
            {"metrics", {{"interval", "2s"}, {"prometheus", {{"url", "http://prometheus.monitoring:9090"}}}}},
            {"pooler", pooler},
            {"tiers", Json::array({{{"name", "low"}},
                                   {{"name", "high"}, {"enterWhen", enter_when}, {"readReplicas", {{"min", 1}}}}})},
            {"deletionPolicy", "Remove"}}}};
}

Json ClusterTest::Policy(const std::string& name) {
  return KubectlJson({"get", "-n", namespace_, "scaletier/" + name});
}

std::string ClusterTest::Field(const std::string& name, const std::string& json_pointer) {
  Json policy = Policy(name);
  Json::json_pointer pointer(json_pointer);
  if (!policy.contains(pointer)) return "";
  const Json& value = policy[pointer];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string ClusterTest::Condition(const std::string& name, const std::string& type) {
  Json policy = Policy(name);
  for (const Json& condition : policy.value(Json::json_pointer("/status/conditions"), Json::array())) {
    if (condition.value("type", "") != type) continue;
    return condition.value("status", "") + " (" + condition.value("reason", "") +
           "): " + condition.value("message", "");
  }
  return "";
}

bool ClusterTest::WaitForCondition(const std::string& name, const std::string& type, const std::string& starts_with,
                                   Duration timeout) {
  return Eventually(name + ": condition " + type + " begins with " + starts_with, timeout,
                    [&] { return Condition(name, type).starts_with(starts_with); });
}

bool ClusterTest::WaitForTier(const std::string& name, const std::string& tier, Duration timeout) {
  return Eventually(name + " is in tier " + tier, timeout, [&] { return Field(name, "/status/tier") == tier; });
}

std::string ClusterTest::Query(const std::string& policy, const std::string& service, const std::string& sql) {
  std::string password = Kubectl(
      {"get", "secret", "-n", namespace_, policy + "-app", "-o", "go-template={{.data.password | base64decode}}"});
  return Kubectl({"exec", "-i", "-n", namespace_, policy + "-1-0", "--", "sh", "-c",
                  "read -r PGPASSWORD; export PGPASSWORD PGCONNECT_TIMEOUT=10; exec psql -h " + service +
                      " -U app app -XAtc \"" + sql + "\""},
                 password + "\n");
}

std::string ClusterTest::QueryInside(const std::string& instance, const std::string& sql) {
  return Kubectl({"exec", "-n", namespace_, instance + "-0", "--", "psql", "-h", "/run/postgresql", "-U", "postgres",
                  "app", "-XAtc", sql});
}

void ClusterTest::StartLoad(const std::string& policy, const std::vector<std::string>& arguments) {
  Json pod = tests::LoadYaml("manifests/demo/load.yaml");
  Json& args = pod["spec"]["containers"][0]["args"];
  // A flag that is given again takes the place of the demo's.
  std::map<std::string, std::string> flags;
  auto set = [&](const std::string& flag) { flags[flag.substr(0, flag.find('='))] = flag; };
  for (const Json& flag : args) set(flag);
  set("--write-host=" + policy + "-rw");
  set("--read-host=" + policy + "-ro");
  set("--database=app");
  set("--user=app");
  for (const std::string& flag : arguments) set(flag);
  args = Json::array();
  for (const auto& [name, flag] : flags) args.push_back(flag);
  pod["spec"]["volumes"][0]["secret"]["secretName"] = policy + "-app";
  Apply(pod);
  Kubectl({"wait", "-n", namespace_, "pod/kyoyu-load", "--for=condition=Ready", "--timeout=60s"});
  Eventually("the load runs queries", std::chrono::seconds(90), [&] {
    return Kubectl({"logs", "-n", namespace_, "kyoyu-load", "--tail=1"}, "", true).find("\"qps\"") != std::string::npos;
  });
}

Json ClusterTest::StopLoad() {
  // SIGTERM to the program; its pod stays until the log is read.
  Kubectl({"exec", "-n", namespace_, "kyoyu-load", "--", "sh", "-c", "kill -TERM 1"}, "", true);
  Json summary = Json::object();
  Eventually("the load's summary", std::chrono::seconds(60), [&] {
    std::string line = Kubectl({"logs", "-n", namespace_, "kyoyu-load", "--tail=1"}, "", true);
    Json parsed = Json::parse(line, nullptr, false);
    if (!parsed.is_object() || !parsed.contains("summary")) return false;
    summary = parsed;
    return true;
  });
  return summary;
}

}  // namespace pgtier::e2e
