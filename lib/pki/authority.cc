#include "lib/pki/authority.h"

#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>

#include "lib/pki/openssl.h"

namespace pgtier::pki {
namespace {

constexpr Duration kClockSkew = std::chrono::hours(1);
constexpr size_t kCommonNameLength = 64;  // RFC 5280, appendix A: ub-common-name

Result<KeyPtr> DrawKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("drawing a key");
  return key;
}

Result<std::string> WriteKey(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpenSslError("writing a key");
  }
  char* text = nullptr;
  auto length = BIO_get_mem_data(bio.get(), &text);
  return std::string(text, static_cast<size_t>(length));
}

// A certificate under construction; the first thing that OpenSSL refuses is kept, so that the calls read as a list.
class Draft {
 public:
  Draft() : certificate_(X509_new()) {
    // 127 bits: positive, and nobody can foresee it.
    std::array<unsigned char, 16> serial{};
    Must(RAND_bytes(serial.data(), serial.size()) == 1);
    serial[0] &= 0x7f;
    BIGNUM* number = BN_bin2bn(serial.data(), serial.size(), nullptr);
    Must(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate_.get())) != nullptr);
    BN_free(number);
    Must(X509_set_version(certificate_.get(), X509_VERSION_3) == 1);
  }

  void Validity(WallTime from, WallTime to) {
    time_t begin = std::chrono::system_clock::to_time_t(from);
    time_t end = std::chrono::system_clock::to_time_t(to);
    Must(ASN1_TIME_set(X509_getm_notBefore(certificate_.get()), begin) != nullptr);
    Must(ASN1_TIME_set(X509_getm_notAfter(certificate_.get()), end) != nullptr);
  }
  void Subject(const std::string& common_name) {
    X509_NAME* name = X509_get_subject_name(certificate_.get());
    const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
    Must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, text, -1, -1, 0) == 1);
  }
  void Subject(const X509_NAME* name) { Must(X509_set_subject_name(certificate_.get(), name) == 1); }
  void Key(EVP_PKEY* key) { Must(X509_set_pubkey(certificate_.get(), key) == 1); }
  void Extension(int nid, const std::string& value, X509* issuer) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer == nullptr ? certificate_.get() : issuer, certificate_.get(), nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    Must(extension != nullptr && X509_add_ext(certificate_.get(), extension, -1) == 1);
    X509_EXTENSION_free(extension);
  }
  void ExtensionsOfAuthority(X509* issuer) {
    Extension(NID_basic_constraints, "critical,CA:TRUE", issuer);
    Extension(NID_key_usage, "critical,keyCertSign,cRLSign", issuer);
    Extension(NID_subject_key_identifier, "hash", issuer);
    if (issuer != nullptr) Extension(NID_authority_key_identifier, "keyid:always", issuer);
  }
  // `issuer` is nullptr for one that signs itself.
  Result<std::string> Sign(X509* issuer, EVP_PKEY* key) {
    X509* signer = issuer == nullptr ? certificate_.get() : issuer;
    Must(X509_set_issuer_name(certificate_.get(), X509_get_subject_name(signer)) == 1);
    Must(X509_sign(certificate_.get(), key, EVP_sha256()) > 0);
    if (!good_) return OpenSslError("making a certificate");
    return WriteCertificate(certificate_.get());
  }

 private:
  void Must(bool good) { good_ = good_ && good; }
  X509Ptr certificate_;
  bool good_ = true;
};

// Names are written into a list that OpenSSL parses.
bool IsDnsName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

}  // namespace

Result<Identity> MakeAuthority(const std::string& name, WallTime now, Duration life) {
  PGTIER_ASSIGN_OR_RETURN(KeyPtr key, DrawKey());
  Draft draft;
  draft.Validity(now - kClockSkew, now + std::chrono::duration_cast<WallTime::duration>(life));
  draft.Subject(name.substr(0, kCommonNameLength));
  draft.Key(key.get());
  draft.ExtensionsOfAuthority(nullptr);
  Identity authority;
  PGTIER_ASSIGN_OR_RETURN(authority.certificate, draft.Sign(nullptr, key.get()));
  PGTIER_ASSIGN_OR_RETURN(authority.key, WriteKey(key.get()));
  return authority;
}

Result<std::string> CrossSign(const Identity& issuer, const std::string& successor, WallTime now) {
  PGTIER_ASSIGN_OR_RETURN(X509Ptr signer, ParseCertificate(issuer.certificate));
  PGTIER_ASSIGN_OR_RETURN(KeyPtr key, ParseKey(issuer.key));
  PGTIER_ASSIGN_OR_RETURN(X509Ptr subject, ParseCertificate(successor));
  Draft draft;
  draft.Validity(now - kClockSkew, std::min(EndOf(signer.get()), EndOf(subject.get())));
  draft.Subject(X509_get_subject_name(subject.get()));
  draft.Key(X509_get0_pubkey(subject.get()));
  draft.ExtensionsOfAuthority(signer.get());
  return draft.Sign(signer.get(), key.get());
}

Result<Identity> IssueServer(const Identity& authority, const std::vector<std::string>& names, WallTime now,
                             Duration life) {
  if (names.empty()) return MakeError(Code::kInvalidArgument, "a server's certificate needs a name");
  std::string alternatives;
  for (const std::string& name : names) {
    if (!IsDnsName(name)) return MakeError(Code::kInvalidArgument, "\"" + name + "\" is no DNS name");
    alternatives += (alternatives.empty() ? "DNS:" : ",DNS:") + name;
  }
  PGTIER_ASSIGN_OR_RETURN(X509Ptr signer, ParseCertificate(authority.certificate));
  PGTIER_ASSIGN_OR_RETURN(KeyPtr signing_key, ParseKey(authority.key));
  PGTIER_ASSIGN_OR_RETURN(KeyPtr key, DrawKey());
  Draft draft;
  WallTime end = now + std::chrono::duration_cast<WallTime::duration>(life);
  draft.Validity(now - kClockSkew, std::min(end, EndOf(signer.get())));
  draft.Subject(names.front().substr(0, kCommonNameLength));
  draft.Key(key.get());
  draft.Extension(NID_basic_constraints, "critical,CA:FALSE", signer.get());
  draft.Extension(NID_key_usage, "critical,digitalSignature", signer.get());
  draft.Extension(NID_ext_key_usage, "serverAuth", signer.get());
  draft.Extension(NID_subject_key_identifier, "hash", signer.get());
  draft.Extension(NID_authority_key_identifier, "keyid:always", signer.get());
  draft.Extension(NID_subject_alt_name, alternatives, signer.get());
  Identity server;
  PGTIER_ASSIGN_OR_RETURN(server.certificate, draft.Sign(signer.get(), signing_key.get()));
  PGTIER_ASSIGN_OR_RETURN(server.key, WriteKey(key.get()));
  return server;
}

}  // namespace pgtier::pki
