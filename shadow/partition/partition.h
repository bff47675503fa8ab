// Partitions by time of histories, and of other tables that only grow: made while rows arrive, kept ahead of the clock,
// dropped when nobody is to keep them any longer. The SQL stands in sql/shadow/partition*.sql; docs/decisions/0046 says
// why it is so. Every function takes a connection to the primary itself as the role that acts (the owner of the tables,
// or a superuser), to a database in which shadow::Install has been; each is idempotent. Errors of all: those of
// Connection::Query, and kFailedPrecondition with a text for a person.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "shadow/shadow.h"

namespace pgtier::shadow {

enum class PartitionEngine {
  kAuto,        // hypertables where this database has TimescaleDB and the table can become one, else native partitions
  kNative,      // the server's own partitions
  kHypertable,  // TimescaleDB's chunks
};
// As the API writes it: Auto, Native, Hypertable; empty: Auto.
PartitionEngine ParseEngine(const std::string& name);

struct PartitionSpec {
  std::string table;  // as SQL writes it: public.customers_history; without a schema: public
  std::string column = "at_utc";
  Duration interval = std::chrono::hours(24 * 7);  // a partition's span; whole seconds, an hour at least
  int ahead = 4;                                   // whole periods after this one that have a partition
  PartitionEngine engine = PartitionEngine::kAuto;
};

enum class PartitionStage {
  kMissing,      // there is no such table
  kPlain,        // not partitioned
  kMarked,       // plain, with a bound on new rows: on its way to native partitions
  kCopying,      // plain, with a copy that becomes a hypertable: on its way
  kPartitioned,  // by the range of the column
  kHypertable,   // TimescaleDB's
  kOther,        // partitioned by something else
};

struct PartitionState {
  PartitionStage stage = PartitionStage::kMissing;
  int64_t rows = 0;   // estimated, of all partitions
  int64_t bytes = 0;  // without indexes
  int parts = 0;
  bool proven = false;            // kMarked: each row is known to be below the bound
  std::optional<WallTime> upper;  // up to when rows fit; nothing: no bound, or a table without partitions
  // The first partition, where it holds all of the past: what the table was before; as SQL writes it, empty: there is
  // none (any more). And whether its end is past, so that it can be split into periods.
  std::string old_part;
  bool old_part_past = false;
  // Of a hypertable; `parts` are its chunks.
  bool managed = false;     // pgtier made it
  bool unfinished = false;  // what it was before waits to be dropped
  Duration chunk = Duration::zero();
  int compressed = 0;  // chunks
};

// What the server has of TimescaleDB.
struct TimescaleState {
  bool available = false;   // the server's files have it
  std::string version;      // installed in this database; empty: not
  bool compresses = false;  // a licence with compression (timescaledb.license is timescale)
};

Result<PartitionState> InspectPartitions(postgres::Connection& connection, const PartitionSpec& spec,
                                         Deadline deadline);
// Of several tables, in their order, in one question; `each` but for its table.
Result<std::vector<PartitionState>> InspectPartitions(postgres::Connection& connection, const PartitionSpec& each,
                                                      const std::vector<std::string>& tables, Deadline deadline);
Result<TimescaleState> InspectTimescale(postgres::Connection& connection, Deadline deadline);

// What stands in the way of a hypertable, beside what PartitionFindings gives.
Result<std::vector<Finding>> HypertableFindings(postgres::Connection& connection, const PartitionSpec& spec,
                                                Deadline deadline);

struct EngineChoice {
  PartitionEngine engine = PartitionEngine::kNative;  // never kAuto
  std::string why;                                    // why it is no hypertable, where that was left open; or empty
};
// `against` as HypertableFindings gives.
EngineChoice ChooseEngine(PartitionEngine wanted, const TimescaleState& timescale, const std::vector<Finding>& against);

// Whether EnsureAhead has something to do.
bool NeedsAhead(const PartitionState& state, const PartitionSpec& spec, WallTime now);

// What stands in the way of partitioning the table by any engine; all of it blocks. Nothing for one that has native
// partitions.
Result<std::vector<Finding>> PartitionFindings(postgres::Connection& connection, const PartitionSpec& spec,
                                               Deadline deadline);

// Makes partitions until `ahead` periods after this one have theirs; how many it made. Holds no writer up.
Result<int> EnsureAhead(postgres::Connection& admin, const PartitionSpec& spec, Deadline deadline);

// Drops partitions all of whose rows are older than `retain`, or such chunks of a hypertable that pgtier made, at most
// `most` of them, each in a transaction that holds writers off for some milliseconds; their names. Never the only
// partition. Errors: kDeadlineExceeded: writers did not let it
// in.
Result<std::vector<std::string>> DropExpired(postgres::Connection& admin, const PartitionSpec& spec, Duration retain,
                                             int most, Deadline deadline);
// The names of the partitions that DropExpired would drop.
Result<std::vector<std::string>> Expired(postgres::Connection& connection, const PartitionSpec& spec, Duration retain,
                                         Deadline deadline);

struct Chunk {
  std::string name;  // as SQL writes it
  // When its rows end, in UTC, and the file that they are in: 20261102t0000-16421. Another one each time that it is
  // compressed, for its rows are truncated then: so what has compressed it once is not taken for having done it again.
  std::string once;
};
// Chunks of a hypertable that pgtier made which are not compressed and all of whose rows are older; at most 16.
Result<std::vector<Chunk>> ChunksToCompress(postgres::Connection& connection, const PartitionSpec& spec,
                                            Duration older_than, Deadline deadline);
// A statement that lets the table have compressed chunks, before the first of them: a transaction of its own, for it
// holds the whole table.
std::string CompressionEnabling(const PartitionSpec& spec);
// A statement that compresses one of them; it is a transaction of its own.
std::string CompressionOf(const Chunk& chunk, const PartitionSpec& spec);

// Takes back what was prepared, of a table that is not to be partitioned after all: a bound that nobody finishes would
// refuse rows one day, and what comes while a hypertable is made is kept twice. Does nothing for others.
Status ForgetPartitioning(postgres::Connection& admin, const PartitionSpec& spec, Deadline deadline);

}  // namespace pgtier::shadow
