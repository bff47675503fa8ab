// Objects of several resources that carry one label, held by watches and found by the label's value. What is read here
// is never older than what this process has written.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "lib/kube/client.h"
#include "lib/kube/reflector.h"

namespace pgtier::kube {

struct ObjectCacheOptions {
  std::vector<Resource> resources;
  std::string namespace_ = {};  // empty: all
  // The objects that are held are those that have this label. Its value names their owner, in their own namespace.
  std::string label;
  // A watch that has been broken for longer is not relied on: what it would tell is asked of the API server.
  Duration patience = std::chrono::seconds(10);
  WatchTuning tuning = {};
};

// Own writes: the answer to a write comes on another connection than the watch, so the cache may lag behind it, and a
// pass that acted on what it held before would do things twice. Each write is therefore noted from its beginning on,
// with every version that the watch brings meanwhile. Until the watch has brought the version written, reads of that
// owner and kind are asked of the API server, as without a cache. Versions are opaque, so equality only; a write whose
// outcome is not known, or whose version the watch skipped, is settled once the API server's list equals the cache.
class ObjectCache final : public WriteObserver {
 public:
  // Called on a watch's thread when something of this owner has changed, but for what this process wrote itself.
  using Wake = std::function<void(const ObjectKey& owner)>;

  // All outlive this; `metrics` may be null. Every write of `client` from now on is followed.
  ObjectCache(Client* client, ObjectCacheOptions options, Wake wake, Metrics* metrics);
  // Stops the watches; no write of the client may be under way.
  ~ObjectCache() override;
  ObjectCache(const ObjectCache&) = delete;
  ObjectCache& operator=(const ObjectCache&) = delete;

  // Begins to watch: one thread and connection a resource.
  void Start();
  // Whether every first list is complete.
  [[nodiscard]] bool synced() const;

  struct Object {
    const Resource* resource = nullptr;  // as long as the cache lives
    nlohmann::json object;               // whole but for metadata.managedFields
  };
  // Everything of that owner. Asks the API server for the kinds that the cache can't answer for: not listed yet, the
  // watch broken, own writes not seen. Errors: those of Client::List, then.
  [[nodiscard]] Result<std::vector<Object>> Read(const ObjectKey& owner, Deadline deadline,
                                                 const std::stop_token& stop);

  // --- The client's side.
  uint64_t BeginWrite(const Resource& resource, const ObjectKey& key, const nlohmann::json* object) override;
  void EndWrite(uint64_t id, const Result<nlohmann::json>& outcome) override;

 private:
  struct Child {
    std::string owner;
    std::string uid;
    std::string version;
    std::string text;  // a third of what a document of nodes takes
  };
  using ChildPtr = Store<Child>::Ptr;
  using ByName = std::map<std::string, ChildPtr, std::less<>>;

  struct Kind {
    Resource resource;
    std::unique_ptr<Reflector<Child>> reflector;
    std::unordered_map<ObjectKey, ByName> owned;  // by owner
  };
  // A write that the cache need not have seen yet.
  struct Write {
    size_t kind = 0;
    ObjectKey object;
    std::string owner;  // empty: not known, so it may be anyone's in that namespace
    bool answered = false;
    bool certain = false;  // the answer says what came of it
    bool deletes = false;
    std::string version;              // what the answer says is there now; empty: nothing
    std::set<std::string> seen = {};  // versions that the watch has brought since its beginning; "": it went
    MonoTime begun{};
  };

  Result<Child> Decode(const nlohmann::json& object) const;
  void OnChange(size_t kind, const ObjectKey& key, const ChildPtr& before, const ChildPtr& now);
  [[nodiscard]] bool SettledLocked(const Write& write) const;
  [[nodiscard]] const char* WhyNotLocked(size_t kind, const ObjectKey& owner) const;
  Result<std::vector<nlohmann::json>> List(const Resource& resource, const ObjectKey& owner, Deadline deadline,
                                           const std::stop_token& stop) const;
  void SettleBy(size_t kind, const ObjectKey& owner, uint64_t up_to, const std::vector<nlohmann::json>& listed);

  Client* const client_;
  const ObjectCacheOptions options_;
  const Wake wake_;
  Metrics* const metrics_;
  mutable std::mutex mutex_;
  std::vector<Kind> kinds_;
  std::map<uint64_t, Write> writes_;
  uint64_t next_write_ = 1;
  std::vector<std::jthread> threads_;
};

// Everything in the owner's namespace whose `label` names it, asked of the API server, with apiVersion and kind.
Result<std::vector<nlohmann::json>> ListByLabel(Client& client, const Resource& resource, const std::string& label,
                                                const ObjectKey& owner, Deadline deadline, const std::stop_token& stop);

}  // namespace pgtier::kube
