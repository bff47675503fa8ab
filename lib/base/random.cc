#include "lib/base/random.h"

#include <sys/random.h>

#include <array>
#include <string_view>

namespace pgtier {

Result<std::string> RandomToken(size_t length) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  // Bytes from here on would favour the alphabet's beginning.
  constexpr size_t kEvenBelow = 256 - 256 % kAlphabet.size();
  std::string token;
  while (token.size() < length) {
    std::array<unsigned char, 64> bytes{};
    if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
      return MakeError(Code::kInternal, "getrandom failed");
    }
    for (unsigned char byte : bytes) {
      if (byte < kEvenBelow && token.size() < length) token += kAlphabet[byte % kAlphabet.size()];
    }
  }
  return token;
}

}  // namespace pgtier
