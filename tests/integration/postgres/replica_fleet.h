// A primary, two standbys and a PgBouncer before them, each server with its pgtier-heartbeat beside it and a Service
// before it, as in a cluster; no operator.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/integration/postgres/fake_service.h"
#include "tests/integration/postgres/local_server.h"

namespace pgtier::testing {

class ReplicaFleet {
 public:
  // The limit of lag of its standbys.
  static Result<std::unique_ptr<ReplicaFleet>> Start(Duration max_lag);

  struct Standby {
    std::unique_ptr<LocalPostgres> server;
    std::unique_ptr<ServerProcess> heartbeat;
    std::unique_ptr<FakeService> service;
    std::string address;  // of its Service, which is its name

    [[nodiscard]] bool Out() const;      // of reads, by its own judgement
    [[nodiscard]] bool Drained() const;  // asks connections to leave
  };

  LocalPostgres& primary() { return *primary_; }
  std::vector<Standby>& standbys() { return standbys_; }
  LocalPgBouncer& pooler() { return *pooler_; }
  // As the application, which comes through the pooler.
  [[nodiscard]] postgres::ConnectOptions Application() const;
  // Server connections of the application on a standby.
  int64_t ConnectionsTo(const Standby& standby);
  // Holds replay back on a standby, or lets it go on.
  Status PauseReplay(const Standby& standby, bool pause);
  // What the heartbeats have said.
  [[nodiscard]] std::string Log() const;

 private:
  Status StartPrimary();
  Status StartStandby(int number, Duration max_lag);
  static Status StartHeartbeat(Standby& standby, const LocalPostgres& server);

  std::unique_ptr<LocalPostgres> primary_;
  Standby first_;  // Only its heartbeat is used.
  std::vector<Standby> standbys_;
  std::unique_ptr<LocalPgBouncer> pooler_;
};

// Clients that read through the pooler, again and again, which standby they are on.
class Readers {
 public:
  Readers(const postgres::ConnectOptions& options, int count);
  ~Readers() { Stop(); }
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  void Stop();
  // When the server at that address gave its last answer; the clock's beginning if never.
  MonoTime LastAnswerOf(const std::string& address);
  int64_t AnswersOf(const std::string& address);
  std::vector<std::string> errors();

 private:
  void Run(const postgres::ConnectOptions& options, const std::stop_token& stop);

  std::mutex mutex_;
  std::map<std::string, std::pair<MonoTime, int64_t>> answers_;
  std::vector<std::string> errors_;
  std::vector<std::jthread> threads_;
};

}  // namespace pgtier::testing
