#pragma once

#include <string_view>

#include "lib/base/result.h"
#include "lib/pgoutput/message.h"

namespace pgtier::pgoutput {

// Decodes messages in the order in which they came; it knows whether it is inside a stream's block, where messages
// carry a transaction's id more.
class Decoder {
 public:
  // Decodes one message; `bytes` must outlive the use of `out`, whose memory is used again. Never reads past `bytes`
  // and takes nothing that is left over at their end. Errors: kInvalidArgument: not such a message; kUnimplemented: a
  // message of two-phase commit, which is never asked for.
  Status Decode(std::string_view bytes, Message& out);

  // One message as it stands inside (or outside) of a block, for replaying what was kept.
  static Status DecodeOne(std::string_view bytes, bool in_stream, Message& out);

  [[nodiscard]] bool in_stream() const { return in_stream_; }
  void Reset() { in_stream_ = false; }

 private:
  bool in_stream_ = false;
};

}  // namespace pgtier::pgoutput
