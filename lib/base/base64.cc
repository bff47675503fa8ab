#include "lib/base/base64.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cctype>
#include <iterator>

namespace pgtier {
namespace {

unsigned char* Bytes(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* Bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

std::string EncodeBase64(std::string_view bytes) {
  // EVP_EncodeBlock also writes a terminating zero.
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  int length = EVP_EncodeBlock(Bytes(text), Bytes(bytes), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

Result<std::string> DecodeBase64(std::string_view written) {
  std::string text;
  std::copy_if(written.begin(), written.end(), std::back_inserter(text),
               [](unsigned char c) { return std::isspace(c) == 0; });
  size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  // OpenSSL takes padding anywhere for zeros.
  bool misplaced = text.find('=') < text.size() - padding;
  std::string bytes(text.size() / 4 * 3 + 1, '\0');
  int length = -1;
  if (text.size() % 4 == 0 && !misplaced) {
    length = EVP_DecodeBlock(Bytes(bytes), Bytes(std::string_view(text)), static_cast<int>(text.size()));
  }
  if (length < 0) return MakeError(Code::kInvalidArgument, "not base64");
  // It counts the padding as zero bytes.
  bytes.resize(static_cast<size_t>(length) - padding);
  return bytes;
}

}  // namespace pgtier
