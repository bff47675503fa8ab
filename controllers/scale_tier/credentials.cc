#include "controllers/scale_tier/credentials.h"

#include <charconv>
#include <utility>

#include "controllers/ladder/objects.h"
#include "controllers/scale_tier/names.h"
#include "lib/base/random.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

Certificates ReadCertificates(const Seen& seen, const std::string& policy) {
  Certificates read;
  const Json* authority = seen.Object(kube::kSecrets, AuthoritySecret(policy));
  read.authority = {SecretText(authority, "ca.crt"), SecretText(authority, "ca.key")};
  read.former = SecretText(authority, "former.crt");
  read.cross = SecretText(authority, "cross.crt");
  if (authority != nullptr) {
    read.request = kube::StringAt(*authority, {"metadata", "annotations", kRotateCertificatesAnnotation});
  }
  for (auto [server, name] :
       {std::pair{&read.postgres, PostgresTlsSecret(policy)}, {&read.pooler, PoolerTlsSecret(policy)}}) {
    const Json* secret = seen.Object(kube::kSecrets, name);
    server->identity = {SecretText(secret, "tls.crt"), SecretText(secret, "tls.key")};
    server->trust = SecretText(secret, "ca.crt");
  }
  // Where the others were deleted, this copy tells what servers still present.
  if (read.Trust().empty()) read.postgres.trust = SecretText(seen.Object(kube::kSecrets, AppSecret(policy)), "ca.crt");
  return read;
}

// How far a rotation is, and which passwords the application's Secret holds: it is written after the internal one.
void ReadRotation(const Json* internal, const Json* app, Credentials& credentials) {
  if (internal == nullptr) return;
  auto annotation = [&](const char* name) { return kube::StringAt(*internal, {"metadata", "annotations", name}); };
  PasswordRotation& rotation = credentials.rotation;
  std::string number = annotation(kPasswordNumberAnnotation);
  auto parsed = std::from_chars(number.data(), number.data() + number.size(), rotation.number);
  if (parsed.ec != std::errc() || rotation.number <= 0) return;
  rotation.request = annotation(kRotatePasswordsAnnotation);
  rotation.former = annotation(kPasswordsFormerAnnotation) == "valid";
  Result<WallTime> told = ParseTime(annotation(kPasswordsToldAnnotation));
  if (told.has_value()) rotation.told = *told;
  rotation.superuser = SecretText(internal, "former-superuser");
  rotation.pooler = SecretText(internal, "former-pooler");
  rotation.monitor = SecretText(internal, "former-monitor");
  rotation.pooler_admin = SecretText(internal, "former-pooler-admin");
  std::string next = SecretText(internal, "app");
  bool odd = SecretText(app, "username") == kAlternateAppRole;
  if (next.empty() || odd == (rotation.number % 2 == 1)) return;
  rotation.app = std::exchange(credentials.app, next);
  // Nobody can have read what is gone.
  if (rotation.app.empty() && !rotation.told.has_value()) rotation.app = next;
}

}  // namespace

std::optional<Credentials> ReadCredentials(const Seen& seen, const std::string& policy) {
  const Json* internal = seen.Object(kube::kSecrets, InternalSecret(policy));
  const Json* app = seen.Object(kube::kSecrets, AppSecret(policy));
  if (internal == nullptr && app == nullptr) return std::nullopt;
  Credentials credentials{SecretText(internal, "superuser"),    SecretText(internal, "replication"),
                          SecretText(internal, "pooler"),       SecretText(internal, "monitor"),
                          SecretText(internal, "pooler-admin"), SecretText(app, "password"),
                          ReadCertificates(seen, policy)};
  ReadRotation(internal, app, credentials);
  return credentials;
}

Result<Credentials> CompleteCredentials(const std::optional<Credentials>& known) {
  constexpr size_t kLength = 32;
  Credentials credentials = known.value_or(Credentials{});
  for (std::string* password : {&credentials.superuser, &credentials.replication, &credentials.pooler,
                                &credentials.monitor, &credentials.pooler_admin, &credentials.app}) {
    if (!password->empty()) continue;
    PGTIER_ASSIGN_OR_RETURN(*password, RandomToken(kLength));
  }
  return credentials;
}

}  // namespace pgtier::controllers::scale_tier
