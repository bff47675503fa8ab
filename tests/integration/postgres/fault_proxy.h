// A network between a client and a local server that can be cut, or stand still.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <thread>

namespace pgtier::testing {

class FaultProxy {
 public:
  // Listens on 127.0.0.1 at port(), and passes on to `target` there.
  explicit FaultProxy(int target);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;

  [[nodiscard]] int port() const { return port_; }
  // Where new connections lead from now on.
  void SetTarget(int target) { target_ = target; }
  // Ends all connections, in both directions at once.
  void Cut() { ++cuts_; }
  // Nothing is passed on, and nobody is told: packets vanish. What had arrived is passed on when it ends.
  void Stall(bool on) { stalled_ = on; }
  // Cuts all once this many pieces more have come from clients; the last of them still reaches the server, which
  // may do what it says, but nobody hears of it. 0: never.
  void CutAfter(int pieces) { pieces_ = pieces; }

 private:
  struct Way {  // one direction of a connection
    int to = -1;
    bool from_client = false;
    std::string pending;  // what the receiver has not taken yet
  };
  void Run(const std::stop_token& stop);
  void Accept(std::map<int, Way>& ways) const;
  bool Receive(int from, Way& way);
  static bool Send(Way& way);

  int port_ = 0, listener_ = -1;
  std::atomic<int> target_, cuts_ = 0, pieces_ = 0;
  std::atomic<bool> stalled_ = false;
  std::jthread thread_;
};

}  // namespace pgtier::testing
