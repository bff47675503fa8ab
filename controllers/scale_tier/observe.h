// The first stage of a pass: reads, into a plain struct. A part that cannot be reached is a fact and noted as such; a
// list of the apiserver that fails ends the pass, for "could not read" must never look like "nothing there".
#pragma once

#include <map>
#include <stop_token>

#include "controllers/scale_tier/external.h"
#include "controllers/scale_tier/resolve.h"
#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/kube/client.h"
#include "lib/kube/object_cache.h"
#include "lib/observe/prometheus.h"

namespace pgtier::controllers::scale_tier {

// What is told of a policy's Postgres by its objects alone: passwords, certificates, instances, and who the primary is.
// Errors: those of listing them, where the cache can't answer.
Result<Seen> ObserveObjects(kube::Client& client, kube::ObjectCache* children, const kube::ObjectKey& policy,
                            WallTime now, Deadline deadline, const std::stop_token& stop);

class Observer {
 public:
  // All outlive this; without `children` the policy's objects are listed in each pass. `check` is asked before an
  // external Postgres is connected to.
  Observer(kube::Client* client, observe::Prometheus* prometheus, kube::ObjectCache* children, HostCheck check)
      : client_(client), prometheus_(prometheus), children_(children), check_(std::move(check)) {}

  // `now` is the time that pods' conditions are compared with.
  // Errors: those of listing the policy's objects, where the cache can't answer.
  Result<Seen> Observe(const crds::ScaleTierPolicy& policy, const Resolved& resolved, WallTime now, Deadline deadline,
                       const std::stop_token& stop);

 private:
  kube::Client* client_;
  observe::Prometheus* prometheus_;
  kube::ObjectCache* children_;
  HostCheck check_;
};

}  // namespace pgtier::controllers::scale_tier
