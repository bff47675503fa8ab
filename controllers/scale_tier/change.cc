#include "controllers/scale_tier/change.h"

#include <algorithm>
#include <map>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/plan.h"
#include "controllers/scale_tier/sharding.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Settings = std::map<std::string, std::string>;

Settings Flatten(const TierSettings& tier) {
  Settings settings;
  for (auto& [name, value] : SettingsOf(tier)) settings.emplace(name, std::move(value));
  return settings;
}

std::string WhereReadsGo(const TierSettings& tier, const std::string& primary) {
  if (tier.replicas == 0 || !tier.UsesReplicas()) return primary;
  if (tier.route_reads) return "replicas";
  std::string users;
  for (const std::string& user : tier.selected_users) users += (users.empty() ? "" : ", ") + user;
  return primary + ", and to replicas for " + users + " (who name the database with _replicas)";
}

std::vector<crds::PlanStep> StepsOf(const std::string& policy, const std::string& endpoint, const TierSettings& from,
                                    const TierSettings& to, int primary_ordinal, bool external) {
  std::vector<crds::PlanStep> steps;
  // Nothing is made or removed of a Postgres that runs elsewhere.
  int replicas_before = external ? 0 : from.replicas;
  int replicas_after = external ? 0 : to.replicas;
  std::vector<int> ordinals = ReplicaOrdinals(primary_ordinal, std::max(replicas_before, replicas_after));
  auto instance = [&](int replica) { return InstanceName(policy, ordinals[static_cast<size_t>(replica)]); };
  for (int i = replicas_before; i < replicas_after; ++i) {
    steps.push_back({"clone " + instance(i) + " and let it catch up", true});
  }
  if (from.pooler.engine != to.pooler.engine) {
    steps.push_back({"start " + to.pooler.engine + ", lead " + endpoint + ", " + endpoint + "-rw and " + endpoint +
                         "-ro to it, and let the clients of " + from.pooler.engine + " finish",
                     true});
  }
  steps.push_back({"route reads of " + endpoint + "-ro to " + WhereReadsGo(to, "the primary"), true});
  for (int i = replicas_before; i > replicas_after; --i) {
    steps.push_back({"remove " + instance(i - 1) + " with its slot and volume", true});
  }
  if (to.citus.has_value()) {
    for (crds::PlanStep& step : ShardingSteps(*to.citus)) steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> SettingsOf(const PoolerSettings& pooler) {
  return {{"pooler.engine", pooler.engine},
          {"pooler.image", pooler.image},
          {"pooler.instances", std::to_string(pooler.instances)},
          {"pooler.poolMode", pooler.pool_mode},
          {"pooler.maxClientConn", std::to_string(pooler.max_client_conn)},
          {"pooler.defaultPoolSize", std::to_string(pooler.default_pool_size)},
          {"pooler.minPoolSize", std::to_string(pooler.min_pool_size)},
          {"pooler.reservePoolSize", std::to_string(pooler.reserve_pool_size)},
          {"pooler.serverIdleTimeout", FormatDuration(pooler.server_idle_timeout)}};
}

std::vector<std::pair<std::string, std::string>> SettingsOf(const TierSettings& tier) {
  std::vector<std::pair<std::string, std::string>> settings = SettingsOf(tier.pooler);
  std::string weights;
  for (const auto& [instance, weight] : tier.weights) {
    weights += (weights.empty() ? "" : ",") + instance + "=" + std::to_string(weight);
  }
  settings.insert(settings.end(), {{"readReplicas.min", std::to_string(tier.enter_with)},
                                   {"readReplicas.max", std::to_string(tier.max_replicas)},
                                   {"readReplicas.maxLag", FormatDuration(tier.max_lag)},
                                   {"readReplicas.drainTimeout", FormatDuration(tier.drain_timeout)},
                                   {"routing.strategy", tier.strategy},
                                   {"routing.weights", weights},
                                   {"routing.reads", WhereReadsGo(tier, "primary")}});
  if (!tier.selected_users.empty()) {
    std::string users;
    for (const std::string& user : tier.selected_users) users += (users.empty() ? "" : ",") + user;
    settings.emplace_back("routing.selected.users", users);
  }
  for (const auto& [name, every] : tier.materialized_views) {
    settings.emplace_back("materializedViews." + name, FormatDuration(every));
  }
  if (tier.citus.has_value()) {
    std::string tables;
    for (const crds::DistributedTable& table : tier.citus->tables) {
      tables += (tables.empty() ? "" : ", ") + table.name + " by " + table.column +
                (table.colocate_with.empty() ? "" : " with " + table.colocate_with);
    }
    settings.insert(settings.end(), {{"sharding.citus.workers", std::to_string(tier.citus->workers)},
                                     {"sharding.citus.tables", tables}});
  }
  if (!tier.Scales()) return settings;
  settings.insert(settings.end(), {{"readReplicas.growAfter", FormatDuration(tier.grow_after)},
                                   {"readReplicas.shrinkAfter", FormatDuration(tier.shrink_after)},
                                   {"readReplicas.cpuQuery", tier.cpu_query}});
  return settings;
}

Change DescribeChange(const crds::ScaleTierPolicy& policy, const Resolved& resolved, const TierSettings& from,
                      const TierSettings& to, int primary_ordinal, std::optional<WallTime> since) {
  Change change;
  change.from = from.name;
  change.to = to.name;
  change.steps =
      StepsOf(policy.meta.name, resolved.endpoint, from, to, primary_ordinal, policy.spec.external.has_value());
  Settings before = Flatten(from);
  // What is hashed is text with a line for each part, so that no two plans run together.
  std::string text = "pgtier plan 1\n" + policy.meta.namespace_ + "/" + policy.meta.name + "\n" + from.name + " " +
                     to.name + " " + (since.has_value() ? FormatTime(*since) : "") + "\n";
  Settings after = Flatten(to);
  for (const auto& [field, value] : before) after.emplace(field, "");
  for (const auto& [field, value] : after) {
    text.append(field).append("=").append(before[field]).append(">").append(value).append("\n");
    if (before[field] != value) change.settings.push_back({field, before[field], value});
  }
  for (const crds::PlanStep& step : change.steps) {
    text.append(step.name).append(step.reversible ? "\n" : " (irreversible)\n");
  }
  change.hash = HashOfPlan(text);
  return change;
}

void FillApprovals(const crds::ScaleTierPolicy& policy, const std::string& tier, int primary_ordinal,
                   Resolved& resolved) {
  auto hash = [&](size_t from, size_t to) {
    return DescribeChange(policy, resolved, resolved.tiers[from], resolved.tiers[to], primary_ordinal,
                          policy.status.tier_since)
        .hash;
  };
  controllers::FillApprovals(policy.meta, policy.spec, policy.status, tier, hash, resolved.ladder);
}

}  // namespace pgtier::controllers::scale_tier
