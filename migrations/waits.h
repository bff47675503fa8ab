// What a migration waits for: locks that others hold, standbys and slots that must not fall behind.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "migrations/config.h"

namespace pgtier::migrations {

// Looks, on a connection and a thread of its own, at who holds up a session: after a lock timeout the server has
// forgotten.
class LockWatch {
 public:
  // `every`: between two looks.
  LockWatch(postgres::ConnectOptions options, Duration every);
  ~LockWatch();
  LockWatch(const LockWatch&) = delete;
  LockWatch& operator=(const LockWatch&) = delete;

  // From now on that server process; 0: nobody.
  void Watch(int pid);
  // Who held it up last since Watch, in words: "process 4711 (psql of app, idle in transaction, transaction open for
  // 2m)"; empty: nobody was seen.
  [[nodiscard]] std::string Holder();
  // For how long it has been held up without a break.
  [[nodiscard]] Duration HeldUpFor();

 private:
  void Run(const std::stop_token& stop);

  postgres::ConnectOptions options_;
  Duration every_;
  std::mutex mutex_;
  int pid_ = 0;
  std::string holder_;
  std::optional<MonoTime> since_;
  std::jthread thread_;
};

// Why the next batch has to wait: "ReplicaLag: …", "SlotRetained: …"; empty: it has not.
Result<std::string> WhyThrottled(postgres::Connection& connection, const Throttle& throttle, Deadline deadline);

// Between two tries: growing from 100 ms to 30 s, and never the same for two that got in each other's way.
Duration PauseBeforeTry(int number);

}  // namespace pgtier::migrations
