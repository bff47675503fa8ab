// A typed mirror of a collection: a ListWatcher that decodes into a Store.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "lib/kube/json.h"
#include "lib/kube/list_watcher.h"
#include "lib/kube/store.h"

namespace pgtier::kube {

template <typename T>
class Reflector {
 public:
  using Decode = std::function<Result<T>(const nlohmann::json& object)>;
  // An object that Decode refused. Its last good state, if any, stays in the store. On the reflector's thread.
  using OnUndecodable = std::function<void(const ObjectKey& key, const Error& error)>;

  // `client` and `metrics` (may be null) outlive this.
  Reflector(Client* client, WatchScope scope, Decode decode, typename Store<T>::OnChange on_change,
            OnUndecodable on_undecodable, Metrics* metrics = nullptr, WatchTuning tuning = {})
      : store_(std::move(on_change)),
        sink_(&store_, std::move(decode), std::move(on_undecodable)),
        watcher_(client, std::move(scope), &sink_, metrics, tuning) {}

  // Follows the collection until `stop`; give it a thread of its own.
  void Run(const std::stop_token& stop) { watcher_.Run(stop); }

  [[nodiscard]] const Store<T>& store() const { return store_; }
  [[nodiscard]] bool synced() const { return store_.synced(); }
  // As ListWatcher's.
  [[nodiscard]] Duration broken_for() const { return watcher_.broken_for(); }

 private:
  class Sink final : public WatchSink {
   public:
    Sink(Store<T>* store, Decode decode, OnUndecodable on_undecodable)
        : store_(store), decode_(std::move(decode)), on_undecodable_(std::move(on_undecodable)) {}

    void BeginList() override { store_->BeginList(); }
    void EndList() override { store_->EndList(); }
    void Erase(const nlohmann::json& object) override { store_->Erase(KeyOf(object)); }
    void Upsert(const nlohmann::json& object) override {
      ObjectKey key = KeyOf(object);
      Result<T> decoded = TryDecode(object);
      if (decoded.has_value()) {
        store_->Put(key, UidOf(object), StringAt(object, {"metadata", "resourceVersion"}), *std::move(decoded));
        return;
      }
      store_->Keep(key);
      if (on_undecodable_) on_undecodable_(key, decoded.error());
    }

   private:
    // A codec that trips over an object's shape must not take the process with it.
    Result<T> TryDecode(const nlohmann::json& object) const {
      try {
        return decode_(object);
      } catch (const nlohmann::json::exception& error) {
        return MakeError(Code::kInvalidArgument, error.what());
      }
    }

    Store<T>* const store_;
    const Decode decode_;
    const OnUndecodable on_undecodable_;
  };

  Store<T> store_;
  Sink sink_;
  ListWatcher watcher_;
};

}  // namespace pgtier::kube
