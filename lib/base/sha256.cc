#include "lib/base/sha256.h"

#include <openssl/sha.h>

#include <array>

namespace pgtier {

std::string Sha256Hex(std::string_view data) {
  constexpr char kDigits[] = "0123456789abcdef";
  constexpr unsigned kLowNibble = 15;
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(), digest.data());
  std::string text;
  for (unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & kLowNibble];
  }
  return text;
}

}  // namespace pgtier
