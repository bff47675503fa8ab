#include "lib/postgres/connection.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "lib/base/sha256.h"
#include "lib/postgres/connection_impl.h"
#include "lib/postgres/sqlstate.h"

namespace pgtier::postgres {
namespace {

// A peer that vanishes without a word is noticed within about 25 seconds on an idle connection, 10 on a busy one;
// tcp_user_timeout also bounds the connect of a cancel request.
constexpr const char* kKeepIdleSeconds = "10";
constexpr const char* kKeepIntervalSeconds = "5";
constexpr const char* kKeepCount = "3";
constexpr const char* kUserTimeoutMilliseconds = "10000";
const std::string kReplication = "database";

// Certificates as a file without a name, for libpq takes a path only. It goes with this object; libpq reads it while it
// connects.
class RootCertificates {
 public:
  static Result<RootCertificates> Make(const ConnectOptions& options) {
    RootCertificates made;
    made.path_ = options.ssl_root_cert;
    if (options.ssl_root_pem.empty()) return made;
    made.fd_ = memfd_create("pgtier-ca", MFD_CLOEXEC);
    if (made.fd_ < 0) return MakeError(Code::kResourceExhausted, "no memory for a CA's certificate");
    const std::string& pem = options.ssl_root_pem;
    if (write(made.fd_, pem.data(), pem.size()) != static_cast<ssize_t>(pem.size())) {
      return MakeError(Code::kResourceExhausted, "no memory for a CA's certificate");
    }
    made.path_ = "/proc/self/fd/" + std::to_string(made.fd_);
    return made;
  }
  RootCertificates(RootCertificates&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}
  RootCertificates& operator=(RootCertificates&&) = delete;
  ~RootCertificates() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  RootCertificates() = default;
  int fd_ = -1;
  std::string path_;
};

// Keywords and values for PQconnectStartParams; empty values are left out, so that libpq's defaults hold.
class ConnectParams {
 public:
  ConnectParams(const ConnectOptions& options, const std::string& root_cert) : port_(std::to_string(options.port)) {
    Add("host", options.host);
    Add("hostaddr", options.address);
    Add("port", port_);
    Add("dbname", options.database);
    Add("user", options.user);
    Add("password", options.password);
    Add("application_name", options.application_name);
    Add("sslmode", options.ssl_mode);
    Add("sslrootcert", root_cert);
    Add("sslcert", options.ssl_cert);
    Add("sslkey", options.ssl_key);
    Add("options", options.options);
    if (options.replication) Add("replication", kReplication);
    for (auto [key, value] : {std::pair{"client_encoding", "UTF8"},
                              {"gssencmode", "disable"},
                              {"keepalives_idle", kKeepIdleSeconds},
                              {"keepalives_interval", kKeepIntervalSeconds},
                              {"keepalives_count", kKeepCount},
                              {"tcp_user_timeout", kUserTimeoutMilliseconds}}) {
      keys_.push_back(key);
      values_.push_back(value);
    }
    keys_.push_back(nullptr);
    values_.push_back(nullptr);
  }
  ConnectParams(const ConnectParams&) = delete;
  ConnectParams& operator=(const ConnectParams&) = delete;

  // expand_dbname = 0: a database named "host=evil" is a name, not a connection string.
  PGconn* Start() { return PQconnectStartParams(keys_.data(), values_.data(), 0); }

 private:
  void Add(const char* key, const std::string& value) {
    if (value.empty()) return;
    keys_.push_back(key);
    values_.push_back(value.c_str());
  }
  std::string port_;
  std::vector<const char*> keys_, values_;
};

// With PQERRORS_VERBOSE the server's refusal reads "… FATAL:  28P01: password authentication failed …"; libpq 15 offers
// no other way to the SQLSTATE of a failed connect.
std::optional<Error> RefusalIn(const std::string& message) {
  for (size_t at = message.find(":  "); at != std::string::npos; at = message.find(":  ", at + 1)) {
    size_t start = at + 3;
    if (start + 7 > message.size() || message.compare(start + 5, 2, ": ") != 0) continue;
    Error refusal = MakeSqlError(message.substr(start, 5), message.substr(start + 7));
    if (!SqlStateOf(refusal).empty()) return refusal;
  }
  return std::nullopt;
}

Error ConnectError(const char* raw, const std::string& where) {
  std::string message = OneLine(raw);
  Error error = RefusalIn(message).value_or(MakeError(Code::kUnavailable, message));
  // What libpq itself finds out about the credentials has no SQLSTATE, and PgBouncer's is that of its other refusals.
  for (const char* hint : {"no password supplied", "authentication failed"}) {
    if (error.code == Code::kUnavailable && message.find(hint) != std::string::npos)
      error.code = Code::kUnauthenticated;
  }
  return error.WithContext("connecting to " + where);
}

}  // namespace

Connection::Connection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection& Connection::operator=(Connection&&) noexcept = default;
Connection::~Connection() = default;

Result<Connection> Connection::Open(const ConnectOptions& options, Deadline deadline, std::stop_token stop) {
  Result<Connection> opened = OpenOnce(options, deadline, stop);
  if (opened.has_value() || options.other_password.empty() || opened.error().code != Code::kUnauthenticated) {
    return opened;
  }
  ConnectOptions other = options;
  other.password = options.other_password;
  return OpenOnce(other, deadline, std::move(stop));
}

Result<Connection> Connection::OpenOnce(const ConnectOptions& options, Deadline deadline, std::stop_token stop) {
  auto impl = std::make_unique<Impl>(std::move(stop));
  impl->where = options.host + ":" + std::to_string(options.port) + "/" + options.database;
  // libpq treats the zero byte as an end: part of a name or password would silently be dropped.
  for (const std::string* text : {&options.host, &options.address, &options.database, &options.user, &options.password,
                                  &options.application_name, &options.options}) {
    if (text->find('\0') != std::string::npos) {
      return MakeError(Code::kInvalidArgument, "connecting to " + options.host + ": a connect option has a zero byte");
    }
  }
  PGTIER_ASSIGN_OR_RETURN(RootCertificates root, RootCertificates::Make(options));
  impl->conn = ConnectParams(options, root.path()).Start();
  if (impl->conn == nullptr) return MakeError(Code::kResourceExhausted, "out of memory for a connection");
  PQsetErrorVerbosity(impl->conn, PQERRORS_VERBOSE);
  PQsetNoticeProcessor(
      impl->conn, [](void*, const char*) {}, nullptr);
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  while (state != PGRES_POLLING_OK) {
    if (PQstatus(impl->conn) == CONNECTION_BAD || state == PGRES_POLLING_FAILED) {
      return ConnectError(PQerrorMessage(impl->conn), impl->where);
    }
    auto waited = impl->Wait(state == PGRES_POLLING_WRITING, deadline);
    if (!waited.has_value()) return std::move(waited).error().WithContext("connecting");
    state = PQconnectPoll(impl->conn);
  }
  PQsetErrorVerbosity(impl->conn, PQERRORS_DEFAULT);
  if (PQsetnonblocking(impl->conn, 1) != 0) return impl->BrokenError();
  return Connection(std::move(impl));
}

Result<Rows> Connection::Query(const std::string& sql, const Params& params, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(impl_->MaySend());
  std::vector<const char*> values;
  values.reserve(params.size());
  for (const auto& param : params) {
    if (param.has_value() && param->find('\0') != std::string::npos) {
      return MakeError(Code::kInvalidArgument, "a parameter has a zero byte, which text can't hold");
    }
    values.push_back(param.has_value() ? param->c_str() : nullptr);
  }
  if (PQsendQueryParams(impl_->conn, sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr,
                        nullptr, 0) == 0) {
    return impl_->BrokenError();
  }
  auto flushed = impl_->Flush(deadline);
  auto answers = flushed.has_value() ? impl_->Collect(deadline) : impl_->Abandon(std::move(flushed).error());
  if (!answers.has_value()) return std::move(answers).error();
  return answers->empty() ? Rows() : std::move(answers->back());
}

Result<std::vector<Rows>> Connection::Execute(const std::string& sql, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(impl_->MaySend());
  if (sql.find('\0') != std::string::npos) return MakeError(Code::kInvalidArgument, "the script has a zero byte");
  if (PQsendQuery(impl_->conn, sql.c_str()) == 0) return impl_->BrokenError();
  auto flushed = impl_->Flush(deadline);
  if (!flushed.has_value()) return impl_->Abandon(std::move(flushed).error());
  return impl_->Collect(deadline);
}

Result<std::vector<Notification>> Connection::AwaitNotifications(Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(impl_->Ready());
  while (true) {
    // What came before the connection was lost is given first.
    bool lives = PQconsumeInput(impl_->conn) != 0;
    std::vector<Notification> came;
    while (PGnotify* notification = PQnotifies(impl_->conn)) {
      came.push_back({notification->relname, notification->extra});
      PQfreemem(notification);
    }
    if (!came.empty()) return came;
    if (!lives) return impl_->BrokenError();
    auto waited = impl_->Wait(false, deadline);
    if (waited.has_value()) continue;
    if (waited.error().code == Code::kDeadlineExceeded) return came;
    return std::move(waited).error();
  }
}

Result<bool> Connection::AwaitNotification(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto came, AwaitNotifications(deadline));
  return !came.empty();
}

bool Connection::Usable() const { return impl_ != nullptr && impl_->Ready().has_value(); }

bool Connection::InTransaction() const {
  auto state = PQtransactionStatus(impl_->conn);
  return state == PQTRANS_INTRANS || state == PQTRANS_INERROR || state == PQTRANS_ACTIVE;
}

int Connection::ServerVersion() const { return PQserverVersion(impl_->conn); }

int Connection::BackendPid() const { return PQbackendPID(impl_->conn); }

std::string Connection::Parameter(const std::string& name) const {
  const char* value = PQparameterStatus(impl_->conn, name.c_str());
  return value == nullptr ? "" : value;
}

std::string Connection::ServerCertificate() const {
  auto* ssl = static_cast<SSL*>(PQsslStruct(impl_->conn, "OpenSSL"));
  X509* certificate = ssl == nullptr ? nullptr : SSL_get1_peer_certificate(ssl);
  if (certificate == nullptr) return "";
  unsigned char* bytes = nullptr;
  int size = i2d_X509(certificate, &bytes);
  X509_free(certificate);
  std::string_view der(reinterpret_cast<char*>(bytes), static_cast<size_t>(std::max(size, 0)));
  std::string fingerprint = size > 0 ? Sha256Hex(der) : "";
  OPENSSL_free(bytes);
  return fingerprint;
}

void Connection::Close() { impl_->Break(); }

}  // namespace pgtier::postgres
