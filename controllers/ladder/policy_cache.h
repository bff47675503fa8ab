// The policies of one kind in the cluster, held as text: decoded, one takes three times as much, and there may be ten
// thousand.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "crds/ladder.h"
#include "lib/base/log.h"
#include "lib/kube/json.h"
#include "lib/kube/reflector.h"

namespace pgtier::controllers {

// `Policy` has a `meta` of type crds::Meta.
template <typename Policy>
class PolicyCache {
 public:
  using Decoder = Result<Policy> (*)(const nlohmann::json& object);
  // A policy came, went, or was changed by a person; our own writes of status do not count. `first`: in the first list
  // after the start. On the watch's thread.
  using Wake = std::function<void(const kube::ObjectKey& key, bool first)>;

  // `client` and `metrics` outlive this; `metrics` may be null. `namespace_` empty: all.
  PolicyCache(kube::Client* client, const kube::Resource& resource, Decoder decode, const std::string& namespace_,
              Wake wake, Metrics* metrics)
      : decode_(decode),
        reflector_(
            client, kube::WatchScope{resource, namespace_, "", "", false},
            [decode](const nlohmann::json& object) { return Hold(decode, object); },
            [this, wake = std::move(wake)](const kube::ObjectKey& key, const auto& before, const auto& now) {
              bool same = before != nullptr && now != nullptr && before->generation == now->generation &&
                          before->annotations == now->annotations && before->deleting == now->deleting;
              if (!same) wake(key, !reflector_.synced());
            },
            [](const kube::ObjectKey& key, const Error& error) {
              log::Warn("a policy cannot be decoded", {{"policy", key.ToString()}, {"error", error.message}});
            },
            metrics) {}

  // Follows the policies until `stop`.
  void Run(const std::stop_token& stop) { reflector_.Run(stop); }
  [[nodiscard]] bool synced() const { return reflector_.synced(); }

  // Decoded anew at each call; nullptr when there is none.
  [[nodiscard]] std::shared_ptr<const Policy> Get(const kube::ObjectKey& key) const {
    auto held = reflector_.store().Get(key);
    if (held == nullptr) return nullptr;
    Result<nlohmann::json> object = kube::ParseJson(held->text);
    Result<Policy> policy = object.has_value() ? decode_(*object) : Result<Policy>(object.error());
    if (policy.has_value()) return std::make_shared<const Policy>(*std::move(policy));
    log::Error("a policy that was decoded once cannot be decoded", {{"error", policy.error().message}});
    return nullptr;
  }

 private:
  struct Held {
    int64_t generation = 0;
    bool deleting = false;
    std::map<std::string, std::string> annotations;  // Those of pgtier.dev.
    std::string text;
  };

  // The whole of it is decoded here, too, so that what is held can be.
  static Result<Held> Hold(Decoder decode, const nlohmann::json& object) {
    PGTIER_ASSIGN_OR_RETURN(Policy policy, decode(object));
    Held held{policy.meta.generation, policy.meta.deleting, std::move(policy.meta.annotations),
              kube::DumpWithoutManagedFields(object)};
    held.text.shrink_to_fit();  // What a text grew by would be kept ten thousand times.
    return held;
  }

  const Decoder decode_;
  kube::Reflector<Held> reflector_;
};

}  // namespace pgtier::controllers
