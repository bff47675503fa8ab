#include "lib/pgoutput/spill.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

namespace pgtier::pgoutput {
namespace {

constexpr size_t kHeader = 2 * sizeof(uint32_t);  // xid, length
constexpr size_t kPiece = 256 << 10;

Error Failed(const std::string& what) {
  return MakeError(Code::kResourceExhausted, what + ": " + std::generic_category().message(errno));
}

// A record at the beginning of `bytes`; false when it is not whole.
bool First(std::string_view bytes, uint32_t& xid, std::string_view& message, size_t& size) {
  size = kHeader;
  if (bytes.size() < kHeader) return false;
  uint32_t length = 0;
  std::memcpy(&xid, bytes.data(), sizeof(xid));
  std::memcpy(&length, bytes.data() + sizeof(xid), sizeof(length));
  size = kHeader + length;
  if (bytes.size() < size) return false;
  message = bytes.substr(kHeader, length);
  return true;
}

}  // namespace

Spill::Spill(Spill&& other) noexcept
    : memory_(std::move(other.memory_)),
      file_(std::exchange(other.file_, -1)),
      on_disk_(std::exchange(other.on_disk_, 0)) {}

Spill::~Spill() {
  if (file_ >= 0) close(file_);
}

void Spill::Append(uint32_t xid, std::string_view message) {
  std::array<char, kHeader> header{};
  const auto length = static_cast<uint32_t>(message.size());
  std::memcpy(header.data(), &xid, sizeof(xid));
  std::memcpy(header.data() + sizeof(xid), &length, sizeof(length));
  memory_.append(header.data(), header.size());
  memory_ += message;
}

Status Spill::Flush(const std::string& directory) {
  if (file_ < 0) {
    std::string path = directory + "/pgtier-spill-XXXXXX";
    file_ = mkostemp(path.data(), O_CLOEXEC);
    if (file_ < 0) return Failed("making a file in " + directory);
    unlink(path.c_str());
  }
  std::string_view rest = memory_;
  while (!rest.empty()) {
    ssize_t written = write(file_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return Failed("writing to a file in " + directory);
    rest.remove_prefix(static_cast<size_t>(written));
  }
  on_disk_ += memory_.size();
  memory_ = std::string();  // gives the memory back
  return {};
}

Status Spill::Replay(const Take& take) const {
  std::string buffer;
  uint64_t offset = 0;
  uint32_t xid = 0;
  std::string_view message;
  size_t size = 0;
  while (offset < on_disk_ || !buffer.empty()) {
    size_t used = 0;
    while (First(std::string_view(buffer).substr(used), xid, message, size)) {
      PGTIER_RETURN_IF_ERROR(take(xid, message));
      used += size;
    }
    buffer.erase(0, used);
    if (offset == on_disk_) break;
    const size_t had = buffer.size();
    const auto piece =
        static_cast<size_t>(std::min<uint64_t>(std::max(kPiece, size - std::min(size, had)), on_disk_ - offset));
    buffer.resize(had + piece);
    ssize_t got = pread(file_, buffer.data() + had, piece, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR)
      got = 0;
    else if (got <= 0)
      return MakeError(Code::kInternal, "reading what was spilled: the file is cut short");
    buffer.resize(had + static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  if (!buffer.empty()) return MakeError(Code::kInternal, "what was spilled ends inside of a message");
  std::string_view rest = memory_;
  while (First(rest, xid, message, size)) {
    PGTIER_RETURN_IF_ERROR(take(xid, message));
    rest.remove_prefix(size);
  }
  return {};
}

}  // namespace pgtier::pgoutput
