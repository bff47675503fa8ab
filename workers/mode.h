// What pgtier-worker does is a mode; the configuration names it. The program around it is main.cc and runner.h.
#pragma once

#include <memory>
#include <stop_token>

#include "lib/base/metrics.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "workers/config.h"
#include "workers/progress.h"

namespace pgtier::workers {

struct ModeContext {
  Config config;
  postgres::ConnectOptions connect;
  Metrics& metrics;
  Progress& progress;
};

class Mode {
 public:
  virtual ~Mode() = default;
  // Works until `stop`; then returns without an error, within seconds. Returns an error when it can't go on (the
  // connection is gone): it is made anew after a pause.
  virtual Status Run(const std::stop_token& stop) = 0;
};

using MakeMode = std::unique_ptr<Mode> (*)(ModeContext context);

// Moves rows from the outboxes into the histories (notify.cc).
std::unique_ptr<Mode> MakeNotify(ModeContext context);
// Hears rows that come in notifications, and puts them into the outboxes (payload.cc). Does nothing but with delivery
// Payload. Beside the former, on a connection of its own: what stops the one must not make the other deaf.
std::unique_ptr<Mode> MakePayload(ModeContext context);
// Reads the log and writes the histories (cdc_mode.cc, workers/cdc).
std::unique_ptr<Mode> MakeCdc(ModeContext context);

}  // namespace pgtier::workers
