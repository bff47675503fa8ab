// What one streamed transaction sent so far, in memory and, above a budget, in a file without a name, which goes when
// the process does. Private to lib/pgoutput.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier::pgoutput {

class Spill {
 public:
  Spill() = default;
  Spill(Spill&& other) noexcept;
  Spill& operator=(Spill&&) = delete;
  ~Spill();

  void Append(uint32_t xid, std::string_view message);
  // Moves what is in memory to a file in `directory`. Errors: kResourceExhausted: no file could be made or written.
  Status Flush(const std::string& directory);
  // Calls `take` for each message in the order of the appends; the bytes live as long as the call. Stops at an error.
  using Take = std::function<Status(uint32_t xid, std::string_view message)>;
  Status Replay(const Take& take) const;

  [[nodiscard]] size_t memory() const { return memory_.size(); }
  [[nodiscard]] uint64_t on_disk() const { return on_disk_; }

 private:
  std::string memory_;
  int file_ = -1;
  uint64_t on_disk_ = 0;
};

}  // namespace pgtier::pgoutput
