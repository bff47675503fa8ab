// A connection that speaks the streaming replication protocol, for logical decoding. libpq stays behind this header.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"
#include "lib/postgres/lsn.h"

namespace pgtier::postgres {

// Of IDENTIFY_SYSTEM.
struct SystemIdentity {
  std::string system_identifier;
  int64_t timeline = 0;
  Lsn flushed;  // on a standby: replayed
  std::string database;
};

// Where the timelines that a server's own came from ended: by timeline, the position at which the next one forked.
using TimelineEnds = std::map<int64_t, Lsn>;

// Of a timeline's history file. Errors: kInvalidArgument: it is none.
Result<TimelineEnds> ParseTimelineHistory(std::string_view content);

struct LogicalStart {
  std::string slot;
  Lsn from;  // the server goes on from the later of this and the slot's confirmed_flush_lsn
  std::vector<std::pair<std::string, std::string>> options;  // of the output plugin, in order
};

// What the server sent: a message of the output plugin, or a keepalive (`data` is empty then).
struct WalPiece {
  bool keepalive = false;
  Lsn start;  // of a message: where its record stands
  // The server's position. A keepalive's says that everything before it was decoded, sent, and is past what
  // synchronized_standby_slots holds back.
  Lsn end;
  bool reply_requested = false;
  std::string_view data;  // until the next call
};

// Used by one thread at a time. Errors of every call: kUnavailable: the connection is gone; kCancelled: stop was
// requested; else what the SQLSTATE says (kNotFound: no such slot; kFailedPrecondition: it is in use, or lost).
class ReplicationConnection {
 public:
  // Connects with replication=database. Errors: as Connection::Open; kPermissionDenied: the role may not replicate.
  static Result<ReplicationConnection> Open(const ConnectOptions& options, Deadline deadline,
                                            std::stop_token stop = {});

  Result<SystemIdentity> IdentifySystem(Deadline deadline);

  // Of a timeline of this server's; the first one has no history. Errors: kNotFound or others of the server: no such
  // timeline.
  Result<TimelineEnds> TimelineHistory(int64_t timeline, Deadline deadline);

  // START_REPLICATION SLOT … LOGICAL. Names and values with quotes are doubled; a backslash or a zero byte is refused.
  Status Start(const LogicalStart& start, Deadline deadline);

  // The next piece; nothing when the deadline passed before there was one. Errors: kUnavailable too when the server
  // ended the stream.
  Result<std::optional<WalPiece>> Read(Deadline deadline);

  // A standby status update: all before `written` was received, all before `flushed` is kept and never asked for again.
  // With `reply` the server answers by a keepalive at once.
  Status Report(Lsn written, Lsn flushed, bool reply, Deadline deadline);

  // When the last byte came from the server: an end that has vanished without a word, or was stopped, is noticed by it.
  [[nodiscard]] MonoTime last_byte() const { return last_byte_; }
  [[nodiscard]] int ServerVersion() const { return connection_.ServerVersion(); }
  [[nodiscard]] int BackendPid() const { return connection_.BackendPid(); }

 private:
  explicit ReplicationConnection(Connection connection);
  Result<std::optional<WalPiece>> Parse(std::string_view message);
  Error Ended(Deadline deadline);

  struct Buffer {
    void operator()(char* bytes) const;
  };
  Connection connection_;
  std::unique_ptr<char, Buffer> buffer_;
  MonoTime last_byte_;
};

}  // namespace pgtier::postgres
