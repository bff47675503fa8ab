#include "lib/kube/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/fake/manual_clock.h"

namespace pgtier::kube {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

void WriteFile(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << content;
}

std::string Kubeconfig(const std::string& cluster, const std::string& user, const std::string& context = "") {
  return "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
         "contexts:\n- name: other\n  context: {cluster: x, user: y}\n"
         "- name: c\n  context: {cluster: k, user: u" +
         context + "}\nclusters:\n- name: k\n  cluster: {" + cluster + "}\nusers:\n- name: u\n  user: {" + user + "}\n";
}

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    std::string pattern = (fs::temp_directory_path() / "pgtier-config-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    for (const char* name : {"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}) unsetenv(name);
    setenv("HOME", directory_.c_str(), 1);
  }
  ~ConfigTest() override { fs::remove_all(directory_); }

  fs::path directory_;
};

TEST_F(ConfigTest, InlineAndFromFiles) {
  WriteFile(directory_ / "pki/ca.pem", "the ca");
  auto config = ParseKubeconfig(
      Kubeconfig("server: 'https://10.0.0.1:6443', certificate-authority: pki/ca.pem",
                 "client-certificate-data: Y2VydA==, client-key-data: a2V5, token: t0", ", namespace: shop"),
      directory_);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->server, "https://10.0.0.1:6443");
  EXPECT_EQ(config->namespace_, "shop");
  EXPECT_EQ(config->tls.ca_pem, "the ca");
  EXPECT_EQ(config->ca_file, (directory_ / "pki/ca.pem").string());
  EXPECT_EQ(config->tls.client_cert_pem, "cert");
  EXPECT_EQ(config->tls.client_key_pem, "key");
  EXPECT_EQ(config->token, "t0");
  EXPECT_EQ(config->cert_file, "");
}

TEST_F(ConfigTest, AnExecPlugin) {
  auto config = ParseKubeconfig(
      Kubeconfig("server: 'https://x', tls-server-name: y, certificate-authority-data: Y2E=",
                 "exec: {command: bin/aws, apiVersion: client.authentication.k8s.io/v1beta1, args: [get-token, 3], "
                 "env: [{name: PROFILE, value: p}], provideClusterInfo: true, installHint: 'get it'}"),
      directory_);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->tls_server_name, "y");
  ASSERT_TRUE(config->exec.has_value());
  EXPECT_EQ(config->exec->command, (directory_ / "bin/aws").string());
  EXPECT_THAT(config->exec->args, testing::ElementsAre("get-token", "3"));
  EXPECT_THAT(config->exec->env, testing::ElementsAre(std::pair<std::string, std::string>("PROFILE", "p")));
  EXPECT_EQ(config->exec->install_hint, "get it");
  EXPECT_EQ(nlohmann::json::parse(config->exec->exec_info),
            nlohmann::json::parse(R"({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1",
                "spec": {"interactive": false, "cluster": {"server": "https://x", "tls-server-name": "y",
                         "certificate-authority-data": "Y2E="}}})"));
}

TEST_F(ConfigTest, WhatIsNotDoneIsSaidByName) {
  struct Case {
    std::string cluster, user, message;
    Code code;
  };
  const std::string server = "server: 'https://x'";
  for (const auto& [cluster, user, message, code] : std::vector<Case>{
           {server, "exec: {command: aws, interactiveMode: Always, apiVersion: client.authentication.k8s.io/v1}", "aws",
            Code::kUnimplemented},
           {server, "exec: {command: aws, apiVersion: client.authentication.k8s.io/v1}", "interactiveMode",
            Code::kInvalidArgument},
           {server, "exec: {command: aws, apiVersion: client.authentication.k8s.io/v1alpha1}", "v1alpha1",
            Code::kInvalidArgument},
           {server, "exec: {apiVersion: client.authentication.k8s.io/v1}", "no command", Code::kInvalidArgument},
           {server, "exec: 3", "exec", Code::kInvalidArgument},
           {server, "exec: {command: a, apiVersion: client.authentication.k8s.io/v1beta1, args: [{}]}", "args",
            Code::kInvalidArgument},
           {server, "password: hunter2", "password", Code::kUnimplemented},
           {server, "auth-provider: {name: gcp}", "auth-provider", Code::kUnimplemented},
           {server, "username: admin, password: hunter2", "username", Code::kUnimplemented},
           {server + ", insecure-skip-tls-verify: true", "", "insecure-skip-tls-verify", Code::kInvalidArgument},
           {server + ", proxy-url: 'http://p'", "", "proxy-url", Code::kUnimplemented},
           {server + ", certificate-authority: absent.pem", "", "absent.pem", Code::kInvalidArgument},
           {server + ", certificate-authority-data: '!!'", "", "base64", Code::kInvalidArgument},
           {"namespace: x", "", "no server", Code::kInvalidArgument}}) {
    auto config = ParseKubeconfig(Kubeconfig(cluster, user), directory_);
    ASSERT_FALSE(config.has_value()) << message;
    EXPECT_EQ(config.error().code, code) << message;
    EXPECT_THAT(config.error().message, HasSubstr(message));
    EXPECT_THAT(config.error().message, testing::Not(HasSubstr("hunter2")));
  }
}

TEST_F(ConfigTest, AnyTextIsAnErrorRatherThanACrash) {
  for (const char* text :
       {"", "a", "[1]", "{", "current-context: c", "current-context: c\ncontexts: 3", "current-context: [c]",
        "current-context: c\ncontexts: [3]", "current-context: c\ncontexts: [{name: c}]", "\t- :\n", "a: &a [*a]"}) {
    EXPECT_EQ(ParseKubeconfig(text, directory_).error().code, Code::kInvalidArgument) << text;
  }
}

TEST_F(ConfigTest, TheOrderOfThePlaces) {
  EXPECT_EQ(LoadConfig("").error().code, Code::kNotFound);
  WriteFile(directory_ / ".kube/config", Kubeconfig("server: 'https://home'", ""));
  EXPECT_EQ(LoadConfig("")->server, "https://home");
  WriteFile(directory_ / "env", Kubeconfig("server: 'https://env'", ""));
  setenv("KUBECONFIG", ("/nonexistent:" + (directory_ / "env").string()).c_str(), 1);
  EXPECT_EQ(LoadConfig("")->server, "https://env");
  WriteFile(directory_ / "flag", Kubeconfig("server: 'https://flag'", ""));
  EXPECT_EQ(LoadConfig((directory_ / "flag").string())->server, "https://flag");
  EXPECT_EQ(LoadConfig((directory_ / "absent").string()).error().code, Code::kNotFound);
}

TEST_F(ConfigTest, SeveralFilesAreOne) {
  WriteFile(directory_ / "one/a", "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]");
  WriteFile(directory_ / "two/b",
            "current-context: z\nclusters: [{name: k, cluster: {server: 'https://b'}}]\n"
            "users: [{name: u, user: {tokenFile: token}}]");
  setenv("KUBECONFIG", ((directory_ / "one/a").string() + ":" + (directory_ / "two/b").string()).c_str(), 1);
  auto config = LoadConfig("");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->server, "https://b");
  EXPECT_EQ(config->token_file, (directory_ / "two/token").string());
}

TEST_F(ConfigTest, InAPod) {
  EXPECT_EQ(InClusterConfig(directory_).error().code, Code::kNotFound);
  WriteFile(directory_ / "token", "t");
  WriteFile(directory_ / "ca.crt", "ca");
  WriteFile(directory_ / "namespace", "shop");
  setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1", 1);
  setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  auto config = InClusterConfig(directory_);
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->server, "https://10.96.0.1:443");
  EXPECT_EQ(config->namespace_, "shop");
  EXPECT_EQ(config->tls.ca_pem, "ca");
  setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  EXPECT_EQ(InClusterConfig(directory_)->server, "https://kubernetes.default.svc:443");
}

TEST_F(ConfigTest, ATokenIsReadAgainKeptAndDropped) {
  fake::ManualClock clock;
  const fs::path file = directory_ / "token";
  TokenSource source("", file.string(), &clock);
  EXPECT_EQ(source.Get(), "");
  WriteFile(file, "one\n");
  EXPECT_EQ(source.Get(), "one");
  WriteFile(file, "two");
  clock.Advance(std::chrono::seconds(59));
  EXPECT_EQ(source.Get(), "one");
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(source.Get(), "two");
  WriteFile(file, "three");
  source.Drop();
  EXPECT_EQ(source.Get(), "three");
  fs::remove(file);
  source.Drop();
  EXPECT_EQ(source.Get(), "three") << "a file that can't be read is no reason to forget";
}

}  // namespace
}  // namespace pgtier::kube
