// The consumer of tier cdc: reads a slot and writes histories, exactly once. Rows and checkpoint are one transaction
// with synchronous_commit=on; the server is told of a position only when its own log, as it was sent to us, is past the
// commit that wrote the checkpoint: a standby that takes over from there on holds both.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/metrics.h"
#include "lib/base/result.h"
#include "lib/pgoutput/assembler.h"
#include "lib/postgres/connection.h"
#include "lib/postgres/replication.h"
#include "workers/cdc/history.h"
#include "workers/cdc/sink.h"

namespace pgtier::workers {

struct CdcOptions {
  postgres::ConnectOptions database;
  std::string policy, slot, publication;
  size_t batch_rows = 1000;
  Duration batch_interval = std::chrono::milliseconds(100);
  pgoutput::SpillOptions spill;
  bool stream = true;                             // large transactions come in pieces, before they commit
  Duration silence = std::chrono::seconds(30);    // without a byte the server is taken for gone
  Duration idle_save = std::chrono::seconds(10);  // at most so often is the checkpoint moved where no rows came
  uint64_t idle_bytes = uint64_t{64} << 10U;      // and only when the log has grown by this: none is written at rest
};

// As of now; for health and for people.
struct CdcState {
  bool streaming = false;
  bool gap = false;   // changes were lost since this consumer began; the dead letters say which
  std::string error;  // why it does not stream; empty while it does
  Checkpoint checkpoint;
  postgres::Lsn server;  // how far the server's log goes
  bool behind = false;   // there is more in the log than was read, or rows that are not committed
  MonoTime progress;     // when something was got on with
  int64_t rows = 0, dead_letters = 0, transactions = 0, sessions = 0;
};

class CdcConsumer {
 public:
  // `metrics` may be nullptr.
  CdcConsumer(CdcOptions options, Metrics* metrics) : options_(std::move(options)), metrics_(metrics) {}

  // Reads and writes until `stop`; after an error it begins anew, after a pause that grows.
  void Run(const std::stop_token& stop);

  // From connecting to the first error; the error is never nothing. kCancelled: stop was requested; kAborted: begin
  // anew at once.
  Error Session(const std::stop_token& stop);

  [[nodiscard]] CdcState state() const;

 private:
  struct Live;  // what one session holds

  Result<std::unique_ptr<Live>> Open(const std::stop_token& stop);
  Status Stream(Live& live);
  Status StepOnce(Live& live);
  Status Save(Live& live);
  Status SaveIfDue(Live& live);
  Status Report(Live& live, bool ask);
  void Acknowledged(Live& live, postgres::Lsn sent);
  Status Look(Live& live);
  void Measure(Live& live);

  CdcOptions options_;
  Metrics* metrics_;
  // Transactions up to here are read without streaming.
  postgres::Lsn whole_until_;
  bool again_ = false;  // the session ended for the next one to read in another way
  mutable std::mutex mutex_;
  CdcState state_;
  MonoTime progress_ = std::chrono::steady_clock::now();
};

}  // namespace pgtier::workers
