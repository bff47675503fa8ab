// The policies of the cluster, held as text: decoded, one takes three times as much, and there may be ten thousand.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "crds/scale_tier_policy.h"
#include "lib/kube/reflector.h"

namespace pgtier::controllers::scale_tier {

class PolicyCache {
 public:
  // A policy came, went, or was changed by a person; our own writes of status do not count. `first`: in the first list
  // after the start. On the watch's thread.
  using Wake = std::function<void(const kube::ObjectKey& key, bool first)>;

  // Both outlive this; `metrics` may be null. `namespace_` empty: all.
  PolicyCache(kube::Client* client, const std::string& namespace_, Wake wake, Metrics* metrics);

  // Follows the policies until `stop`.
  void Run(const std::stop_token& stop) { reflector_.Run(stop); }
  [[nodiscard]] bool synced() const { return reflector_.synced(); }
  // Decoded anew at each call; nullptr when there is none.
  [[nodiscard]] std::shared_ptr<const crds::ScaleTierPolicy> Get(const kube::ObjectKey& key) const;

 private:
  struct Held {
    int64_t generation = 0;
    bool deleting = false;
    std::map<std::string, std::string> annotations;  // Those of pgtier.dev.
    std::string text;
  };
  static Result<Held> Decode(const nlohmann::json& object);

  kube::Reflector<Held> reflector_;
};

}  // namespace pgtier::controllers::scale_tier
