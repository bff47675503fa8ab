// The only stage with effects outside: carries out a plan's actions in their order.
#pragma once

#include <stop_token>
#include <string>

#include "controllers/shadow_table/plan.h"
#include "lib/kube/client.h"

namespace pgtier::controllers::shadow_table {

class Actor {
 public:
  // `client` outlives this.
  explicit Actor(kube::Client* client) : client_(client) {}

  // Ends at the first action that fails; the next pass plans anew from what it then sees. `version` becomes the
  // policy's resourceVersion where an action has changed the policy.
  Status Act(const Plan& plan, const crds::ShadowTablePolicy& policy, const Resolved& resolved, const Seen& seen,
             std::string& version, Deadline deadline, const std::stop_token& stop);

 private:
  kube::Client* client_;
};

}  // namespace pgtier::controllers::shadow_table
