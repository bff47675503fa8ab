#include "lib/http/tls_context.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <string>

namespace pgtier::http {
namespace {

// OpenSSL must not clean up at exit: cpprestsdk's threads outlive main() and may still free a connection's context
// then, which crashed (OPENSSL_init_crypto(3), OPENSSL_INIT_NO_ATEXIT). Before main(), for it counts at the first use
// only.
[[maybe_unused]] const int kNoCleanupAtExit = OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr);

struct OpenSslFree {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using BioPtr = std::unique_ptr<BIO, OpenSslFree>;
using X509Ptr = std::unique_ptr<X509, OpenSslFree>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpenSslFree>;

Error TlsError(const std::string& what) {
  char text[256] = "no details";
  const unsigned long code = ERR_get_error();  // NOLINT: OpenSSL's type
  if (code != 0) ERR_error_string_n(code, text, sizeof(text));
  ERR_clear_error();
  return MakeError(Code::kInvalidArgument, what + ": " + text);
}

BioPtr Reader(const std::string& pem) { return BioPtr(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

// A key with a passphrase is refused rather than asked for on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

Status TrustOnly(SSL_CTX* context, const std::string& ca_pem) {
  BioPtr bio = Reader(ca_pem);
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  int count = 0;
  while (X509Ptr certificate{PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)}) {
    if (X509_STORE_add_cert(store, certificate.get()) != 1) return TlsError("CA certificate");
    ++count;
  }
  ERR_clear_error();  // the end of the text counts as an error
  if (count == 0) return MakeError(Code::kInvalidArgument, "CA certificate: no certificate in the PEM text");
  return {};
}

Status UseClientCertificate(SSL_CTX* context, const TlsOptions& options) {
  BioPtr certificates = Reader(options.client_cert_pem);
  X509Ptr leaf(PEM_read_bio_X509_AUX(certificates.get(), nullptr, NoPassphrase, nullptr));
  if (leaf == nullptr || SSL_CTX_use_certificate(context, leaf.get()) != 1) return TlsError("client certificate");
  while (X509Ptr chain{PEM_read_bio_X509(certificates.get(), nullptr, NoPassphrase, nullptr)}) {
    if (SSL_CTX_add1_chain_cert(context, chain.get()) != 1) return TlsError("client certificate chain");
  }
  ERR_clear_error();
  BioPtr key_text = Reader(options.client_key_pem);
  KeyPtr key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr || SSL_CTX_use_PrivateKey(context, key.get()) != 1) return TlsError("client key");
  if (SSL_CTX_check_private_key(context) != 1) return TlsError("client key does not fit its certificate");
  return {};
}

}  // namespace

Result<SslCtx> MakeSslContext(const TlsOptions& options) {
  SslCtx context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return TlsError("TLS context");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  if (!options.ca_pem.empty()) {
    PGTIER_RETURN_IF_ERROR(TrustOnly(context.get(), options.ca_pem));
  } else if (SSL_CTX_set_default_verify_paths(context.get()) != 1) {
    return TlsError("the system's CA certificates");
  }
  if (options.client_cert_pem.empty() != options.client_key_pem.empty()) {
    return MakeError(Code::kInvalidArgument, "a client certificate needs its key and the other way round");
  }
  if (!options.client_cert_pem.empty()) PGTIER_RETURN_IF_ERROR(UseClientCertificate(context.get(), options));
  return context;
}

}  // namespace pgtier::http
