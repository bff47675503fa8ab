// A Service of Kubernetes over one pod, for local servers: takes connections at an address of its own and passes them
// on while the pod is ready; refuses new ones while it is not, and leaves those that it has alone.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace pgtier::testing {

class FakeService {
 public:
  // Listens at `address` (127.x.y.z) and passes on to `target`, both on `port`. `ready` is asked every `period`, as a
  // kubelet probes.
  FakeService(std::string address, std::string target, int port, std::chrono::milliseconds period,
              std::function<bool()> ready);
  ~FakeService();
  FakeService(const FakeService&) = delete;
  FakeService& operator=(const FakeService&) = delete;

  [[nodiscard]] bool taking() const { return taking_; }

 private:
  void Run(const std::stop_token& stop);

  std::string address_, target_;
  int port_;
  std::chrono::milliseconds period_;
  std::function<bool()> ready_;
  std::atomic<bool> taking_{false};
  std::jthread thread_;
};

}  // namespace pgtier::testing
