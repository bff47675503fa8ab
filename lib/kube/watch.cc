#include "lib/kube/watch.h"

#include "lib/kube/json.h"

namespace pgtier::kube {

Status FrameSplitter::Feed(std::string_view chunk, const std::function<Status(std::string_view frame)>& on_frame) {
  while (!chunk.empty()) {
    const size_t end = chunk.find('\n');
    const std::string_view piece = chunk.substr(0, end);
    if (partial_.size() + piece.size() > max_frame_bytes_) {
      return MakeError(Code::kResourceExhausted,
                       "a watch event is longer than " + std::to_string(max_frame_bytes_) + " bytes");
    }
    if (end == std::string_view::npos) {
      partial_ += piece;
      return {};
    }
    chunk.remove_prefix(end + 1);
    std::string_view frame = piece;
    std::string whole;
    if (!partial_.empty()) {
      whole = std::move(partial_);
      partial_.clear();
      whole += piece;
      frame = whole;
    }
    if (frame.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    PGTIER_RETURN_IF_ERROR(on_frame(frame));
  }
  return {};
}

Result<WatchEvent> ParseWatchEvent(std::string_view frame) {
  PGTIER_ASSIGN_OR_RETURN(nlohmann::json document, ParseJson(frame));
  WatchEvent event;
  const std::string type = StringAt(document, {"type"});
  if (type == "ADDED") {
    event.type = WatchEvent::Type::kAdded;
  } else if (type == "MODIFIED") {
    event.type = WatchEvent::Type::kModified;
  } else if (type == "DELETED") {
    event.type = WatchEvent::Type::kDeleted;
  } else if (type == "BOOKMARK") {
    event.type = WatchEvent::Type::kBookmark;
  } else if (type == "ERROR") {
    event.type = WatchEvent::Type::kError;
  } else {
    return MakeError(Code::kInvalidArgument, "watch event of unknown type \"" + type.substr(0, 40) + "\"");
  }
  if (!At(document, {"object"}).is_object()) {
    return MakeError(Code::kInvalidArgument, "watch event without an object");
  }
  event.object = std::move(document["object"]);
  return event;
}

bool IsInitialEventsEnd(const nlohmann::json& bookmark) {
  return StringAt(bookmark, {"metadata", "annotations", "k8s.io/initial-events-end"}) == "true";
}

}  // namespace pgtier::kube
