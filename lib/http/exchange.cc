#include "lib/http/exchange.h"

#include <cpprest/streams.h>
#include <openssl/err.h>

#include <charconv>
#include <utility>

namespace pgtier::http {
namespace {

// Enough to keep the network busy while a frame is decoded; a watch's memory is bounded by it.
constexpr size_t kHighWaterBytes = size_t{256} << 10;

using StreamBase = concurrency::streams::details::streambuf_state_manager<uint8_t>;

// Where the library puts a body. It may not throw: that would end the process; a failed task is what it understands.
class BodyStream final : public StreamBase {
 public:
  explicit BodyStream(std::shared_ptr<Exchange> exchange)
      : StreamBase(std::ios_base::out), exchange_(std::move(exchange)) {}

  bool can_seek() const override { return false; }
  bool has_size() const override { return false; }
  size_t buffer_size(std::ios_base::openmode) const override { return 0; }
  void set_buffer_size(size_t, std::ios_base::openmode) override {}
  size_t in_avail() const override { return 0; }
  pos_type getpos(std::ios_base::openmode) const override { return traits::eof(); }
  pos_type seekpos(pos_type, std::ios_base::openmode) override { return traits::eof(); }
  pos_type seekoff(off_type, std::ios_base::seekdir, std::ios_base::openmode) override { return traits::eof(); }
  bool acquire(uint8_t*& data, size_t& count) override {
    data = nullptr;
    count = 0;
    return false;
  }
  void release(uint8_t*, size_t) override {}

 protected:
  pplx::task<size_t> _putn(const uint8_t* data, size_t count) override { return exchange_->Write(data, count); }
  pplx::task<int_type> _putc(uint8_t byte) override {
    return exchange_->Write(&byte, 1).then([byte](size_t) { return static_cast<int_type>(byte); });
  }
  pplx::task<bool> _sync() override { return pplx::task_from_result(true); }
  uint8_t* _alloc(size_t) override { return nullptr; }
  void _commit(size_t) override {}
  pplx::task<int_type> _bumpc() override { return End(); }
  int_type _sbumpc() override { return traits::eof(); }
  pplx::task<int_type> _getc() override { return End(); }
  int_type _sgetc() override { return traits::eof(); }
  pplx::task<int_type> _nextc() override { return End(); }
  pplx::task<int_type> _ungetc() override { return End(); }
  pplx::task<size_t> _getn(uint8_t*, size_t) override { return pplx::task_from_result<size_t>(0); }
  size_t _scopy(uint8_t*, size_t) override { return 0; }

 private:
  static pplx::task<int_type> End() { return pplx::task_from_result<int_type>(traits::eof()); }

  const std::shared_ptr<Exchange> exchange_;
};

// The library puts errors of all kinds into errno's category, where their numbers mean something else.
std::string Why(const web::http::http_exception& error) {
  const int value = error.error_code().value();
  const std::string what = error.what();
  if (value == 0) return what;
  if (what.find("SSL handshake") != std::string::npos) {
    const char* reason = ERR_reason_error_string(static_cast<unsigned long>(value));  // NOLINT: OpenSSL's type
    return what + ": " + (reason == nullptr ? "broken off" : reason);
  }
  if (error.error_code() == std::errc::host_unreachable) return what + ": refused or unreachable";
  // boost::asio::ssl::error::stream_truncated and boost::asio::error::eof.
  if (value == 1 || value == 2) return what + ": closed by the peer";
  return what + ": " + error.error_code().message();
}

// The error of a task that failed; call inside a catch block.
Error CurrentError() {
  try {
    throw;
  } catch (const web::http::http_exception& error) {
    return MakeError(Code::kUnavailable, Why(error));
  } catch (const std::exception& error) {
    return MakeError(Code::kUnavailable, error.what());
  } catch (...) {
    return MakeError(Code::kInternal, "unknown exception in the HTTP library");
  }
}

std::string Header(const web::http::http_response& response, const std::string& name) {
  auto found = response.headers().find(name);
  return found == response.headers().end() ? std::string() : found->second;
}

Response HeadOf(const web::http::http_response& response) {
  Response head;
  head.status = response.status_code();
  head.content_type = Header(response, "Content-Type");
  const std::string retry_after = Header(response, "Retry-After");
  int seconds = 0;
  auto [end, error] = std::from_chars(retry_after.data(), retry_after.data() + retry_after.size(), seconds);
  if (error == std::errc() && end == retry_after.data() + retry_after.size() && seconds >= 0) {
    head.retry_after = std::chrono::seconds(seconds);
  }
  return head;
}

}  // namespace

std::shared_ptr<Exchange> Exchange::Begin(web::http::client::http_client& client, web::http::http_request request) {
  auto exchange = std::make_shared<Exchange>();
  try {
    std::shared_ptr<concurrency::streams::details::basic_streambuf<uint8_t>> body =
        std::make_shared<BodyStream>(exchange);
    request.set_response_stream(concurrency::streams::streambuf<uint8_t>(body).create_ostream());
    client.request(request, exchange->cancel_.get_token())
        .then([exchange](const pplx::task<web::http::http_response>& task) { exchange->OnHeaders(task); });
  } catch (...) {
    std::lock_guard lock(exchange->mutex_);
    exchange->failure_ = CurrentError();
    exchange->done_ = true;
  }
  return exchange;
}

void Exchange::OnHeaders(const pplx::task<web::http::http_response>& task) {
  try {
    web::http::http_response response = task.get();
    {
      std::lock_guard lock(mutex_);
      head_ = HeadOf(response);
    }
    wake_.notify_all();
    auto self = shared_from_this();
    response.content_ready().then([self](const pplx::task<web::http::http_response>& body) { self->OnBody(body); });
  } catch (...) {
    std::lock_guard lock(mutex_);
    failure_ = CurrentError();
    done_ = true;
    wake_.notify_all();
  }
}

void Exchange::OnBody(const pplx::task<web::http::http_response>& task) {
  std::optional<Error> failure;
  try {
    task.get();
  } catch (...) {
    failure = CurrentError();
  }
  std::lock_guard lock(mutex_);
  failure_ = std::move(failure);
  done_ = true;
  wake_.notify_all();
}

template <typename Ready>
Status Exchange::WaitLocked(std::unique_lock<std::mutex>& lock, const char* for_what, Deadline deadline,
                            const std::stop_token& stop, Ready ready) {
  if (wake_.wait_until(lock, stop, deadline.at(), ready)) return {};
  if (stop.stop_requested()) return MakeError(Code::kCancelled, std::string("stopped while waiting for ") + for_what);
  return MakeError(Code::kDeadlineExceeded, std::string("no ") + for_what + " in time");
}

Result<Response> Exchange::Headers(Deadline deadline, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  PGTIER_RETURN_IF_ERROR(WaitLocked(lock, "answer", deadline, stop, [&] { return head_.has_value() || done_; }));
  if (!head_.has_value()) return *failure_;
  return *head_;
}

Result<bool> Exchange::Next(std::string& piece, Deadline deadline, const std::stop_token& stop) {
  std::optional<Unacknowledged> acknowledge;
  piece.clear();
  {
    std::unique_lock lock(mutex_);
    PGTIER_RETURN_IF_ERROR(
        WaitLocked(lock, "more of the answer", deadline, stop, [&] { return !buffered_.empty() || done_; }));
    if (buffered_.empty()) {
      if (failure_.has_value()) return *failure_;
      return false;
    }
    std::swap(piece, buffered_);
    acknowledge = std::exchange(waiting_, std::nullopt);
  }
  // Outside the lock: it may run the library's next step at once.
  if (acknowledge.has_value()) acknowledge->event.set(acknowledge->count);
  return true;
}

void Exchange::Abandon() {
  std::optional<Unacknowledged> pending;
  {
    std::lock_guard lock(mutex_);
    if (done_) return;
    abandoned_ = true;
    pending = std::exchange(waiting_, std::nullopt);
  }
  if (pending.has_value()) pending->event.set_exception(std::runtime_error("abandoned"));
  cancel_.cancel();
}

pplx::task<size_t> Exchange::Write(const uint8_t* data, size_t count) {
  try {
    std::lock_guard lock(mutex_);
    if (abandoned_) return pplx::task_from_exception<size_t>(std::runtime_error("abandoned"));
    buffered_.append(reinterpret_cast<const char*>(data), count);
    wake_.notify_all();
    if (buffered_.size() < kHighWaterBytes) return pplx::task_from_result(count);
    waiting_ = Unacknowledged{{}, count};
    return pplx::create_task(waiting_->event);
  } catch (...) {
    return pplx::task_from_exception<size_t>(std::current_exception());
  }
}

}  // namespace pgtier::http
