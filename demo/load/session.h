// One of the application's connections: opened when needed, counted, opened again after it was lost.
#pragma once

#include <optional>
#include <string>

#include "demo/load/load_metrics.h"
#include "demo/load/recorder.h"
#include "lib/postgres/connection.h"

namespace pgtier::load {

// Used by one thread.
class Session {
 public:
  // `lifetime`: how old a connection may become; zero: as old as it gets.
  Session(postgres::ConnectOptions options, Duration lifetime, std::string pool, Recorder& recorder,
          LoadMetrics& metrics)
      : options_(std::move(options)),
        lifetime_(lifetime),
        pool_(std::move(pool)),
        recorder_(recorder),
        metrics_(metrics) {}
  ~Session() { Drop(); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The connection, opened if there is none. nullptr when that failed; the failure is counted.
  postgres::Connection* Get(Duration timeout) {
    if (connection_.has_value() && !connection_->Usable()) Drop();
    MonoTime now = std::chrono::steady_clock::now();
    if (lifetime_ > Duration::zero() && now - opened_ >= lifetime_) Drop();
    if (connection_.has_value()) return &*connection_;
    auto opened = postgres::Connection::Open(options_, Deadline::After(timeout));
    if (!opened.has_value()) {
      recorder_.ConnectFailed(opened.error());
      if (opened.error().code == Code::kUnauthenticated) metrics_.AuthFailure("database");
      return nullptr;
    }
    connection_ = *std::move(opened);
    opened_ = now;
    metrics_.Connection(pool_, 1);
    return &*connection_;
  }

 private:
  void Drop() {
    if (!connection_.has_value()) return;
    connection_.reset();
    metrics_.Connection(pool_, -1);
  }

  postgres::ConnectOptions options_;
  Duration lifetime_;
  MonoTime opened_{};
  std::string pool_;
  Recorder& recorder_;
  LoadMetrics& metrics_;
  std::optional<postgres::Connection> connection_;
};

}  // namespace pgtier::load
