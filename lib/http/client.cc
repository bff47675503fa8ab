#include "lib/http/client.h"

#include <cpprest/http_client.h>
#include <cpprest/producerconsumerstream.h>
#include <pplx/threadpool.h>

#include <boost/asio/ssl/context.hpp>
#include <mutex>
#include <utility>
#include <vector>

#include "lib/http/exchange.h"
#include "lib/http/tls_context.h"

namespace pgtier::http {
namespace {

// The library's own timeout, out of the way of every deadline of ours (exchange.h).
// The library keeps a buffer of that size a connection; 64 KiB is its default.
constexpr size_t kPieceBytes = size_t{16} << 10;
constexpr auto kLibraryTimeout = std::chrono::hours(1);
constexpr size_t kIoThreads = 8;

using Bytes = concurrency::streams::producer_consumer_buffer<uint8_t>;

// A body that can't be rewound: the library then reports a closed connection rather than sending it once more.
concurrency::streams::istream OneWayBody(const std::string& body) {
  Bytes buffer;
  // Completes at once: this buffer takes everything.
  buffer.putn_nocopy(reinterpret_cast<const uint8_t*>(body.data()), body.size()).wait();
  buffer.close(std::ios_base::out).wait();
  return buffer.create_istream();
}

}  // namespace

void InitialiseThreads() {
  static std::once_flag once;
  std::call_once(once, [] {
    try {
      crossplat::threadpool::initialize_with_threads(kIoThreads);
    } catch (const std::exception&) {
      // Something used the library before: its pool is there, with its own number of threads.
    }
  });
}

struct Client::Impl {
  ClientOptions options;
  // Shared, because connections outlive the client while the pool finishes with them.
  std::shared_ptr<SharedTls> tls;
  std::unique_ptr<web::http::client::http_client> client;

  [[nodiscard]] web::http::http_request Build(const Request& request) const;
  [[nodiscard]] Result<std::shared_ptr<Exchange>> Begin(const Request& request) const;
};

namespace {

// Breaks the exchange off when its caller leaves early.
class AbandonGuard {
 public:
  explicit AbandonGuard(Exchange* exchange) : exchange_(exchange) {}
  ~AbandonGuard() { exchange_->Abandon(); }
  AbandonGuard(const AbandonGuard&) = delete;
  AbandonGuard& operator=(const AbandonGuard&) = delete;

 private:
  Exchange* const exchange_;
};

}  // namespace

web::http::http_request Client::Impl::Build(const Request& request) const {
  web::http::http_request message(request.method);
  message.set_request_uri(request.path_and_query);
  auto& headers = message.headers();
  headers.add("User-Agent", options.user_agent);
  if (!options.tls.server_name.empty()) headers.add("Host", options.tls.server_name);
  if (!request.accept.empty()) headers.add("Accept", request.accept);
  for (const auto& [name, value] : request.headers) headers.add(name, value);
  if (options.bearer_token) {
    const std::string token = options.bearer_token();
    if (!token.empty()) headers.add("Authorization", "Bearer " + token);
  }
  if (!MayRepeat(request)) {
    message.set_body(OneWayBody(request.body), request.body.size(), request.content_type);
  } else if (!request.body.empty()) {
    // As bytes: the library reads strings through a cast that is undefined behaviour.
    message.set_body(std::vector<unsigned char>(request.body.begin(), request.body.end()));
    headers.set_content_type(request.content_type);
  }
  return message;
}

Result<std::shared_ptr<Exchange>> Client::Impl::Begin(const Request& request) const {
  // A line break in any of these would begin another header or request.
  auto broken = [](const std::string& text) { return text.find_first_of("\r\n") != std::string::npos; };
  bool bad = request.path_and_query.empty() || request.path_and_query.front() != '/' ||
             broken(request.path_and_query) || broken(request.content_type) || broken(request.accept);
  for (const auto& [name, value] : request.headers) bad = bad || broken(name) || broken(value);
  if (bad) return MakeError(Code::kInvalidArgument, "malformed HTTP request");
  try {
    return Exchange::Begin(*client, Build(request));
  } catch (const std::exception& error) {
    return MakeError(Code::kInvalidArgument, std::string("HTTP request: ") + error.what());
  }
}

Result<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  InitialiseThreads();
  auto impl = std::make_unique<Impl>();
  PGTIER_ASSIGN_OR_RETURN(SslCtx context, MakeSslContext(options.tls));
  impl->tls = std::make_shared<SharedTls>(std::move(context));
  try {
    const web::http::uri base(options.base_url);
    if ((base.scheme() != "https" && base.scheme() != "http") || base.host().empty()) {
      return MakeError(Code::kInvalidArgument, "not an http(s) URL: " + options.base_url);
    }
    if (base.host().front() == '[') {
      return MakeError(Code::kUnimplemented,
                       "IPv6 literals in URLs (cpprestsdk can't resolve them); use a name: " + options.base_url);
    }
    web::http::client::http_client_config config;
    config.set_timeout(kLibraryTimeout);
    config.set_max_redirects(0);
    config.set_chunksize(kPieceBytes);
    // The library makes a context a connection, which trusts the system's CAs beside ours and costs a megabyte. Ours
    // takes its place.
    config.set_ssl_context_callback(
        [tls = impl->tls](boost::asio::ssl::context& theirs) { theirs = boost::asio::ssl::context(tls->Acquire()); });
    impl->client = std::make_unique<web::http::client::http_client>(base, config);
  } catch (const std::exception& error) {
    return MakeError(Code::kInvalidArgument, options.base_url + ": " + error.what());
  }
  impl->options = std::move(options);
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Status Client::ReplaceTls(const TlsOptions& tls) {
  PGTIER_ASSIGN_OR_RETURN(SslCtx fresh, MakeSslContext(tls));
  impl_->tls->Replace(std::move(fresh));
  return {};
}

Result<Response> Client::Send(const Request& request, Deadline deadline, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(std::shared_ptr<Exchange> exchange, impl_->Begin(request));
  AbandonGuard guard(exchange.get());
  PGTIER_ASSIGN_OR_RETURN(Response response, exchange->Headers(deadline, stop));
  std::string piece;
  while (true) {
    PGTIER_ASSIGN_OR_RETURN(const bool more, exchange->Next(piece, deadline, stop));
    if (!more) return response;
    if (response.body.size() + piece.size() > impl_->options.max_body_bytes) {
      return MakeError(Code::kResourceExhausted,
                       "answer is longer than " + std::to_string(impl_->options.max_body_bytes) + " bytes");
    }
    response.body += piece;
  }
}

Status Client::Stream(const Request& request, Deadline headers_deadline, Duration idle_limit, const OnData& on_data,
                      const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(std::shared_ptr<Exchange> exchange, impl_->Begin(request));
  AbandonGuard guard(exchange.get());
  PGTIER_ASSIGN_OR_RETURN(const Response head, exchange->Headers(headers_deadline, stop));
  PGTIER_RETURN_IF_ERROR(on_data(head, {}));
  std::string piece;
  while (true) {
    PGTIER_ASSIGN_OR_RETURN(const bool more, exchange->Next(piece, Deadline::After(idle_limit), stop));
    if (!more) return {};
    PGTIER_RETURN_IF_ERROR(on_data(head, piece));
  }
}

}  // namespace pgtier::http
