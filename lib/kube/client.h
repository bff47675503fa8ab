// The Kubernetes API, one call a method. Objects are JSON documents here; callers decode them into their own types.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/metrics.h"
#include "lib/base/result.h"
#include "lib/http/transport.h"
#include "lib/kube/config.h"
#include "lib/kube/resource.h"

namespace pgtier::kube {

// The empty initialisers let callers name only the members they set.
struct ListOptions {
  std::string label_selector = {};
  std::string field_selector = {};
  int limit = 500;                  // objects a page; 0: all at once
  std::string continue_token = {};  // metadata.continue of the page before
  std::string resource_version = {};
  bool metadata_only = false;  // PartialObjectMetadataList
};

struct DeleteOptions {
  std::string uid = {};          // only when the object is still this one (else kAborted); empty: whichever it is
  std::string propagation = {};  // Foreground, Background, Orphan; empty: the resource's own default
};

struct ClientOptions {
  // Owner of the fields that Apply and Patch write.
  std::string field_manager = "pgtier";
  std::string user_agent = "pgtier";
  // Calls under way at once; more wait. Watches don't count. The server's Priority and Fairness does the rest.
  int max_in_flight = 16;
  // May be null; outlives the client. Gets pgtier_kube_request_seconds by verb, resource and outcome.
  Metrics* metrics = nullptr;
};

// Learns of each write, so that a cache can tell whether it has seen it. Called on the writing threads.
class WriteObserver {
 public:
  virtual ~WriteObserver() = default;
  // Before the request is sent. `object`: what is sent, or null for a deletion. Gives a name for EndWrite.
  virtual uint64_t BeginWrite(const Resource& resource, const ObjectKey& key, const nlohmann::json* object) = 0;
  // With the server's answer, or the lack of one.
  virtual void EndWrite(uint64_t id, const Result<nlohmann::json>& outcome) = 0;
};

// Thread-safe; every method blocks until answered, `deadline` or `stop`. Errors of all of them:
//   kNotFound           404
//   kAlreadyExists      409 AlreadyExists
//   kAborted            409 otherwise: read again and try again
//   kFailedPrecondition 410: a resourceVersion or continue token has expired; list again
//   kInvalidArgument    400, 413, 422, with the server's words
//   kPermissionDenied   403
//   kUnauthenticated    401, after one more try with a token read afresh
//   kUnimplemented      405, 406, 415
//   kUnavailable        429, 5xx, no connection. A Retry-After is waited for at most twice, inside the deadline.
//   kDeadlineExceeded   504, or `deadline`
//   kCancelled          `stop`
//   kInternal           an answer that is not JSON
class Client {
 public:
  // A client on the network; keeps its token, CA and certificate fresh when they come from files.
  static Result<std::unique_ptr<Client>> Connect(const Config& config, const ClientOptions& options = {});
  // On any transport: tests.
  Client(std::unique_ptr<http::Transport> transport, ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] Result<nlohmann::json> Get(const Resource& resource, const ObjectKey& key, Deadline deadline,
                                           const std::stop_token& stop = {});
  // One page: a List document with `items` and, when there is more, `metadata.continue`.
  // `namespace_name` empty: all namespaces.
  [[nodiscard]] Result<nlohmann::json> List(const Resource& resource, const std::string& namespace_name,
                                            const ListOptions& options, Deadline deadline,
                                            const std::stop_token& stop = {});
  // Namespace and name come from the object's metadata here and below. Not repeated when the connection breaks, so
  // kUnavailable leaves open whether the object was made.
  [[nodiscard]] Result<nlohmann::json> Create(const Resource& resource, const nlohmann::json& object, Deadline deadline,
                                              const std::stop_token& stop = {});
  // PUT: the object as it is to be, with the resourceVersion it was read at (kAborted when it has moved on).
  [[nodiscard]] Result<nlohmann::json> Replace(const Resource& resource, const nlohmann::json& object,
                                               Deadline deadline, const std::stop_token& stop = {});
  // Server-side apply of the fields in `object` (apiVersion and kind are filled in), creating it if need be. With
  // `force` fields of other managers are taken over: only where we are the sole owner; without it that is kAborted.
  [[nodiscard]] Result<nlohmann::json> Apply(const Resource& resource, const nlohmann::json& object, bool force,
                                             Deadline deadline, const std::stop_token& stop = {});
  // The same on the status subresource; the object must exist. Forced: only we write our status.
  [[nodiscard]] Result<nlohmann::json> ApplyStatus(const Resource& resource, const nlohmann::json& object,
                                                   Deadline deadline, const std::stop_token& stop = {});
  // RFC 7386: members replace, null removes.
  [[nodiscard]] Result<nlohmann::json> MergePatch(const Resource& resource, const ObjectKey& key,
                                                  const nlohmann::json& patch, Deadline deadline,
                                                  const std::stop_token& stop = {},
                                                  const std::string& subresource = {});
  // RFC 6902. A `test` that fails is kInvalidArgument (the server says 422).
  [[nodiscard]] Result<nlohmann::json> JsonPatch(const Resource& resource, const ObjectKey& key,
                                                 const nlohmann::json& operations, Deadline deadline,
                                                 const std::stop_token& stop = {});
  // Gives the object as it was last, or a Status document.
  [[nodiscard]] Result<nlohmann::json> Delete(const Resource& resource, const ObjectKey& key,
                                              const DeleteOptions& options, Deadline deadline,
                                              const std::stop_token& stop = {});
  // GET of a path outside the resources: /version, /readyz?verbose. The body as it is.
  [[nodiscard]] Result<std::string> GetRaw(const std::string& path, Deadline deadline,
                                           const std::stop_token& stop = {});

  // A watch's stream; the Reflector's way in. Headers within 15 s, then something within 150 s (bookmarks come every
  // 60 s, so a dead peer shows in 150 s). Not counted as a call under way.
  [[nodiscard]] Status Watch(const std::string& path_and_query, bool metadata_only, const http::OnData& on_data,
                             const std::stop_token& stop);

  [[nodiscard]] const ClientOptions& options() const;

  // Who is told of writes from now on; null: nobody. It outlives the writes that it was told of.
  void SetWriteObserver(WriteObserver* observer);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What an answer of 400 and above means: the code by the table above, the message by the server's Status document
// when `body` is one. `what` begins the message: "get pods a/b".
Error ErrorFromStatus(int http_status, std::string_view body, std::string_view what);

}  // namespace pgtier::kube
