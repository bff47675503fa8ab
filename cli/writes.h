// The commands that write: each changes one field or annotation of a policy, and nothing else.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/policy.h"
#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/kube/client.h"

namespace pgtier::cli {

// What a command did, for people and as JSON: {"name", "namespace", "action", "changed", "message", "notes"}.
struct Done {
  std::string action;
  bool changed = true;  // False: it was so already, and nothing was written.
  std::string message;
  std::vector<std::string> notes;  // What the caller should know besides.
};

Result<Done> Pause(kube::Client& client, const Policy& policy, bool pause, Deadline deadline);

// Adds `trigger` to spec.demands or takes it out, by a JSON patch that tests the list it was made from; one that
// somebody else changed meanwhile is read and tried again.
// Errors: kInvalidArgument: no trigger of that name takes a demand.
Result<Done> Demand(kube::Client& client, const Policy& policy, const std::string& trigger, bool off,
                    Deadline deadline);

// Writes the annotation pgtier.dev/approve with the hash of the plan that is recorded now. `hash` empty: whichever it
// is. Errors: kFailedPrecondition: no plan waits, or `hash` is another one than the present.
Result<Done> Approve(kube::Client& client, const Policy& policy, const std::string& hash, Deadline deadline);

// Asks the operator to make `replica` the primary, by the annotation pgtier.dev/promote, with an id of this request's
// own from `now`. `request` gets its value. Errors: kFailedPrecondition: one runs already (with `force` it may be
// overtaken).
Result<Done> Promote(kube::Client& client, const Policy& policy, const std::string& replica, bool force, WallTime now,
                     std::string& request, Deadline deadline);

// Waits until the operator has carried out or refused `request`.
// Errors: kFailedPrecondition: refused, or taken back; kDeadlineExceeded: neither yet.
Result<Done> AwaitPromotion(kube::Client& client, const kube::ObjectKey& key, const std::string& request,
                            Deadline deadline);

// Who seems to own the policy's spec from outside the cluster ("Argo CD", "Flux", "Helm"), or empty.
std::string GitOwner(const nlohmann::json& object);

}  // namespace pgtier::cli
