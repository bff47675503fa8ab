// The typed objects that a reflector keeps up to date. No JSON stays: 10,000 policies must fit in 100 MiB.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "lib/kube/resource.h"

namespace pgtier::kube {

// Thread-safe for readers; one writer, the reflector. Objects are immutable and shared: a reader's copy stays as it
// was.
template <typename T>
class Store {
 public:
  using Ptr = std::shared_ptr<const T>;
  // `before` null: came; `now` null: went. Called on the reflector's thread without the lock, after the store has
  // changed; must not block. An object that was deleted and made again (another UID) between two looks is reported
  // as gone and come, in that order.
  using OnChange = std::function<void(const ObjectKey& key, const Ptr& before, const Ptr& now)>;

  explicit Store(OnChange on_change = {}) : on_change_(std::move(on_change)) {}

  // Null when there is none.
  [[nodiscard]] Ptr Get(const ObjectKey& key) const {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : found->second.object;
  }

  // All objects, in no order.
  [[nodiscard]] std::vector<std::pair<ObjectKey, Ptr>> List() const {
    std::lock_guard lock(mutex_);
    std::vector<std::pair<ObjectKey, Ptr>> objects;
    objects.reserve(entries_.size());
    for (const auto& [key, entry] : entries_) {
      if (entry.object != nullptr) objects.emplace_back(key, entry.object);
    }
    return objects;
  }

  // Whether the first list is complete, with the change callbacks for all of it done. Stays true.
  [[nodiscard]] bool synced() const {
    std::lock_guard lock(mutex_);
    return synced_;
  }

  // --- The reflector's side.

  // A list begins: what is not put again until EndList is gone.
  void BeginList() { ++generation_; }

  void Put(const ObjectKey& key, std::string uid, std::string resource_version, T object) {
    Ptr before;
    auto now = std::make_shared<const T>(std::move(object));
    bool replaced = false;
    {
      std::lock_guard lock(mutex_);
      Entry& entry = entries_[key];
      entry.generation = generation_;
      // A list names again what is known already; versions are opaque, so equality only.
      if (entry.object != nullptr && entry.uid == uid && entry.resource_version == resource_version) return;
      before = std::exchange(entry.object, now);
      replaced = before != nullptr && entry.uid != uid;
      entry.uid = std::move(uid);
      entry.resource_version = std::move(resource_version);
    }
    if (replaced) {
      Report(key, before, nullptr);
      before = nullptr;
    }
    Report(key, before, now);
  }

  // Seen but not decodable: what was known of it stays.
  void Keep(const ObjectKey& key) {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(key);
    if (found != entries_.end()) found->second.generation = generation_;
  }

  void Erase(const ObjectKey& key) {
    Ptr before;
    {
      std::lock_guard lock(mutex_);
      auto found = entries_.find(key);
      if (found == entries_.end()) return;
      before = std::move(found->second.object);
      entries_.erase(found);
    }
    Report(key, before, nullptr);
  }

  void EndList() {
    std::vector<ObjectKey> gone;
    {
      std::lock_guard lock(mutex_);
      for (const auto& [key, entry] : entries_) {
        if (entry.generation != generation_) gone.push_back(key);
      }
    }
    for (const ObjectKey& key : gone) Erase(key);
    std::lock_guard lock(mutex_);
    synced_ = true;
  }

 private:
  struct Entry {
    std::string uid;
    std::string resource_version;
    Ptr object;
    unsigned generation = 0;
  };

  void Report(const ObjectKey& key, const Ptr& before, const Ptr& now) const {
    if (on_change_) on_change_(key, before, now);
  }

  const OnChange on_change_;
  mutable std::mutex mutex_;
  std::unordered_map<ObjectKey, Entry> entries_;
  unsigned generation_ = 0;  // touched by the reflector's thread only
  bool synced_ = false;
};

}  // namespace pgtier::kube
