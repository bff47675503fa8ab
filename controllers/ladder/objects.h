// Live objects that a policy owns, and what is read off them.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include "lib/base/result.h"
#include "lib/kube/client.h"
#include "lib/kube/object_cache.h"

namespace pgtier::controllers {

// By plural and name.
using Objects = std::map<std::pair<std::string, std::string>, nlohmann::json>;

// Everything of these resources whose `label` names the owner. Without `cache` (or where it can't answer) the API
// server is asked. Errors: those of Client::List.
Result<Objects> ReadOwned(kube::Client& client, kube::ObjectCache* cache, std::span<const kube::Resource> resources,
                          const std::string& label, const kube::ObjectKey& owner, Deadline deadline,
                          const std::stop_token& stop);

// Server-side apply of an object that carries `label` = `owner`. `known`: it was seen with that label; if not, and one
// is there without it, that is somebody else's. Errors: kAlreadyExists: that; those of Client::Get and Apply.
Status ApplyOwned(kube::Client& client, const kube::Resource& resource, const nlohmann::json& object,
                  std::string_view label, const std::string& owner, bool known, Deadline deadline,
                  const std::stop_token& stop);
// One that is gone already is no error. Errors: those of Client::Delete.
Status DeleteOwned(kube::Client& client, const kube::Resource& resource, const kube::ObjectKey& key,
                   const kube::DeleteOptions& options, Deadline deadline, const std::stop_token& stop);

// The text under a key of a Secret, or empty.
std::string SecretText(const nlohmann::json* secret, const char* key);

// The condition Ready of a pod that has it and is not going away, or nullptr.
const nlohmann::json* ReadyCondition(const nlohmann::json& pod);
bool IsReady(const nlohmann::json& pod);
// Why a pod does not run, from the states of its containers or its scheduling: "ImagePullBackOff: …"; empty when
// nothing is known.
std::string TroubleOf(const nlohmann::json& pod);

}  // namespace pgtier::controllers
