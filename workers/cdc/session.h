// Opening a session of the consumer. Private to the consumer.
#pragma once

#include <deque>
#include <optional>
#include <stop_token>

#include "lib/postgres/replication.h"
#include "workers/cdc/consumer.h"

namespace pgtier::workers {

// The connection that writes: settings by which text means the same on both sides, synchronous commits, and the origin,
// which nobody else may hold: a consumer that was thought dead has lost it before its successor reads the checkpoint.
Result<postgres::Connection> OpenWriter(const CdcOptions& options, const std::stop_token& stop);

// Starts reading at the checkpoint.
Status StartReading(postgres::ReplicationConnection& connection, const CdcOptions& options, bool stream,
                    postgres::Lsn from, const std::stop_token& stop);

// The connection that reads.
Result<postgres::ReplicationConnection> OpenReader(const CdcOptions& options, const std::stop_token& stop);

}  // namespace pgtier::workers
