#include "lib/kube/object_cache.h"

#include <algorithm>
#include <utility>

#include "lib/base/log.h"
#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

// A write that nobody asked after for so long: its owner is gone.
constexpr Duration kForgotten = std::chrono::minutes(10);

std::string VersionOf(const nlohmann::json& object) { return StringAt(object, {"metadata", "resourceVersion"}); }

// Whether the server says by this that nothing was written and that what we knew was right.
bool WroteNothing(Code code) {
  return code == Code::kInvalidArgument || code == Code::kPermissionDenied || code == Code::kUnauthenticated ||
         code == Code::kUnimplemented;
}

}  // namespace

Result<std::vector<nlohmann::json>> ListByLabel(Client& client, const Resource& resource, const std::string& label,
                                                const ObjectKey& owner, Deadline deadline,
                                                const std::stop_token& stop) {
  std::vector<nlohmann::json> objects;
  ListOptions options;
  options.label_selector = label + "=" + owner.name;
  do {
    PGTIER_ASSIGN_OR_RETURN(nlohmann::json page, client.List(resource, owner.namespace_, options, deadline, stop));
    if (!At(page, {"items"}).is_array()) return MakeError(Code::kInternal, "a list without items");
    for (nlohmann::json& item : page["items"]) {
      // Items of a list do not say what they are.
      item["apiVersion"] = resource.ApiVersion();
      item["kind"] = resource.kind;
      objects.push_back(std::move(item));
    }
    options.continue_token = StringAt(page, {"metadata", "continue"});
  } while (!options.continue_token.empty());
  return objects;
}

ObjectCache::ObjectCache(Client* client, ObjectCacheOptions options, Wake wake, Metrics* metrics)
    : client_(client), options_(std::move(options)), wake_(std::move(wake)), metrics_(metrics) {
  kinds_.reserve(options_.resources.size());
  for (size_t kind = 0; kind < options_.resources.size(); ++kind) {
    const Resource& resource = options_.resources[kind];
    auto reflector = std::make_unique<Reflector<Child>>(
        client_, WatchScope{resource, options_.namespace_, options_.label, "", false},
        [this](const nlohmann::json& object) { return Decode(object); },
        [this, kind](const ObjectKey& key, const ChildPtr& before, const ChildPtr& now) {
          OnChange(kind, key, before, now);
        },
        Reflector<Child>::OnUndecodable(), metrics_, options_.tuning);
    kinds_.push_back({resource, std::move(reflector), {}});
  }
  client_->SetWriteObserver(this);
}

ObjectCache::~ObjectCache() {
  client_->SetWriteObserver(nullptr);
  for (std::jthread& thread : threads_) thread.request_stop();
  threads_.clear();
}

void ObjectCache::Start() {
  for (Kind& kind : kinds_) {
    threads_.emplace_back([reflector = kind.reflector.get()](const std::stop_token& stop) { reflector->Run(stop); });
  }
}

bool ObjectCache::synced() const {
  return std::all_of(kinds_.begin(), kinds_.end(), [](const Kind& kind) { return kind.reflector->synced(); });
}

Result<ObjectCache::Child> ObjectCache::Decode(const nlohmann::json& object) const {
  Child child{StringAt(object, {"metadata", "labels", options_.label}), UidOf(object), VersionOf(object),
              DumpWithoutManagedFields(object)};
  child.text.shrink_to_fit();
  return child;
}

void ObjectCache::OnChange(size_t kind, const ObjectKey& key, const ChildPtr& before, const ChildPtr& now) {
  std::set<std::string> owners;
  if (before != nullptr) owners.insert(before->owner);
  if (now != nullptr) owners.insert(now->owner);
  {
    std::lock_guard lock(mutex_);
    auto& owned = kinds_[kind].owned;
    if (before != nullptr) {
      auto found = owned.find({key.namespace_, before->owner});
      if (found != owned.end()) {
        found->second.erase(key.name);
        if (found->second.empty()) owned.erase(found);
      }
    }
    if (now != nullptr) owned[{key.namespace_, now->owner}][key.name] = now;
    bool own = false;
    for (auto it = writes_.begin(); it != writes_.end();) {
      Write& write = it->second;
      if (write.kind != kind || write.object != key) {
        ++it;
        continue;
      }
      write.seen.insert(now == nullptr ? "" : now->version);
      // Whose it is shows when the answer is there; EndWrite wakes then.
      own = own || !write.answered || (!write.deletes && now != nullptr && now->version == write.version);
      it = write.answered && SettledLocked(write) ? writes_.erase(it) : std::next(it);
    }
    if (own) return;
  }
  for (const std::string& owner : owners) wake_({key.namespace_, owner});
}

uint64_t ObjectCache::BeginWrite(const Resource& resource, const ObjectKey& key, const nlohmann::json* object) {
  auto kind = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& each) {
    return each.resource.plural == resource.plural && each.resource.group == resource.group;
  });
  if (kind == kinds_.end()) return 0;
  Write write;
  write.kind = static_cast<size_t>(kind - kinds_.begin());
  write.object = key;
  write.deletes = object == nullptr;
  write.begun = std::chrono::steady_clock::now();
  if (object != nullptr) write.owner = StringAt(*object, {"metadata", "labels", options_.label});
  if (write.owner.empty()) {
    if (ChildPtr known = kind->reflector->store().Get(key)) write.owner = known->owner;
  }
  std::lock_guard lock(mutex_);
  std::erase_if(writes_, [&](const auto& entry) {
    return entry.second.answered && write.begun - entry.second.begun > kForgotten;
  });
  writes_.emplace(next_write_, std::move(write));
  return next_write_++;
}

void ObjectCache::EndWrite(uint64_t id, const Result<nlohmann::json>& outcome) {
  ObjectKey owner;
  {
    std::lock_guard lock(mutex_);
    auto found = writes_.find(id);
    if (found == writes_.end()) return;
    Write& write = found->second;
    write.answered = true;
    if (outcome.has_value()) {
      write.certain = true;
      // A deletion that is done at once is answered by a Status.
      if (StringAt(*outcome, {"kind"}) != "Status") write.version = VersionOf(*outcome);
    }
    // What another has written meanwhile.
    std::set<std::string> others = write.seen;
    if (!write.deletes) others.erase(write.version);
    if (!others.empty()) owner = {write.object.namespace_, write.owner};
    bool nothing = !outcome.has_value() && WroteNothing(outcome.error().code);
    if (nothing || SettledLocked(write)) writes_.erase(found);
  }
  if (!owner.name.empty()) wake_(owner);
}

// Whether the cache holds what was written, or something later.
bool ObjectCache::SettledLocked(const Write& write) const {
  if (!write.certain) return false;
  if (write.seen.contains(write.version) || (write.deletes && write.seen.contains(""))) return true;
  const auto& owned = kinds_[write.kind].owned;
  auto found = owned.find({write.object.namespace_, write.owner});
  const bool none = found == owned.end() || !found->second.contains(write.object.name);
  if (none) return write.deletes;
  // An apply that changes nothing makes no new version, and no event.
  return !write.version.empty() && found->second.find(write.object.name)->second->version == write.version;
}

// Why the cache can't answer for this; nullptr: it can.
const char* ObjectCache::WhyNotLocked(size_t kind, const ObjectKey& owner) const {
  const Reflector<Child>& reflector = *kinds_[kind].reflector;
  if (!reflector.synced()) return "not_synced";
  if (reflector.broken_for() > options_.patience) return "watch_broken";
  for (const auto& [id, write] : writes_) {
    if (write.kind == kind && write.object.namespace_ == owner.namespace_ &&
        (write.owner.empty() || write.owner == owner.name)) {
      return "own_writes";
    }
  }
  return nullptr;
}

Result<std::vector<ObjectCache::Object>> ObjectCache::Read(const ObjectKey& owner, Deadline deadline,
                                                           const std::stop_token& stop) {
  std::vector<std::pair<size_t, ChildPtr>> held;
  std::vector<std::pair<size_t, const char*>> asked;
  uint64_t up_to = 0;
  {
    std::lock_guard lock(mutex_);
    up_to = next_write_;
    for (size_t kind = 0; kind < kinds_.size(); ++kind) {
      if (const char* why = WhyNotLocked(kind, owner)) {
        asked.emplace_back(kind, why);
        continue;
      }
      auto found = kinds_[kind].owned.find(owner);
      if (found == kinds_[kind].owned.end()) continue;
      for (const auto& [name, child] : found->second) held.emplace_back(kind, child);
    }
  }
  std::vector<Object> objects;
  for (const auto& [kind, child] : held) {
    PGTIER_ASSIGN_OR_RETURN(nlohmann::json object, ParseJson(child->text));
    objects.push_back({&kinds_[kind].resource, std::move(object)});
  }
  for (const auto& [kind, why] : asked) {
    const Resource& resource = kinds_[kind].resource;
    if (metrics_ != nullptr) {
      metrics_->Increment("pgtier_cache_misses_total", "Lists asked of the API server, because the cache can't answer",
                          {{"resource", std::string(resource.plural)}, {"reason", why}});
    }
    PGTIER_ASSIGN_OR_RETURN(std::vector<nlohmann::json> listed,
                            ListByLabel(*client_, resource, options_.label, owner, deadline, stop));
    SettleBy(kind, owner, up_to, listed);
    for (nlohmann::json& object : listed) objects.push_back({&resource, std::move(object)});
  }
  return objects;
}

// Forgets writes from before the list when the cache holds what the list has.
void ObjectCache::SettleBy(size_t kind, const ObjectKey& owner, uint64_t up_to,
                           const std::vector<nlohmann::json>& listed) {
  std::lock_guard lock(mutex_);
  static const ByName kNone;
  auto found = kinds_[kind].owned.find(owner);
  const ByName& held = found == kinds_[kind].owned.end() ? kNone : found->second;
  if (held.size() != listed.size()) return;
  for (const nlohmann::json& object : listed) {
    auto child = held.find(KeyOf(object).name);
    if (child == held.end() || child->second->uid != UidOf(object) || child->second->version != VersionOf(object)) {
      return;
    }
  }
  std::erase_if(writes_, [&](const auto& entry) {
    const Write& write = entry.second;
    return entry.first < up_to && write.answered && write.kind == kind && write.object.namespace_ == owner.namespace_ &&
           (write.owner.empty() || write.owner == owner.name);
  });
}

}  // namespace pgtier::kube
