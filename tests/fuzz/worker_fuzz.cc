// What the shadow tables' worker reads that others have written: its configuration, barriers out of the log (anybody
// may emit messages), and a server's history of timelines. The outbox has no payload to read: its rows never leave the
// server, and a notification is one constant word.
#include <cstdint>
#include <cstdlib>

#include "lib/postgres/replication.h"
#include "workers/cdc/sink.h"
#include "workers/config.h"

using namespace pgtier;  // NOLINT(google-build-using-namespace): of this file

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = workers::ParseConfig(text);
  if (config.has_value()) {
    if (config->policy.empty() || config->mode.empty() || config->database.host.empty()) abort();
    if (config->batch_rows < 1 || config->database.port < 1 || config->database.port > 65535) abort();
    if (config->awake <= Duration::zero() || config->spill_memory < 1) abort();
  }
  auto ends = postgres::ParseTimelineHistory(text);
  if (ends.has_value()) {
    for (const auto& [timeline, end] : *ends) {
      if (timeline < 1) abort();
    }
  }
  workers::Checkpoint kept;
  kept.secret = "secret";
  kept.epoch = 5;
  workers::History history(nullptr, "data/audit", kept);
  workers::CdcSink sink(&history, "data/audit", [] { return Status(); });
  pgoutput::Message message;
  message.name = "pgtier.cutover";
  message.content = text;
  if (!sink.Logical(message).has_value()) abort();
  const workers::Checkpoint& reached = sink.reached();
  if (reached.epoch < 5 || reached.ended_epoch < 0) abort();  // only forward
  if ((reached.epoch > 5 || reached.ended_epoch > 0) && text.find("secret") == std::string_view::npos) abort();
  return 0;
}
