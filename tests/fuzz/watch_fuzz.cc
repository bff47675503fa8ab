// Frames of a watch: however the bytes are split, the same frames come out, and none of them breaks the parser.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "lib/kube/client.h"
#include "lib/kube/json.h"
#include "lib/kube/watch.h"

namespace {

using pgtier::Code;
using pgtier::Status;

// The frames, and whether an error ended them.
std::vector<std::string> Split(std::string_view bytes, size_t piece) {
  pgtier::kube::FrameSplitter splitter(4096);
  std::vector<std::string> frames;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    Status fed = splitter.Feed(bytes.substr(at, piece), [&](std::string_view frame) -> Status {
      frames.emplace_back(frame);
      return {};
    });
    if (fed.has_value()) continue;
    if (fed.error().code != Code::kResourceExhausted) abort();
    frames.emplace_back("too long");
    break;
  }
  return frames;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> whole = Split(bytes, size + 1);
  if (Split(bytes, 1) != whole || Split(bytes, 7) != whole) abort();
  for (const std::string& frame : whole) {
    auto event = pgtier::kube::ParseWatchEvent(frame);
    if (!event.has_value()) continue;
    if (!event->object.is_object()) abort();
    std::ignore = pgtier::kube::IsInitialEventsEnd(event->object);
    std::ignore = pgtier::kube::KeyOf(event->object);
    // What is cached must be readable again.
    auto again = pgtier::kube::ParseJson(pgtier::kube::DumpWithoutManagedFields(event->object));
    if (!again.has_value() || pgtier::kube::UidOf(*again).empty() != pgtier::kube::UidOf(event->object).empty())
      abort();
    std::ignore = pgtier::kube::ErrorFromStatus(500, frame, "watch");
  }
  return 0;
}
