#include "lib/kube/client.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "lib/http/client.h"
#include "lib/kube/json.h"

namespace pgtier::kube {

namespace {

constexpr Duration kWatchHeaders = std::chrono::seconds(15);
constexpr Duration kWatchIdle = std::chrono::seconds(150);
constexpr Duration kFilesChecked = std::chrono::minutes(1);
constexpr Duration kExecPatience = std::chrono::seconds(60);
constexpr int kRetries = 2;

constexpr const char* kJson = "application/json";

}  // namespace

// A CA and a client certificate that are rotated in their files, or by an exec plugin.
class TlsFiles {
 public:
  TlsFiles(const Config& config, http::Client* client) : config_(config), client_(client) {}

  // Looks at the files when a minute has passed. A file that can't be read, or half of a pair, waits for the next look.
  void Refresh() {
    if (config_.ca_file.empty() && config_.cert_file.empty() && config_.key_file.empty()) return;
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || clock_.MonoNow() - checked_at_ < kFilesChecked) return;
    checked_at_ = clock_.MonoNow();
    http::TlsOptions fresh = config_.tls;
    if (!Read(config_.ca_file, &fresh.ca_pem) || !Read(config_.cert_file, &fresh.client_cert_pem) ||
        !Read(config_.key_file, &fresh.client_key_pem)) {
      return;
    }
    if (fresh.ca_pem == config_.tls.ca_pem && fresh.client_cert_pem == config_.tls.client_cert_pem &&
        fresh.client_key_pem == config_.tls.client_key_pem) {
      return;
    }
    if (client_->ReplaceTls(fresh).has_value()) config_.tls = std::move(fresh);
  }

  // A certificate that does not come from a file.
  Status Use(const ExecCredential& credential) {
    std::lock_guard lock(mutex_);
    http::TlsOptions fresh = config_.tls;
    fresh.client_cert_pem = credential.client_cert_pem;
    fresh.client_key_pem = credential.client_key_pem;
    PGTIER_RETURN_IF_ERROR(client_->ReplaceTls(fresh));
    config_.tls = std::move(fresh);
    return {};
  }

 private:
  static bool Read(const std::string& file, std::string* content) {
    if (file.empty()) return true;
    auto read = ReadFile(file);
    if (read.has_value()) *content = *std::move(read);
    return read.has_value();
  }

  SystemClock clock_;
  Config config_;
  http::Client* const client_;
  std::mutex mutex_;
  MonoTime checked_at_ = clock_.MonoNow();
};

namespace {

std::string Verb(const http::Request& request) {
  if (request.method == "PATCH") return request.content_type == "application/apply-patch+yaml" ? "apply" : "patch";
  if (request.method == "GET") return "get";
  if (request.method == "POST") return "create";
  return request.method == "PUT" ? "replace" : "delete";
}

http::Request MakeRequest(std::string method, std::string path) {
  http::Request request;
  request.method = std::move(method);
  request.path_and_query = std::move(path);
  request.accept = kJson;
  return request;
}

http::Request WithBody(http::Request request, const nlohmann::json& body, const char* content_type = kJson) {
  request.body = DumpJson(body);
  request.content_type = content_type;
  return request;
}

}  // namespace

struct Client::Impl {
  ClientOptions options;
  std::unique_ptr<http::Transport> transport;
  SystemClock clock;
  std::optional<TokenSource> token;
  std::optional<TlsFiles> tls_files;
  std::optional<ExecSource> exec;
  std::mutex exec_mutex;
  std::string exec_token;  // of the credential in use,
  int exec_number = 0;     // which is the how-manieth
  std::atomic<WriteObserver*> observer = nullptr;

  std::mutex mutex;
  std::condition_variable_any wake;
  int in_flight = 0;

  // One of the places for calls under way.
  class Slot {
   public:
    explicit Slot(Impl* impl) : impl_(impl) {}
    ~Slot() {
      if (!held_) return;
      std::lock_guard lock(impl_->mutex);
      --impl_->in_flight;
      impl_->wake.notify_one();
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    Status Take(Deadline deadline, const std::stop_token& stop) {
      std::unique_lock lock(impl_->mutex);
      auto free = [this] { return impl_->in_flight < impl_->options.max_in_flight; };
      if (!impl_->wake.wait_until(lock, stop, deadline.at(), free)) {
        return stop.stop_requested() ? MakeError(Code::kCancelled, "stopped")
                                     : MakeError(Code::kDeadlineExceeded, "too many calls to the API server under way");
      }
      ++impl_->in_flight;
      held_ = true;
      return {};
    }

   private:
    Impl* const impl_;
    bool held_ = false;
  };

  // Brings what the next connection and request are made with up to date.
  Status RefreshCredentials(Deadline deadline, const std::stop_token& stop) {
    if (tls_files.has_value()) tls_files->Refresh();
    if (!exec.has_value()) return {};
    PGTIER_ASSIGN_OR_RETURN(auto current, exec->Get(deadline, stop));
    std::lock_guard lock(exec_mutex);
    if (exec_number == current.second) return {};
    if (!current.first.client_cert_pem.empty()) PGTIER_RETURN_IF_ERROR(tls_files->Use(current.first));
    exec_token = std::move(current.first.token);
    exec_number = current.second;
    return {};
  }

  // The server took us for nobody (401). Whether another try may go better.
  bool DropCredentials() {
    if (token.has_value()) token->Drop();
    if (exec.has_value()) {
      std::lock_guard lock(exec_mutex);
      exec->Drop(exec_number);
    }
    return token.has_value() || exec.has_value();
  }

  Result<http::Response> SendOnce(const http::Request& request, Deadline deadline, const std::stop_token& stop) {
    Slot slot(this);
    PGTIER_RETURN_IF_ERROR(slot.Take(deadline, stop));
    PGTIER_RETURN_IF_ERROR(RefreshCredentials(deadline, stop));
    return transport->Send(request, deadline, stop);
  }

  // Sends, with the repeats that are always right: a token that was rotated (401), and a wait that the server asks
  // for, which means that it has done nothing yet.
  Result<std::string> Send(const http::Request& request, const std::string& what, Deadline deadline,
                           const std::stop_token& stop) {
    bool token_renewed = false;
    for (int retries = 0;;) {
      auto response = SendOnce(request, deadline, stop);
      if (!response.has_value()) return response.error().WithContext(what);
      if (response->status < 300) return std::move(response->body);
      if (response->status == 401 && DropCredentials() && !std::exchange(token_renewed, true)) continue;
      Error error = ErrorFromStatus(response->status, response->body, what);
      if (error.code != Code::kUnavailable || !response->retry_after.has_value() || retries == kRetries ||
          *response->retry_after >= deadline.Remaining()) {
        return error;
      }
      ++retries;
      if (!SleepFor(*response->retry_after, stop)) return MakeError(Code::kCancelled, what + ": stopped");
    }
  }

  // A call that changes something; `object` as WriteObserver has it.
  Result<nlohmann::json> Write(const http::Request& request, const nlohmann::json* object, const Resource& resource,
                               const ObjectKey& key, Deadline deadline, const std::stop_token& stop) {
    WriteObserver* told = observer;
    if (told == nullptr) return Call(request, resource, key, deadline, stop);
    const uint64_t id = told->BeginWrite(resource, key, object);
    Result<nlohmann::json> outcome = Call(request, resource, key, deadline, stop);
    told->EndWrite(id, outcome);
    return outcome;
  }

  Result<nlohmann::json> Call(const http::Request& request, const Resource& resource, const ObjectKey& key,
                              Deadline deadline, const std::stop_token& stop) {
    const std::string verb = Verb(request);
    const std::string what = verb + " " + std::string(resource.plural) + " " + key.ToString();
    const MonoTime begun = clock.MonoNow();
    auto body = Send(request, what, deadline, stop);
    if (options.metrics != nullptr) {
      options.metrics->Observe("pgtier_kube_request_seconds", "Calls to the Kubernetes API",
                               {{"verb", verb},
                                {"resource", std::string(resource.plural)},
                                {"outcome", std::string(body.has_value() ? "OK" : CodeName(body.error().code))}},
                               std::chrono::duration<double>(clock.MonoNow() - begun).count());
    }
    if (!body.has_value()) return std::move(body).error();
    auto document = ParseJson(*body);
    if (!document.has_value()) return MakeError(Code::kInternal, what + ": " + document.error().message);
    return *std::move(document);
  }

  Result<nlohmann::json> Apply(const Resource& resource, const nlohmann::json& object, const std::string& subresource,
                               bool force, Deadline deadline, const std::stop_token& stop) {
    nlohmann::json whole = object;
    whole["apiVersion"] = resource.ApiVersion();
    whole["kind"] = resource.kind;
    const ObjectKey key = KeyOf(object);
    auto request = MakeRequest("PATCH", resource.Path(key.namespace_, key.name, subresource) +
                                            "?fieldManager=" + PercentEncode(options.field_manager) +
                                            "&force=" + (force ? "true" : "false"));
    request.idempotent = true;
    return Write(WithBody(std::move(request), whole, "application/apply-patch+yaml"), &whole, resource, key, deadline,
                 stop);
  }
};

Result<std::unique_ptr<Client>> Client::Connect(const Config& config, const ClientOptions& options) {
  auto client = std::make_unique<Client>(nullptr, options);
  Impl* impl = client->impl_.get();
  http::ClientOptions http_options;
  http_options.base_url = config.server;
  http_options.tls = config.tls;
  http_options.user_agent = options.user_agent;
  http_options.tls.server_name = config.tls_server_name;
  if (config.exec.has_value()) {
    impl->exec.emplace(*config.exec, &impl->clock);
    http_options.bearer_token = [impl] {
      std::lock_guard lock(impl->exec_mutex);
      return impl->exec_token;
    };
  } else if (!config.token.empty() || !config.token_file.empty()) {
    impl->token.emplace(config.token, config.token_file, &impl->clock);
    http_options.bearer_token = [impl] { return impl->token->Get(); };
  }
  PGTIER_ASSIGN_OR_RETURN(auto transport, http::Client::Create(std::move(http_options)));
  impl->tls_files.emplace(config, transport.get());
  impl->transport = std::move(transport);
  return client;
}

Client::Client(std::unique_ptr<http::Transport> transport, ClientOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->transport = std::move(transport);
  impl_->options = std::move(options);
}

Client::~Client() = default;

const ClientOptions& Client::options() const { return impl_->options; }

void Client::SetWriteObserver(WriteObserver* observer) { impl_->observer = observer; }

Result<nlohmann::json> Client::Get(const Resource& resource, const ObjectKey& key, Deadline deadline,
                                   const std::stop_token& stop) {
  return impl_->Call(MakeRequest("GET", resource.Path(key.namespace_, key.name)), resource, key, deadline, stop);
}

Result<nlohmann::json> Client::List(const Resource& resource, const std::string& namespace_name,
                                    const ListOptions& options, Deadline deadline, const std::stop_token& stop) {
  std::string query = "?limit=" + std::to_string(options.limit);
  auto add = [&query](const char* name, const std::string& value) {
    if (!value.empty()) query += std::string("&") + name + "=" + PercentEncode(value);
  };
  add("labelSelector", options.label_selector);
  add("fieldSelector", options.field_selector);
  add("continue", options.continue_token);
  add("resourceVersion", options.resource_version);
  auto request = MakeRequest("GET", resource.Path(namespace_name) + query);
  if (options.metadata_only) {
    request.accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
  }
  return impl_->Call(request, resource, {namespace_name, "(list)"}, deadline, stop);
}

Result<nlohmann::json> Client::Create(const Resource& resource, const nlohmann::json& object, Deadline deadline,
                                      const std::stop_token& stop) {
  const ObjectKey key = KeyOf(object);
  auto request = MakeRequest(
      "POST", resource.Path(key.namespace_) + "?fieldManager=" + PercentEncode(impl_->options.field_manager));
  return impl_->Write(WithBody(std::move(request), object), &object, resource, key, deadline, stop);
}

Result<nlohmann::json> Client::Replace(const Resource& resource, const nlohmann::json& object, Deadline deadline,
                                       const std::stop_token& stop) {
  const ObjectKey key = KeyOf(object);
  auto request = MakeRequest(
      "PUT", resource.Path(key.namespace_, key.name) + "?fieldManager=" + PercentEncode(impl_->options.field_manager));
  return impl_->Write(WithBody(std::move(request), object), &object, resource, key, deadline, stop);
}

Result<nlohmann::json> Client::Apply(const Resource& resource, const nlohmann::json& object, bool force,
                                     Deadline deadline, const std::stop_token& stop) {
  return impl_->Apply(resource, object, {}, force, deadline, stop);
}

Result<nlohmann::json> Client::ApplyStatus(const Resource& resource, const nlohmann::json& object, Deadline deadline,
                                           const std::stop_token& stop) {
  return impl_->Apply(resource, object, "status", /*force=*/true, deadline, stop);
}

Result<nlohmann::json> Client::MergePatch(const Resource& resource, const ObjectKey& key, const nlohmann::json& patch,
                                          Deadline deadline, const std::stop_token& stop,
                                          const std::string& subresource) {
  auto request = MakeRequest("PATCH", resource.Path(key.namespace_, key.name, subresource) +
                                          "?fieldManager=" + PercentEncode(impl_->options.field_manager));
  request.idempotent = true;
  return impl_->Write(WithBody(std::move(request), patch, "application/merge-patch+json"), &patch, resource, key,
                      deadline, stop);
}

Result<nlohmann::json> Client::JsonPatch(const Resource& resource, const ObjectKey& key,
                                         const nlohmann::json& operations, Deadline deadline,
                                         const std::stop_token& stop) {
  auto request = MakeRequest("PATCH", resource.Path(key.namespace_, key.name) +
                                          "?fieldManager=" + PercentEncode(impl_->options.field_manager));
  return impl_->Write(WithBody(std::move(request), operations, "application/json-patch+json"), &operations, resource,
                      key, deadline, stop);
}

Result<nlohmann::json> Client::Delete(const Resource& resource, const ObjectKey& key, const DeleteOptions& options,
                                      Deadline deadline, const std::stop_token& stop) {
  nlohmann::json body = {{"apiVersion", "v1"}, {"kind", "DeleteOptions"}};
  if (!options.uid.empty()) body["preconditions"] = {{"uid", options.uid}};
  if (!options.propagation.empty()) body["propagationPolicy"] = options.propagation;
  return impl_->Write(WithBody(MakeRequest("DELETE", resource.Path(key.namespace_, key.name)), body), nullptr, resource,
                      key, deadline, stop);
}

Result<std::string> Client::GetRaw(const std::string& path, Deadline deadline, const std::stop_token& stop) {
  auto request = MakeRequest("GET", path);
  request.accept = "*/*";
  return impl_->Send(request, "get " + path, deadline, stop);
}

Status Client::Watch(const std::string& path_and_query, bool metadata_only, const http::OnData& on_data,
                     const std::stop_token& stop) {
  auto request = MakeRequest("GET", path_and_query);
  if (metadata_only) request.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
  PGTIER_RETURN_IF_ERROR(impl_->RefreshCredentials(Deadline::After(kExecPatience), stop));
  auto seen = [&](const http::Response& head, std::string_view chunk) {
    if (head.status == 401) impl_->DropCredentials();
    return on_data(head, chunk);
  };
  return impl_->transport->Stream(request, Deadline::After(kWatchHeaders), kWatchIdle, seen, stop);
}

}  // namespace pgtier::kube
