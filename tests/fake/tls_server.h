// A server that speaks TLS with a certificate of its own for 127.0.0.1, answers every request alike, and keeps what it
// was asked. One connection at a time.
#pragma once

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "tests/fake/loopback.h"

namespace pgtier::fake {

class TlsServer {
 public:
  // Every answer is 200 with `body`.
  explicit TlsServer(std::string body) : body_(std::move(body)), context_(SSL_CTX_new(TLS_server_method())) {
    MakeCertificate();
    acceptor_ = std::jthread([this] { Accept(); });
  }
  ~TlsServer() {
    listener_.Stop();
    acceptor_.join();
    SSL_CTX_free(context_);
  }
  TlsServer(const TlsServer&) = delete;
  TlsServer& operator=(const TlsServer&) = delete;

  [[nodiscard]] std::string url() const { return "https://127.0.0.1:" + std::to_string(listener_.port()); }
  // Its certificate, which is its own CA.
  [[nodiscard]] const std::string& ca_pem() const { return ca_pem_; }
  // The last request's head; empty: none came through.
  [[nodiscard]] std::string asked() {
    std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  void MakeCertificate() {
    constexpr long kDay = 86400;  // NOLINT: OpenSSL's type
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kDay);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kDay);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* name = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
    X509_set_issuer_name(certificate.get(), name);
    for (auto [id, value] :
         {std::pair{NID_basic_constraints, "critical,CA:TRUE"}, std::pair{NID_subject_alt_name, "IP:127.0.0.1"}}) {
      X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, id, value);
      X509_add_ext(certificate.get(), extension, -1);
      X509_EXTENSION_free(extension);
    }
    X509_sign(certificate.get(), key.get(), EVP_sha256());
    SSL_CTX_use_certificate(context_, certificate.get());
    SSL_CTX_use_PrivateKey(context_, key.get());
    std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), BIO_free);
    PEM_write_bio_X509(out.get(), certificate.get());
    char* text = nullptr;
    auto size = static_cast<size_t>(BIO_get_mem_data(out.get(), &text));
    ca_pem_.assign(text, size);
  }

  void Accept() {
    while (true) {
      int descriptor = listener_.Accept();
      if (descriptor < 0) return;
      timeval patience{5, 0};
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
      SSL* session = SSL_new(context_);
      SSL_set_fd(session, descriptor);
      if (SSL_accept(session) == 1) Answer(session);
      SSL_shutdown(session);
      SSL_free(session);
      close(descriptor);
    }
  }

  void Answer(SSL* session) {
    std::string request;
    char bytes[4096];
    while (request.find("\r\n\r\n") == std::string::npos) {
      int count = SSL_read(session, bytes, sizeof(bytes));
      if (count <= 0) return;
      request.append(bytes, static_cast<size_t>(count));
    }
    {
      std::lock_guard lock(mutex_);
      asked_ = request;
    }
    std::string answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
                         std::to_string(body_.size()) + "\r\n\r\n" + body_;
    SSL_write(session, answer.data(), static_cast<int>(answer.size()));
  }

  const std::string body_;
  SSL_CTX* context_;
  std::string ca_pem_;
  const LoopbackListener listener_;
  std::mutex mutex_;
  std::string asked_;
  std::jthread acceptor_;
};

}  // namespace pgtier::fake
