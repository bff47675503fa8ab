// One OpenSSL context for all connections of a client. Private to lib/http.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <mutex>
#include <utility>

#include "lib/base/result.h"
#include "lib/http/client.h"

namespace pgtier::http {

struct SslCtxFree {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using SslCtx = std::unique_ptr<SSL_CTX, SslCtxFree>;

// TLS 1.2 and above, trusting exactly the CAs of `options`. Errors: kInvalidArgument: a PEM that can't be read, or a
// key that does not fit its certificate.
Result<SslCtx> MakeSslContext(const TlsOptions& options);

// The context that new connections get; it may be replaced when a certificate is rotated. Thread-safe.
class SharedTls {
 public:
  explicit SharedTls(SslCtx context) : context_(std::move(context)) {}

  void Replace(SslCtx context) {
    std::lock_guard lock(mutex_);
    context_ = std::move(context);
  }
  // A reference that the caller owns.
  SSL_CTX* Acquire() {
    std::lock_guard lock(mutex_);
    SSL_CTX_up_ref(context_.get());
    return context_.get();
  }

 private:
  std::mutex mutex_;
  SslCtx context_;
};

}  // namespace pgtier::http
