// X.509 certificates as text: read, compared, checked. PEM in, plain values out; OpenSSL stays behind this folder.
#pragma once

#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::pki {

// What a certificate says of itself.
struct Facts {
  WallTime not_before;
  WallTime not_after;
  std::vector<std::string> names;  // DNS names that it stands for, in its own order.
  std::string subject;             // "CN=…".
  std::string fingerprint;         // SHA-256 of its DER form, as lower-case hex.
};

// Reads the first certificate in `pem`. Errors: kInvalidArgument: there is none that can be read.
Result<Facts> ReadCertificate(const std::string& pem);

// The certificates of a bundle, each as PEM text. Errors: kInvalidArgument.
Result<std::vector<std::string>> SplitBundle(const std::string& bundle);

// Whether `authority` signed the first certificate of `certificate` (name and signature, whatever the time).
bool IsSignedBy(const std::string& certificate, const std::string& authority);

// Whether the key belongs to the first certificate of `certificate`.
bool IsKeyOf(const std::string& key, const std::string& certificate);

// What a client with `trusted` (a bundle) does at `at` with a server that presents `chain` (its certificate first) and
// that it reached as `host` (empty: any name, as sslmode=verify-ca). Errors: kUnauthenticated, with OpenSSL's words.
Status VerifyServer(const std::string& chain, const std::string& trusted, const std::string& host, WallTime at);

// Whether two thirds of the certificate's life are over: renewed then, a third is left for whatever goes wrong.
bool DueForRenewal(const Facts& facts, WallTime now);

}  // namespace pgtier::pki
