#include "lib/pki/certificate.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>

#include "lib/base/sha256.h"
#include "lib/pki/openssl.h"

namespace pgtier::pki {
namespace {

using StorePtr = std::unique_ptr<X509_STORE, Free<X509_STORE_free>>;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX_free>>;

struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_pop_free(stack, X509_free); }
};
using StackPtr = std::unique_ptr<STACK_OF(X509), FreeStack>;

BioPtr Read(const std::string& text) { return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

WallTime TimeOf(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

std::vector<std::string> NamesOf(const X509* certificate) {
  std::vector<std::string> names;
  auto* list = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(list); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(list, i);
    if (name->type != GEN_DNS) continue;
    const unsigned char* text = ASN1_STRING_get0_data(name->d.dNSName);
    names.emplace_back(text, text + ASN1_STRING_length(name->d.dNSName));
  }
  GENERAL_NAMES_free(list);
  return names;
}

std::string SubjectOf(const X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  auto length = BIO_get_mem_data(bio.get(), &text);
  return length > 0 ? std::string(text, static_cast<size_t>(length)) : "";
}

std::string FingerprintOf(const X509* certificate) {
  unsigned char* bytes = nullptr;
  int size = i2d_X509(certificate, &bytes);
  if (size < 0) return "";
  std::string fingerprint = Sha256Hex({reinterpret_cast<char*>(bytes), static_cast<size_t>(size)});
  OPENSSL_free(bytes);
  return fingerprint;
}

}  // namespace

Error OpenSslError(const std::string& what) {
  std::string reason = "OpenSSL gives no reason";
  if (unsigned long code = ERR_peek_last_error(); code != 0) {
    std::array<char, 256> text{};
    ERR_error_string_n(code, text.data(), text.size());
    reason = text.data();
  }
  ERR_clear_error();
  return MakeError(Code::kInternal, what + ": " + reason);
}

X509Ptr NextCertificate(BIO* bio) {
  X509Ptr certificate(PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));
  // The end of the text is an error to OpenSSL.
  if (certificate == nullptr) ERR_clear_error();
  return certificate;
}

Result<X509Ptr> ParseCertificate(const std::string& pem) {
  X509Ptr certificate = NextCertificate(Read(pem).get());
  if (certificate == nullptr) return MakeError(Code::kInvalidArgument, "there is no certificate in PEM form");
  return certificate;
}

Result<KeyPtr> ParseKey(const std::string& pem) {
  // Without a callback OpenSSL would ask at the terminal for the password of an encrypted key.
  KeyPtr key(PEM_read_bio_PrivateKey(
      Read(pem).get(), nullptr, [](char*, int, int, void*) { return 0; }, nullptr));
  ERR_clear_error();
  if (key == nullptr) return MakeError(Code::kInvalidArgument, "there is no private key in PEM form");
  return key;
}

Result<std::string> WriteCertificate(X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) return OpenSslError("writing a certificate");
  char* text = nullptr;
  auto length = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(length));
}

WallTime EndOf(const X509* certificate) { return TimeOf(X509_get0_notAfter(certificate)); }

Result<Facts> ReadCertificate(const std::string& pem) {
  PGTIER_ASSIGN_OR_RETURN(X509Ptr certificate, ParseCertificate(pem));
  Facts facts;
  facts.not_before = TimeOf(X509_get0_notBefore(certificate.get()));
  facts.not_after = EndOf(certificate.get());
  facts.names = NamesOf(certificate.get());
  facts.subject = SubjectOf(certificate.get());
  facts.fingerprint = FingerprintOf(certificate.get());
  return facts;
}

Result<std::vector<std::string>> SplitBundle(const std::string& bundle) {
  std::vector<std::string> certificates;
  BioPtr bio = Read(bundle);
  while (X509Ptr next = NextCertificate(bio.get())) {
    PGTIER_ASSIGN_OR_RETURN(std::string pem, WriteCertificate(next.get()));
    certificates.push_back(std::move(pem));
  }
  return certificates;
}

bool IsSignedBy(const std::string& certificate, const std::string& authority) {
  Result<X509Ptr> signed_one = ParseCertificate(certificate);
  Result<X509Ptr> signer = ParseCertificate(authority);
  if (!signed_one.has_value() || !signer.has_value()) return false;
  bool named = X509_check_issued(signer->get(), signed_one->get()) == X509_V_OK;
  bool verified = named && X509_verify(signed_one->get(), X509_get0_pubkey(signer->get())) == 1;
  ERR_clear_error();
  return verified;
}

bool IsKeyOf(const std::string& key, const std::string& certificate) {
  Result<X509Ptr> parsed = ParseCertificate(certificate);
  Result<KeyPtr> parsed_key = ParseKey(key);
  if (!parsed.has_value() || !parsed_key.has_value()) return false;
  bool matches = X509_check_private_key(parsed->get(), parsed_key->get()) == 1;
  ERR_clear_error();
  return matches;
}

Status VerifyServer(const std::string& chain, const std::string& trusted, const std::string& host, WallTime at) {
  StorePtr store(X509_STORE_new());
  BioPtr bundle = Read(trusted);
  while (X509Ptr next = NextCertificate(bundle.get())) X509_STORE_add_cert(store.get(), next.get());
  BioPtr presented = Read(chain);
  X509Ptr leaf = NextCertificate(presented.get());
  if (leaf == nullptr) return MakeError(Code::kUnauthenticated, "the server presents no certificate");
  StackPtr others(sk_X509_new_null());
  while (X509Ptr next = NextCertificate(presented.get())) sk_X509_push(others.get(), next.release());

  StoreContextPtr context(X509_STORE_CTX_new());
  if (X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), others.get()) != 1) return OpenSslError("verify");
  X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(parameters, std::chrono::system_clock::to_time_t(at));
  X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
  if (!host.empty()) X509_VERIFY_PARAM_set1_host(parameters, host.c_str(), host.size());
  bool good = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (good) return {};
  return MakeError(Code::kUnauthenticated, X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())));
}

bool DueForRenewal(const Facts& facts, WallTime now) {
  return now - facts.not_before >= (facts.not_after - facts.not_before) / 3 * 2;
}

}  // namespace pgtier::pki
