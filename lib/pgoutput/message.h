// What the server's output plugin pgoutput sends, decoded: one struct for all kinds, so that decoding a message again
// and again allocates nothing. The layouts are those of PostgreSQL's "Logical Replication Message Formats", protocol
// versions 1 to 4.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "lib/postgres/lsn.h"

namespace pgtier::pgoutput {

// Microseconds since 2000-01-01 00:00 UTC, as the server counts time.
using Timestamp = int64_t;

enum class Kind : char {
  kBegin = 'B',
  kCommit = 'C',
  kOrigin = 'O',
  kRelation = 'R',
  kType = 'Y',
  kInsert = 'I',
  kUpdate = 'U',
  kDelete = 'D',
  kTruncate = 'T',
  kMessage = 'M',
  kStreamStart = 'S',
  kStreamStop = 'E',
  kStreamCommit = 'c',
  kStreamAbort = 'A',
};

struct Value {
  enum class Kind : uint8_t { kNull, kUnchanged, kText, kBinary };
  Kind kind = Kind::kNull;
  std::string_view bytes;  // of kText and kBinary
};

struct Column {
  bool key = false;  // part of the replica identity
  std::string_view name;
  uint32_t type = 0;  // OID
  int32_t modifier = -1;
};

// Which row an UPDATE or DELETE carries of the one before it.
enum class Old : char { kNone = 0, kKey = 'K', kRow = 'O' };

// All string_views point into the bytes that were decoded. Only the fields that a kind names are set.
struct Message {
  Kind kind = Kind::kBegin;
  // Begin, StreamStart, StreamCommit, StreamAbort: the transaction. Inside a stream's block, for Relation, Type and
  // what changes rows: the (sub)transaction that did it. For Message inside a block always the top one, whoever emitted
  // it: that is how the server does it.
  uint32_t xid = 0;
  uint32_t subxid = 0;         // StreamAbort: which one ended; the same as xid for all of it
  bool first_segment = false;  // StreamStart
  // Begin, Commit, StreamCommit: of the commit record; Message: of its record; Origin: there; StreamAbort: of the abort
  // record, where the server says it (streaming 'parallel').
  postgres::Lsn lsn;
  postgres::Lsn end_lsn;        // Commit, StreamCommit: where the commit record ends
  Timestamp time = 0;           // Begin, Commit, StreamCommit, StreamAbort
  uint32_t relation = 0;        // Relation, Insert, Update, Delete; Type: the type's OID
  std::string_view schema;      // Relation, Type; pg_catalog's is empty on the wire and said by its name here
  std::string_view name;        // Relation, Type, Origin; Message: the prefix
  char replica_identity = 0;    // Relation: pg_class.relreplident
  std::vector<Column> columns;  // Relation
  Old old = Old::kNone;         // Update, Delete
  std::vector<Value> old_row;
  std::vector<Value> new_row;       // Insert, Update
  std::vector<uint32_t> relations;  // Truncate
  bool cascade = false;             // Truncate
  bool restart_identity = false;    // Truncate
  bool transactional = false;       // Message
  std::string_view content;         // Message
};

}  // namespace pgtier::pgoutput
