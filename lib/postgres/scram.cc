#include "lib/postgres/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <charconv>
#include <string_view>

#include "lib/base/base64.h"

namespace pgtier::postgres {
namespace {

constexpr size_t kDigestBytes = 32;
constexpr int kMostIterations = 10'000'000;  // More would be an attack on our time.
using Digest = std::array<unsigned char, kDigestBytes>;

// StoredKey of RFC 5802, section 3.
bool StoredKey(const std::string& password, const std::string& salt, int iterations, Digest& stored) {
  const auto* salt_bytes = reinterpret_cast<const unsigned char*>(salt.data());
  Digest salted{};
  Digest client{};
  constexpr std::string_view kLabel = "Client Key";
  unsigned int length = 0;
  return PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), salt_bytes,
                           static_cast<int>(salt.size()), iterations, EVP_sha256(), kDigestBytes, salted.data()) == 1 &&
         HMAC(EVP_sha256(), salted.data(), kDigestBytes, reinterpret_cast<const unsigned char*>(kLabel.data()),
              kLabel.size(), client.data(), &length) != nullptr &&
         EVP_Digest(client.data(), kDigestBytes, stored.data(), &length, EVP_sha256(), nullptr) == 1;
}

}  // namespace

bool IsVerifierOf(const std::string& verifier, const std::string& password) {
  constexpr std::string_view kScheme = "SCRAM-SHA-256$";
  if (!verifier.starts_with(kScheme)) return false;
  size_t colon = verifier.find(':', kScheme.size());
  size_t dollar = verifier.find('$', kScheme.size());
  size_t last = verifier.rfind(':');
  if (colon == std::string::npos || dollar == std::string::npos || colon > dollar || last < dollar) return false;
  int iterations = 0;
  const char* end = verifier.data() + colon;
  auto parsed = std::from_chars(verifier.data() + kScheme.size(), end, iterations);
  if (parsed.ec != std::errc() || parsed.ptr != end || iterations < 1 || iterations > kMostIterations) return false;
  Result<std::string> salt = DecodeBase64(std::string_view(verifier).substr(colon + 1, dollar - colon - 1));
  Result<std::string> wanted = DecodeBase64(std::string_view(verifier).substr(dollar + 1, last - dollar - 1));
  if (!salt.has_value() || !wanted.has_value() || wanted->size() != kDigestBytes) return false;
  Digest stored{};
  return StoredKey(password, *salt, iterations, stored) &&
         CRYPTO_memcmp(stored.data(), wanted->data(), kDigestBytes) == 0;
}

}  // namespace pgtier::postgres
