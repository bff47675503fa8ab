// The first stage of a pass: reads, into a plain struct. A part that cannot be reached is a fact and noted as such; a
// list of the API server that fails ends the pass.
#pragma once

#include <stop_token>

#include "controllers/database/database.h"
#include "controllers/shadow_table/resolve.h"
#include "controllers/shadow_table/seen.h"
#include "lib/kube/object_cache.h"
#include "lib/observe/prometheus.h"

namespace pgtier::controllers::shadow_table {

class Observer {
 public:
  // All outlive this; without `children` (what ShadowTablePolicies own) the API server is asked.
  Observer(kube::Client* client, observe::Prometheus* prometheus, kube::ObjectCache* children, DatabaseFinder finder)
      : client_(client), prometheus_(prometheus), children_(children), finder_(std::move(finder)) {}

  Result<Seen> Observe(const crds::ShadowTablePolicy& policy, const Resolved& resolved, Deadline deadline,
                       const std::stop_token& stop);

 private:
  kube::Client* client_;
  observe::Prometheus* prometheus_;
  kube::ObjectCache* children_;
  DatabaseFinder finder_;
};

}  // namespace pgtier::controllers::shadow_table
