// From a policy as written to what it means: defaults applied, each tier's delta merged over the base, triggers as the
// decision takes them, and what this release cannot do named field by field.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "controllers/ladder/resolve.h"
#include "core/ladder.h"
#include "crds/scale_tier_policy.h"

namespace pgtier::controllers::scale_tier {

inline constexpr char kPgBouncer[] = "PgBouncer";
inline constexpr char kPgCat[] = "PgCat";

struct PoolerSettings {
  std::string engine = kPgBouncer;
  std::string image;  // Empty: the release's.
  int instances = 2;
  std::string pool_mode = "Transaction";
  int max_client_conn = 2000;
  int default_pool_size = 50;
  int min_pool_size = 10;
  int reserve_pool_size = 10;
  std::chrono::seconds server_idle_timeout{300};
};

// What runs in a tier.
struct TierSettings {
  std::string name;
  PoolerSettings pooler;
  int replicas = 0;      // Instances besides the primary, now; of an external Postgres, all that it lists.
  int max_replicas = 0;  // So many the load may make of them; between enter_with and this it decides (scaling.h).
  Duration grow_after = std::chrono::minutes(2);
  Duration shrink_after = std::chrono::minutes(30);
  std::string cpu_query;     // PromQL; empty: only poolers say how busy replicas are.
  int enter_with = 0;        // So many of them must be able to take reads before the tier counts as entered.
  bool route_reads = false;  // Whether they take all reads,
  // or those of these users, who name the database <database>_replicas. It leads to replicas with all reads there too.
  bool route_selected = false;
  std::vector<std::string> selected_users = {};
  Duration max_lag = std::chrono::seconds(1);
  Duration drain_timeout = std::chrono::seconds(30);
  std::string strategy = "RoundRobin";  // Of reads: RoundRobin | Random | LeastConnections | Weighted.
  std::map<std::string, int> weights;   // By instance, with Weighted; who is not named has 1.
  std::map<std::string, Duration> materialized_views = {};  // That pgtier refreshes, and how often.
  std::optional<crds::CitusSharding> citus = {};

  [[nodiscard]] bool UsesReplicas() const { return route_reads || route_selected; }
  // Whether the load decides how many replicas there are.
  [[nodiscard]] bool Scales() const { return max_replicas > enter_with; }
};

struct Resolved : Limits {
  core::Ladder ladder;
  std::vector<TierSettings> tiers;  // In the ladder's order.
  Duration interval = std::chrono::seconds(15);
  std::string endpoint;  // Name of the Services that applications connect to.

  // The settings of that tier, or nullptr.
  [[nodiscard]] const TierSettings* Find(const std::string& tier) const;
};

// So many replicas run where a tier's bounds allow it: in each tier of which the load decides, the nearest that it
// allows. A change of tier takes away none that the next one may have.
void SetReplicas(int replicas, Resolved& resolved);

// How many replicas run is what the policy's status remembers; SetReplicas, where it does not. `pgcat_image`: the
// release's image of PgCat, for pgtier ships none; empty: it names none, and a policy must.
Resolved Resolve(const crds::ScaleTierPolicy& policy, const std::string& pgcat_image = "");

}  // namespace pgtier::controllers::scale_tier
