// A TCP proxy on loopback that can be told to be slow, or to stand still: what a far or an overloaded API server is to
// its clients.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "tests/fake/loopback.h"

namespace pgtier::test {

class SlowProxy {
 public:
  // Leads to that port of 127.0.0.1.
  explicit SlowProxy(uint16_t target);
  ~SlowProxy();
  SlowProxy(const SlowProxy&) = delete;
  SlowProxy& operator=(const SlowProxy&) = delete;

  [[nodiscard]] uint16_t port() const { return listener_.port(); }
  // Each piece that comes from the server arrives so much later.
  void SetDelay(std::chrono::milliseconds delay) { delay_ms_ = delay.count(); }
  // Nothing passes any more, either way; connections stay. What came meanwhile passes when it goes on.
  void StandStill(bool still) { still_ = still; }

 private:
  void Accept();
  void Serve(int client);
  // Brings what comes from `from` to `to` until one of them ends.
  void Forward(int from, int to, bool delayed);
  [[nodiscard]] bool Wait(std::chrono::milliseconds time) const;

  const uint16_t target_;
  std::atomic<int64_t> delay_ms_ = 0;
  std::atomic<bool> still_ = false;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::list<std::thread> sessions_;
  const fake::LoopbackListener listener_;
  std::thread acceptor_;
};

}  // namespace pgtier::test
