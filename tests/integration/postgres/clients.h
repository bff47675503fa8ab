// Clients of a server or pooler that never rest.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/postgres/connection.h"
#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {

// Clients that run one query again and again, each on one long-lived connection; any error ends a client and is kept.
class Clients {
 public:
  Clients(const postgres::ConnectOptions& options, int count, const std::string& sql) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this, options, sql](const std::stop_token& stop) { Run(options, sql, stop); });
    }
  }
  ~Clients() { Stop(); }
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  void Stop() {
    for (auto& thread : threads_) thread.request_stop();
    threads_.clear();
  }
  [[nodiscard]] int64_t queries() const { return queries_; }
  // Answers since the last call, by text.
  std::map<std::string, int> TakeAnswers() {
    std::lock_guard lock(mutex_);
    return std::exchange(answers_, {});
  }
  std::vector<std::string> errors() {
    std::lock_guard lock(mutex_);
    return errors_;
  }

 private:
  void Run(const postgres::ConnectOptions& options, const std::string& sql, const std::stop_token& stop) {
    auto connection = postgres::Connection::Open(options, Soon());
    if (!connection.has_value()) return Fail(connection.error());
    while (!stop.stop_requested()) {
      auto rows = connection->Query(sql, Soon());
      if (!rows.has_value()) return Fail(rows.error());
      ++queries_;
      std::lock_guard lock(mutex_);
      ++answers_[std::string((*rows)[0].Text(size_t{0}).value_or("NULL"))];
    }
  }
  void Fail(const Error& error) {
    std::lock_guard lock(mutex_);
    errors_.push_back(error.message);
  }

  std::atomic<int64_t> queries_{0};
  std::mutex mutex_;
  std::map<std::string, int> answers_;
  std::vector<std::string> errors_;
  std::vector<std::jthread> threads_;
};

}  // namespace pgtier::testing
