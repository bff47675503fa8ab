// From a policy as written to what it means: defaults applied, and what this release cannot do named field by field.
#pragma once

#include <string>

#include "controllers/ladder/resolve.h"
#include "core/ladder.h"
#include "crds/shadow_table_policy.h"
#include "shadow/shadow.h"

namespace pgtier::controllers::shadow_table {

struct Workers {
  int min = 1;
  int max = 1;
  int64_t queue_alert = 1000;  // Rows in the queue beyond which the policy is degraded, and a worker more is wanted.
};

struct Resolved : Limits {
  core::Ladder ladder;
  Duration interval = std::chrono::seconds(15);
  shadow::Spec spec;
  Workers workers;
};

// Tiers of which the database's part, or the worker, is not in this release.
struct Release {
  bool notify = true;
  bool cdc = false;
};

Resolved Resolve(const crds::ShadowTablePolicy& policy, const Release& release = {});

}  // namespace pgtier::controllers::shadow_table
