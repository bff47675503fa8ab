// The only stage with effects outside: carries out a plan's actions in their order.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "controllers/scale_tier/external.h"
#include "controllers/scale_tier/plan.h"
#include "lib/kube/client.h"

namespace pgtier::controllers::scale_tier {

class Actor {
 public:
  // `client` outlives this. `check` is asked before an external Postgres is connected to.
  Actor(kube::Client* client, HostCheck check) : client_(client), check_(std::move(check)) {}

  // After the first action that fails only routing goes on; the next pass plans anew from what it then sees. Gives the
  // first error.
  Status Act(const Plan& plan, const crds::ScaleTierPolicy& policy, const Seen& seen, const Credentials& credentials,
             Deadline deadline, const std::stop_token& stop);

 private:
  kube::Client* client_;
  HostCheck check_;
};

}  // namespace pgtier::controllers::scale_tier
