// A watch's frames: newline-separated JSON documents that may be split anywhere.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier::kube {

// Puts frames together from the pieces in which they arrive. Takes any bytes.
class FrameSplitter {
 public:
  // A frame above `max_frame_bytes` is an error rather than memory without end. etcd takes 1.5 MiB a request, and
  // an object is little longer as JSON.
  explicit FrameSplitter(size_t max_frame_bytes = size_t{16} << 20) : max_frame_bytes_(max_frame_bytes) {}

  // Gives each whole frame, without its newline, to `on_frame`; blank lines are left out. The view is valid during
  // the call only. Stops at the first error, of `on_frame` or kResourceExhausted, and is then not to be fed again.
  Status Feed(std::string_view chunk, const std::function<Status(std::string_view frame)>& on_frame);

  // Bytes of a frame whose end has not come yet.
  [[nodiscard]] size_t pending() const { return partial_.size(); }

 private:
  const size_t max_frame_bytes_;
  std::string partial_;
};

struct WatchEvent {
  enum class Type { kAdded, kModified, kDeleted, kBookmark, kError };
  Type type = Type::kError;
  nlohmann::json object;  // the object; of a bookmark its metadata only; of an error a Status
};

// Errors: kInvalidArgument: not JSON, no object, or a type that is not one of the five.
Result<WatchEvent> ParseWatchEvent(std::string_view frame);

// Whether this bookmark ends the initial events of a WatchList (KEP-3157).
bool IsInitialEventsEnd(const nlohmann::json& bookmark);

}  // namespace pgtier::kube
