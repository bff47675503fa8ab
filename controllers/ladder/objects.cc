#include "controllers/ladder/objects.h"

#include <algorithm>

#include "lib/base/base64.h"
#include "lib/base/log.h"
#include "lib/kube/json.h"

namespace pgtier::controllers {

using Json = nlohmann::json;

Result<Objects> ReadOwned(kube::Client& client, kube::ObjectCache* cache, std::span<const kube::Resource> resources,
                          const std::string& label, const kube::ObjectKey& owner, Deadline deadline,
                          const std::stop_token& stop) {
  Objects objects;
  auto keep = [&](const kube::Resource& resource, Json object) {
    std::string name = kube::KeyOf(object).name;
    objects[{std::string(resource.plural), std::move(name)}] = std::move(object);
  };
  if (cache != nullptr) {
    PGTIER_ASSIGN_OR_RETURN(auto owned, cache->Read(owner, deadline, stop));
    for (kube::ObjectCache::Object& each : owned) keep(*each.resource, std::move(each.object));
    return objects;
  }
  for (const kube::Resource& resource : resources) {
    PGTIER_ASSIGN_OR_RETURN(std::vector<Json> owned, kube::ListByLabel(client, resource, label, owner, deadline, stop));
    for (Json& object : owned) keep(resource, std::move(object));
  }
  return objects;
}

Status ApplyOwned(kube::Client& client, const kube::Resource& resource, const nlohmann::json& object,
                  std::string_view label, const std::string& owner, bool known, Deadline deadline,
                  const std::stop_token& stop) {
  kube::ObjectKey key = kube::KeyOf(object);
  std::string what = std::string(resource.kind) + " " + key.name;
  if (!known) {
    // Applying over it would take it from them.
    Result<nlohmann::json> other = client.Get(resource, key, deadline, stop);
    if (other.has_value() && kube::StringAt(*other, {"metadata", "labels", label}) != owner) {
      return MakeError(Code::kAlreadyExists, what + " exists already and is not of this policy; rename one of them");
    }
    if (!other.has_value() && other.error().code != Code::kNotFound) return other.error();
  }
  Result<nlohmann::json> applied = client.Apply(resource, object, true, deadline, stop);
  if (!applied.has_value()) return applied.error().WithContext("apply " + what);
  log::Info("applied", {{"kind", resource.kind}, {"name", key.name}});
  return {};
}

Status DeleteOwned(kube::Client& client, const kube::Resource& resource, const kube::ObjectKey& key,
                   const kube::DeleteOptions& options, Deadline deadline, const std::stop_token& stop) {
  Result<nlohmann::json> deleted = client.Delete(resource, key, options, deadline, stop);
  if (!deleted.has_value() && deleted.error().code != Code::kNotFound) return deleted.error();
  log::Info("deleted", {{"kind", resource.kind}, {"name", key.name}});
  return {};
}

std::string SecretText(const Json* secret, const char* key) {
  if (secret == nullptr) return "";
  return DecodeBase64(kube::StringAt(*secret, {"data", key})).value_or("");
}

const Json* ReadyCondition(const Json& pod) {
  if (kube::At(pod, {"metadata"}).contains("deletionTimestamp")) return nullptr;
  const Json& ready = kube::ConditionAt(pod, "Ready");
  return kube::StringAt(ready, {"status"}) == "True" ? &ready : nullptr;
}

bool IsReady(const Json& pod) { return ReadyCondition(pod) != nullptr; }

std::string TroubleOf(const Json& pod) {
  const Json& containers = kube::At(pod, {"status", "containerStatuses"});
  if (containers.is_array()) {
    for (const Json& container : containers) {
      std::string reason = kube::StringAt(container, {"state", "waiting", "reason"});
      if (reason.empty() || reason == "ContainerCreating" || reason == "PodInitializing") continue;
      std::string message = kube::StringAt(container, {"state", "waiting", "message"});
      if (!message.empty()) reason.append(": ").append(message);
      std::string last = kube::StringAt(container, {"lastState", "terminated", "message"});
      if (!last.empty()) reason.append(": ").append(last);
      return reason;
    }
  }
  const Json& scheduled = kube::ConditionAt(pod, "PodScheduled");
  if (scheduled.is_null() || kube::StringAt(scheduled, {"status"}) == "True") return "";
  return kube::StringAt(scheduled, {"reason"}) + ": " + kube::StringAt(scheduled, {"message"});
}

}  // namespace pgtier::controllers
