#include "controllers/scale_tier/resolve.h"

#include <algorithm>

namespace pgtier::controllers::scale_tier {
namespace {

constexpr int kDefaultPort = 5432;

void Merge(PoolerSettings& settings, const crds::Pooler& delta) {
  // An image is of one engine: the base's does not go with another one of the tier.
  if (delta.engine.has_value() && *delta.engine != settings.engine) settings.image.clear();
  settings.engine = delta.engine.value_or(settings.engine);
  settings.image = delta.image.value_or(settings.image);
  settings.instances = delta.instances.value_or(settings.instances);
  settings.pool_mode = delta.pool_mode.value_or(settings.pool_mode);
  settings.max_client_conn = delta.max_client_conn.value_or(settings.max_client_conn);
  settings.default_pool_size = delta.default_pool_size.value_or(settings.default_pool_size);
  settings.min_pool_size = delta.min_pool_size.value_or(settings.min_pool_size);
  settings.reserve_pool_size = delta.reserve_pool_size.value_or(settings.reserve_pool_size);
  if (delta.server_idle_timeout.has_value()) {
    settings.server_idle_timeout = std::chrono::ceil<std::chrono::seconds>(*delta.server_idle_timeout);
  }
}

PoolerSettings ResolvePooler(const crds::ScaleTierPolicySpec& spec, const crds::TierSpec& tier,
                             const std::string& pgcat_image) {
  PoolerSettings settings;
  Merge(settings, spec.pooler);
  Merge(settings, tier.pooler);
  if (settings.engine == kPgCat && settings.image.empty()) settings.image = pgcat_image;
  return settings;
}

std::string StrategyOf(const crds::Routing& own, const crds::Routing& base, const std::string& engine) {
  return own.strategy.value_or(base.strategy.value_or(engine == kPgCat ? "LeastConnections" : "RoundRobin"));
}

TierSettings ResolveTier(const crds::ScaleTierPolicySpec& spec, const crds::TierSpec& tier,
                         const std::string& pgcat_image) {
  TierSettings settings;
  settings.name = tier.name;
  settings.pooler = ResolvePooler(spec, tier, pgcat_image);
  settings.strategy = StrategyOf(tier.routing, spec.routing, settings.pooler.engine);
  settings.weights = tier.routing.weights.empty() ? spec.routing.weights : tier.routing.weights;
  if (spec.external.has_value()) {
    for (const crds::ExternalReplica& replica : spec.external->replicas) {
      settings.weights.emplace(replica.host, replica.weight);
    }
  }
  std::string rollout = tier.routing.rollout.value_or(spec.routing.rollout.value_or("Full"));
  const crds::ReadReplicas& own = tier.read_replicas;
  const crds::ReadReplicas& base = spec.read_replicas;
  if ((tier.has_read_replicas || spec.has_read_replicas) && rollout != "Disabled") {
    settings.enter_with = own.min.value_or(base.min.value_or(1));
    // pgtier makes and removes no replica of an external Postgres: all that are listed may take reads.
    settings.replicas =
        spec.external.has_value() ? static_cast<int>(spec.external->replicas.size()) : settings.enter_with;
    settings.max_replicas = settings.enter_with;
    if (!spec.external.has_value()) {
      settings.max_replicas = std::max(own.max.value_or(base.max.value_or(0)), settings.enter_with);
    }
  }
  settings.route_reads = rollout == "Full";
  settings.route_selected = rollout == "Selected";
  settings.selected_users =
      tier.routing.selected_users.empty() ? spec.routing.selected_users : tier.routing.selected_users;
  if (settings.pooler.engine == kPgCat || spec.external.has_value()) settings.selected_users.clear();
  settings.citus = tier.citus;
  settings.grow_after = own.grow_after.value_or(base.grow_after.value_or(settings.grow_after));
  settings.shrink_after = own.shrink_after.value_or(base.shrink_after.value_or(settings.shrink_after));
  settings.cpu_query = own.cpu_query.value_or(base.cpu_query.value_or(""));
  settings.materialized_views = tier.materialized_views;
  settings.max_lag = own.max_lag.value_or(base.max_lag.value_or(settings.max_lag));
  settings.drain_timeout = own.drain_timeout.value_or(base.drain_timeout.value_or(settings.drain_timeout));
  return settings;
}

// Collects what is written and not done.
class Gaps {
 public:
  explicit Gaps(std::vector<Unavailable>* found) : found_(found) {}

  void Policy(const std::string& field) { found_->push_back({field, "", true}); }
  void Ignored(const std::string& field) { found_->push_back({field, "", false}); }
  void Tier(const std::string& field, const std::string& tier) { found_->push_back({field, tier, false}); }

 private:
  std::vector<Unavailable>* found_;
};

// What an engine cannot do for reads, of a routing as a whole: of `path` where `own` says it, else of the base.
void FindGapsOfRouting(const std::string& path, const crds::Routing& own, const crds::Routing& base,
                       const std::string& engine, bool external, const std::string& tier, Gaps& gaps) {
  auto at = [&](bool is_own) { return (is_own ? path : "spec") + ".routing"; };
  std::string strategy = StrategyOf(own, base, engine);
  bool of_pgcat = strategy == "Random" || strategy == "LeastConnections";
  if (of_pgcat != (engine == kPgCat)) {
    gaps.Tier(at(own.strategy.has_value()) + ".strategy: " + strategy + " (" + engine + " does " +
                  (engine == kPgCat ? "Random and LeastConnections; PgBouncer does "
                                    : "RoundRobin and Weighted; PgCat does ") +
                  strategy + ")",
              tier);
  }
  if (own.rollout.value_or(base.rollout.value_or("Full")) != "Selected") return;
  std::string selected = at(own.rollout.has_value()) + ".rollout: Selected";
  if (engine == kPgCat) gaps.Tier(selected + " (PgCat takes one role alone; PgBouncer does Selected)", tier);
  if (external) gaps.Tier(selected + " (poolers before an external Postgres take one role alone)", tier);
}

void FindGapsOfReplicas(const std::string& path, const crds::TierSpec& tier, const crds::ScaleTierPolicySpec& spec,
                        Gaps& gaps) {
  const crds::ReadReplicas& own = tier.read_replicas;
  const crds::ReadReplicas& base = spec.read_replicas;
  if (!spec.external.has_value() || own.max.value_or(base.max.value_or(0)) <= own.min.value_or(base.min.value_or(1))) {
    return;
  }
  gaps.Ignored((own.max.has_value() ? path : "spec") +
               ".readReplicas.max (pgtier makes no replica of an external Postgres)");
}

// What PgCat cannot do, of a pooler as a whole.
void FindGapsOfPgCat(const std::string& path, const crds::ScaleTierPolicySpec& spec, const crds::TierSpec& tier,
                     const PoolerSettings& settings, Gaps& gaps) {
  auto at = [&](bool is_own) { return (is_own ? path : "spec") + ".pooler"; };
  if (spec.external.has_value()) {
    gaps.Tier(at(tier.pooler.engine.has_value()) + ".engine: PgCat before spec.postgres.external", tier.name);
  } else if (settings.image.empty()) {
    gaps.Tier(at(tier.pooler.engine.has_value()) +
                  ".engine: PgCat (no image of it is named: set the chart's images.pgcat, or pooler.image)",
              tier.name);
  }
  if (settings.pool_mode == "Statement") {
    gaps.Tier(at(tier.pooler.pool_mode.has_value()) + ".poolMode: Statement (PgCat does Session and Transaction; " +
                  "PgBouncer does Statement)",
              tier.name);
  }
  if (tier.pooler.max_client_conn.has_value() || spec.pooler.max_client_conn.has_value()) {
    gaps.Ignored(at(tier.pooler.max_client_conn.has_value()) + ".maxClientConn (PgCat has no such limit)");
  }
  if (spec.managed.has_value() && (spec.managed->database == "pgcat" || spec.managed->database == "pgbouncer")) {
    gaps.Tier("spec.postgres.managed.database: " + spec.managed->database + " (PgCat's console has that name)",
              tier.name);
  }
}

void FindGapsOfTier(const crds::ScaleTierPolicySpec& spec, size_t index, const std::string& pgcat_image, Gaps& gaps) {
  const crds::TierSpec& tier = spec.tiers[index];
  std::string path = "spec.tiers[" + std::to_string(index) + "]";
  PoolerSettings pooler = ResolvePooler(spec, tier, pgcat_image);
  if (pooler.engine == kPgCat) FindGapsOfPgCat(path, spec, tier, pooler, gaps);
  if (tier.sharding && (!tier.citus.has_value() || index == 0)) gaps.Tier(path + ".sharding", tier.name);
  if (tier.citus.has_value() && index > 0) gaps.Ignored(path + ".sharding (it is planned, and not carried out)");
  if (!tier.materialized_views.empty() && spec.external.has_value()) {
    gaps.Ignored(path + ".materializedViews (an external Postgres has no part of pgtier beside it that refreshes)");
  }
  if (tier.has_read_replicas || spec.has_read_replicas) {
    FindGapsOfReplicas(path, tier, spec, gaps);
    FindGapsOfRouting(path, tier.routing, spec.routing, pooler.engine, spec.external.has_value(), tier.name, gaps);
  }
}

std::vector<Unavailable> FindGaps(const crds::ScaleTierPolicySpec& spec, const std::string& pgcat_image) {
  std::vector<Unavailable> found;
  Gaps gaps(&found);
  for (size_t i = 0; i < spec.tiers.size(); ++i) FindGapsOfTier(spec, i, pgcat_image, gaps);
  // Nothing is entered on the way to the first tier, so it cannot be refused alone.
  for (Unavailable& gap : found) gap.whole_policy = gap.whole_policy || gap.tier == spec.tiers.front().name;
  return found;
}

std::vector<Refusal> FindRefusalsOfExternal(const crds::ExternalPostgres& external,
                                            const std::vector<TierSettings>& tiers) {
  std::vector<Refusal> found;
  const std::string path = "spec.postgres.external";
  bool verifies = external.ssl_mode.starts_with("verify");
  if (verifies && external.ca_secret.empty()) {
    found.push_back({path + ".sslMode: " + external.ssl_mode + " needs caSecret, a Secret with the key ca.crt", ""});
  }
  for (const TierSettings& tier : tiers) {
    if (tier.enter_with > tier.replicas) {
      found.push_back({"readReplicas.min of tier " + tier.name + ": " + std::to_string(tier.enter_with) + ", and " +
                           path + ".replicas lists " + std::to_string(tier.replicas) +
                           ": list more standbys, or lower min; pgtier makes none of an external Postgres",
                       tier.name});
    }
    for (const crds::ExternalReplica& replica : external.replicas) {
      // PgBouncer takes one port for all hosts of a database.
      int first = external.replicas.front().port.value_or(kDefaultPort);
      if (tier.replicas == 0 || replica.port.value_or(kDefaultPort) == first) continue;
      found.push_back({path + ".replicas: " + replica.host +
                           " listens on another port than the first: a pooler reaches all of them on one port",
                       tier.name});
      break;
    }
  }
  // Nothing is entered on the way to the first tier, so it cannot be refused alone.
  for (Refusal& refusal : found) {
    if (refusal.tier == tiers.front().name) refusal.tier.clear();
  }
  return found;
}

// Selected of nobody is a mistake, and not Standby.
void FindRefusalsOfRouting(const crds::ScaleTierPolicySpec& spec, const std::vector<TierSettings>& tiers,
                           std::vector<Refusal>& found) {
  for (size_t i = 0; i < tiers.size(); ++i) {
    const TierSettings& tier = tiers[i];
    if (tier.replicas == 0 || !tier.route_selected || !tier.selected_users.empty()) continue;
    if (tier.pooler.engine == kPgCat || spec.external.has_value()) continue;  // NotAvailable says why.
    bool own = spec.tiers[i].routing.rollout.has_value();
    found.push_back({(own ? "spec.tiers[" + std::to_string(i) + "]" : "spec") +
                         ".routing.rollout: Selected needs routing.selected.users: name who reads from replicas",
                     i == 0 ? "" : tier.name});
  }
}

}  // namespace

const TierSettings* Resolved::Find(const std::string& tier) const {
  auto found = std::find_if(tiers.begin(), tiers.end(), [&](const TierSettings& each) { return each.name == tier; });
  return found == tiers.end() ? nullptr : &*found;
}

void SetReplicas(int replicas, Resolved& resolved) {
  for (TierSettings& tier : resolved.tiers) {
    if (tier.Scales()) tier.replicas = std::clamp(replicas, tier.enter_with, tier.max_replicas);
  }
}

Resolved Resolve(const crds::ScaleTierPolicy& policy, const std::string& pgcat_image) {
  const crds::ScaleTierPolicySpec& spec = policy.spec;
  Resolved resolved;
  resolved.interval = ResolveInterval(spec);
  resolved.endpoint = spec.endpoint_name.empty() ? policy.meta.name : spec.endpoint_name;
  resolved.unavailable = FindGaps(spec, pgcat_image);
  for (const crds::TierSpec& written : spec.tiers) {
    resolved.tiers.push_back(ResolveTier(spec, written, pgcat_image));
  }
  if (int remembered = policy.status.scaling.replicas; remembered > 0) SetReplicas(remembered, resolved);
  if (spec.external.has_value()) resolved.refusals = FindRefusalsOfExternal(*spec.external, resolved.tiers);
  FindRefusalsOfRouting(spec, resolved.tiers, resolved.refusals);
  resolved.ladder = ResolveLadder(spec);
  for (const crds::TierSpec& written : spec.tiers) {
    core::Tier tier = ResolveRung(written, resolved.interval, resolved.ladder.down);
    // Sharding rewrites tables: it is never begun without approval, even where the field is absent.
    tier.approval_required = written.approval == "Required" || (written.approval.empty() && written.sharding);
    tier.blocked = resolved.BlockedBy(written.name);
    if (written.citus.has_value()) {
      tier.not_executed = {core::kNotAvailable,
                           "its plan is approved, and this release does not carry out sharding: what status.plan lists "
                           "is left to a person"};
    }
    resolved.ladder.tiers.push_back(std::move(tier));
  }
  return resolved;
}

}  // namespace pgtier::controllers::scale_tier
