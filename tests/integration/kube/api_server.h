// A real etcd and kube-apiserver on loopback, for integration tests. Programs from $KUBEBUILDER_ASSETS, else
// ${PGTIER_CACHE:-$HOME/.cache/pgtier}/bin.
//
//   class MyTest : public test::ApiServerTest { … client(), NewNamespace() … };
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "lib/kube/client.h"
#include "tests/support/child_process.h"

namespace pgtier::test {

class ApiServer {
 public:
  // Why there can be no API server here; empty when there can.
  static std::string Missing();
  // The program's one instance, started at the first call (about 5 s), stopped when the program ends. Throws
  // std::runtime_error with the end of the server's log when it does not start.
  static ApiServer& Instance();

  ~ApiServer();
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  // A kubeconfig of an administrator with a client certificate in files.
  [[nodiscard]] std::string kubeconfig() const { return (directory_ / "kubeconfig").string(); }
  [[nodiscard]] std::string url() const;
  // The CA's file.
  [[nodiscard]] std::filesystem::path ca() const { return directory_ / "ca.crt"; }
  // A client of the administrator's.
  [[nodiscard]] std::unique_ptr<kube::Client> Connect(const kube::ClientOptions& options = {}) const;

  // Makes a namespace with a name of its own and gives the name.
  std::string NewNamespace();
  // Runs kubectl with these arguments; throws when it fails. For CRDs: {"apply", "-f", path}.
  void Kubectl(const std::vector<std::string>& arguments) const;

  // kill -9 of the kube-apiserver; etcd goes on.
  void Kill();
  // Starts it again on the same port and waits until it is ready.
  void Start();
  // Deletes an object behind the API server's back. `key` as "/registry/configmaps/<namespace>/<name>".
  void DeleteFromEtcd(const std::string& key) const;
  // Throws away all of etcd's history.
  void CompactEtcd() const;

 private:
  ApiServer();
  void MakeCertificates() const;
  void StartEtcd();
  void WaitUntilReady();
  std::string Etcd(const std::string& path, const std::string& body) const;

  std::filesystem::path directory_;
  uint16_t etcd_port_;
  uint16_t port_;
  int namespaces_ = 0;
  std::unique_ptr<ChildProcess> etcd_;
  std::unique_ptr<ChildProcess> server_;
};

// Skips, with the reason, where the programs are missing.
class ApiServerTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = ApiServer::Missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
    client_ = ApiServer::Instance().Connect();
    namespace_ = ApiServer::Instance().NewNamespace();
  }

  static ApiServer& server() { return ApiServer::Instance(); }
  [[nodiscard]] kube::Client* client() const { return client_.get(); }
  // A namespace of this test's own.
  [[nodiscard]] const std::string& namespace_name() const { return namespace_; }

 private:
  std::unique_ptr<kube::Client> client_;
  std::string namespace_;
};

}  // namespace pgtier::test
