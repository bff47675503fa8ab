// OpenSSL's objects with owners. lib/pki's own.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"

namespace pgtier::pki {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using X509Ptr = std::unique_ptr<X509, Free<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Free<BIO_free_all>>;

// What OpenSSL says went wrong last, after `what`; its queue is empty then.
Error OpenSslError(const std::string& what);
// The next certificate in `bio`, or nullptr.
X509Ptr NextCertificate(BIO* bio);
// The first certificate of the text. Errors: kInvalidArgument.
Result<X509Ptr> ParseCertificate(const std::string& pem);
// Errors: kInvalidArgument, without the text.
Result<KeyPtr> ParseKey(const std::string& pem);
Result<std::string> WriteCertificate(X509* certificate);
// The end of a certificate's life.
WallTime EndOf(const X509* certificate);

}  // namespace pgtier::pki
