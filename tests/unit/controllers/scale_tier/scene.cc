#include "tests/unit/controllers/scale_tier/scene.h"

#include <algorithm>

#include "controllers/scale_tier/change.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/postgres_config.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/base/time_format.h"
#include "lib/poolers/pgbouncer_parameters.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

crds::ScaleTierPolicy Decode(const Json& object) {
  Result<crds::ScaleTierPolicy> policy = crds::DecodeScaleTierPolicy(object);
  EXPECT_TRUE(policy.has_value());
  return *policy;
}

// What a PgCat with these settings says of itself, and the pods' rows with it.
void RunPgCat(const poolers::PgCatSettings& settings, PoolerPodSeen& pod) {
  pod.config.clear();
  pod.databases.clear();
  pod.banned.clear();
  for (const poolers::PgCatPool& pool : settings.pools) {
    for (size_t i = 0; i < pool.servers.size(); ++i) {
      poolers::DatabaseStats row;
      row.name = poolers::PgCatAddressName(pool, i);
      row.host = pool.servers[i].host;
      row.port = pool.servers[i].port;
      row.database = pool.database;
      row.force_user = pool.users[0].username;
      row.pool_size = pool.users[0].pool_size;
      row.min_pool_size = pool.users[0].min_pool_size;
      row.pool_mode = pool.pool_mode;
      pod.databases.push_back(row);
    }
  }
  Result<std::vector<poolers::Difference>> shown = poolers::CompareWithRunning(settings, {}, pod.databases);
  for (const poolers::Difference& each : *shown) pod.config.push_back({each.what, each.wanted, "-", true});
  pod.config.push_back({"pools." + *poolers::PgCatMark(settings) + ".pool_mode", "transaction", "-", true});
}

std::string Tail(const std::string& name) { return name.substr(name.rfind('-') + 1); }

}  // namespace

Json TwoTiers(const Json& changes) {
  Json spec = Json::parse(R"({
    "postgres": {"managed": {"database": "app", "storage": {"size": "10Gi"}}},
    "metrics": {"interval": "15s"},
    "pooler": {"instances": 1},
    "tiers": [
      {"name": "one"},
      {"name": "two",
       "enterWhen": {"any": [
         {"name": "pool-utilisation", "above": "0.8", "unit": "Ratio", "for": "10m", "pooler": {"metric": "Utilisation"}},
         {"name": "by-hand", "demand": {}}]},
       "readReplicas": {"min": 2, "maxLag": "1s"}}]})");
  spec.merge_patch(changes);
  return {{"metadata", {{"namespace", "data"}, {"name", "kyoyu"}, {"uid", "uid-of-policy"}, {"generation", 1}}},
          {"spec", spec}};
}

Json ExternalTiers(const Json& changes) {
  Json object = TwoTiers(Json::parse(R"({"postgres": {"managed": null, "external": {
    "host": "db.example", "database": "app", "sslMode": "require", "adminSecret": {"name": "admin"},
    "replicas": [{"host": "a.example"}, {"host": "b.example"}]}}})"));
  object["spec"].merge_patch(changes);
  return object;
}

Scene::Scene(const Json& object)
    : policy(Decode(object)), resolved(Resolve(policy)), now(*ParseTime("2026-11-20T16:00:00Z")) {
  credentials.tls = *Renew({}, NeedsOf(policy, resolved, 0), now);
  for (const core::Tier& tier : resolved.ladder.tiers) {
    for (const core::Trigger& trigger : tier.triggers) seen.readings[{tier.name, trigger.name}] = core::Reading::Of(0);
  }
  if (!policy.spec.external.has_value()) return;
  // It runs already, and all its standbys have caught up.
  credentials.external =
      ExternalAccess{{"admin", "pw-admin"}, {"admin", "pw-admin"}, {"app", "pw-of-app"}, false, "", "v1"};
  seen.primary.answered = true;
  auto add = [&](const std::string& host) {
    InstanceSeen instance;
    instance.name = host;
    instance.ordinal = static_cast<int>(seen.instances.size()) + 1;
    instance.pod_ready = instance.streaming = true;
    instance.replayed = seen.primary.wal;
    instance.lag = std::chrono::milliseconds(1);
    seen.instances.push_back(instance);
  };
  add(policy.spec.external->host);
  for (const crds::ExternalReplica& replica : policy.spec.external->replicas) add(replica.host);
}

void Scene::Edit(const Json& object) {
  crds::ScaleTierPolicy edited = Decode(object);
  policy.spec = edited.spec;
  policy.problems = edited.problems;
  ++policy.meta.generation;
  resolved = Resolve(policy);
}

Plan Scene::PlanFor(const std::string& from, const std::string& to) const {
  core::Decision decision;
  decision.from = from;
  decision.to = to;
  decision.verdict = from.empty() ? core::Verdict::kStart : from == to ? core::Verdict::kHold : core::Verdict::kMove;
  Seen at_last = seen;
  at_last.now = now;
  Result<Plan> plan = MakePlan(context(), at_last, decision, credentials);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan.has_value() ? *plan : Plan{};
}

void Scene::Do(const Action& action) {
  if (const auto* apply = std::get_if<ApplyObject>(&action)) {
    std::string name = apply->object["metadata"]["name"];
    Json& live = seen.objects[{std::string(apply->resource.plural), name}];
    bool is_new = live.is_null();
    live.merge_patch(apply->object);
    live["metadata"]["uid"] = "uid-" + std::to_string(++uids_);
    live["status"]["addedByTheApiserver"] = true;
    if (!is_new || apply->resource.plural != kube::kStatefulSets.plural) return;
    bool adopted = std::any_of(seen.instances.begin(), seen.instances.end(),
                               [&](const InstanceSeen& each) { return each.name == name; });
    if (adopted) return;
    InstanceSeen instance;
    instance.name = name;
    instance.ordinal = std::stoi(Tail(name));
    instance.encrypted = true;
    seen.instances.push_back(instance);
    const Json& volume = live["spec"]["volumeClaimTemplates"][0]["spec"];
    Json claim{{"metadata", {{"name", VolumeClaimName(name)}, {"uid", "uid-" + std::to_string(++uids_)}}},
               {"spec", volume},
               {"status", {{"capacity", volume["resources"]["requests"]}}}};
    seen.objects[{std::string(kube::kPersistentVolumeClaims.plural), VolumeClaimName(name)}] = claim;
  } else if (const auto* gone = std::get_if<DeleteObject>(&action)) {
    seen.objects.erase({std::string(gone->resource.plural), gone->name});
    if (gone->resource.plural == kube::kDeployments.plural) {
      std::erase_if(seen.poolers,
                    [&](const PoolerPodSeen& pod) { return gone->name == PoolerName(policy.meta.name, pod.endpoint); });
    }
    if (gone->resource.plural != kube::kStatefulSets.plural || gone->propagation == "Orphan") return;
    std::erase_if(seen.instances, [&](const InstanceSeen& each) { return each.name == gone->name; });
    auto slot = seen.primary.slots.find(SlotName(gone->name));
    if (slot != seen.primary.slots.end()) slot->second = false;
  } else if (const auto* grow = std::get_if<GrowVolume>(&action)) {
    Json& claim = seen.objects.at({std::string(kube::kPersistentVolumeClaims.plural), grow->claim});
    claim["spec"]["resources"]["requests"]["storage"] = grow->size;
  } else if (const auto* bootstrap = std::get_if<Bootstrap>(&action)) {
    seen.primary.installed = bootstrap->hash;
  } else if (const auto* ensure = std::get_if<EnsureSlot>(&action)) {
    seen.primary.slots.emplace(ensure->slot, false);
  } else if (const auto* drop = std::get_if<DropSlot>(&action)) {
    EXPECT_FALSE(seen.primary.slots.at(drop->slot)) << "an active slot cannot be dropped";
    seen.primary.slots.erase(drop->slot);
  } else if (const auto* postgres = std::get_if<ReloadPostgres>(&action)) {
    TakeConfiguration(Instance(postgres->instance));
  } else if (const auto* pooler = std::get_if<ReloadPooler>(&action)) {
    std::vector<poolers::Parameter> parameters = *poolers::Parameters(pooler->settings);
    for (PoolerPodSeen& pod : seen.poolers) {
      if (pod.pod != pooler->pod) continue;
      pod.certificate = pooler->certificate;
      pod.config.clear();
      for (const poolers::Parameter& each : parameters) {
        if (each.value.has_value()) pod.config.push_back({each.key, *each.value, "", true});
      }
      pod.databases.clear();
      for (const poolers::PgBouncerDatabase& each : pooler->settings.databases) {
        poolers::DatabaseStats row;
        row.name = each.name;
        row.database = each.dbname.empty() ? each.name : each.dbname;
        row.host = poolers::JoinHosts(each);
        row.port = each.port;
        pod.databases.push_back(row);
      }
    }
  } else if (const auto* hold = std::get_if<HoldClients>(&action)) {
    SetPaused(hold->poolers, true);
  } else if (const auto* go_on = std::get_if<LetClientsGoOn>(&action)) {
    SetPaused(go_on->poolers, false);
  } else if (const auto* pgcat = std::get_if<ReloadPgCat>(&action)) {
    for (PoolerPodSeen& pod : seen.poolers) {
      if (pod.pod == pgcat->pod) RunPgCat(pgcat->settings, pod);
    }
  } else if (const auto* ban = std::get_if<BanReplica>(&action)) {
    SetBan(ban->pod, ban->host, true);
  } else if (const auto* unban = std::get_if<UnbanReplica>(&action)) {
    SetBan(unban->pod, unban->host, false);
  } else if (const auto* mark = std::get_if<MarkDraining>(&action)) {
    Json& annotations =
        seen.objects.at({std::string(kube::kDeployments.plural), mark->deployment})["metadata"]["annotations"];
    if (mark->draining) annotations[kDrainingAnnotation] = FormatTime(now);
    if (!mark->draining) annotations.erase(kDrainingAnnotation);
  } else if (const auto* views = std::get_if<SetMaterializedViews>(&action)) {
    seen.primary.materialized_views.clear();
    for (const auto& [name, every] : views->views) {
      seen.primary.materialized_views[name].every = every;
      seen.primary.materialized_views[name].fresh = now;
    }
  } else if (const auto* record = std::get_if<RecordTier>(&action)) {
    EXPECT_EQ(record->epoch, seen.primary.epoch);
    seen.primary.tier = record->tier;
    ++seen.primary.epoch;
  }
}

void Scene::Carry(const Plan& plan) {
  for (const Action& action : plan.actions) Do(action);
}

void Scene::TakeConfiguration(InstanceSeen& instance) {
  PostgresTerms terms;
  terms.encrypted = std::all_of(seen.instances.begin(), seen.instances.end(),
                                [](const InstanceSeen& each) { return each.encrypted; });
  terms.pgcat = std::any_of(resolved.tiers.begin(), resolved.tiers.end(),
                            [](const TierSettings& tier) { return tier.pooler.engine == kPgCat; });
  instance.config = RenderPostgresFiles(policy, resolved, terms).hash;
  instance.certificate = instance.encrypted ? credentials.tls.postgres.fingerprint : "";
}

void Scene::StartPods() {
  if (policy.spec.managed.has_value()) StartInstances();
  StartPoolers();
}

void Scene::StartInstances() {
  for (InstanceSeen& instance : seen.instances) {
    if (instance.pod_ready) continue;
    instance.pod_ready = instance.answered = true;
    TakeConfiguration(instance);
    instance.pod_ip = "10.0.0." + std::to_string(instance.ordinal);
    if (instance.ordinal == seen.primary_ordinal) {
      seen.primary.answered = true;
      continue;
    }
    instance.streaming = true;
    instance.replayed = seen.primary.wal;
    auto slot = seen.primary.slots.find(SlotName(instance.name));
    EXPECT_NE(slot, seen.primary.slots.end()) << instance.name << " has no slot to stream from";
    if (slot != seen.primary.slots.end()) slot->second = true;
  }
}

void Scene::StartPoolers() {
  for (const auto& [key, object] : seen.objects) {
    if (key.first != kube::kDeployments.plural) continue;
    for (int i = 0; i < object["spec"]["replicas"].get<int>(); ++i) {
      std::string name = key.second + "-" + std::to_string(i);
      bool there = std::any_of(seen.poolers.begin(), seen.poolers.end(),
                               [&](const PoolerPodSeen& pod) { return pod.pod == name; });
      if (there) continue;
      PoolerPodSeen pod;
      pod.pod = name;
      pod.endpoint = object["metadata"]["labels"][kEndpointLabel];
      pod.ready = pod.answered = true;
      pod.encrypted = policy.spec.managed.has_value();
      seen.poolers.push_back(pod);
    }
  }
}

core::Memory Scene::Recall() const {
  core::Memory memory;
  memory.tier = RunningTier(policy.status, resolved, seen);
  memory.target = policy.status.target_tier;
  if (!policy.status.history.empty()) memory.last_change = policy.status.history.front().at;
  memory.triggers = triggers_;
  return memory;
}

Scene::Pass Scene::MakePass() {
  Pass pass;
  for (const auto& [tier, findings] : seen.preflights) FillPreflight(tier, findings, resolved);
  PrepareScaling(policy, seen, resolved);
  FillApprovals(policy, RunningTier(policy.status, resolved, seen), seen.primary_ordinal, resolved);
  seen.now = now;
  pass.decision = core::Decide(resolved.ladder, Recall(), seen.readings, now);
  triggers_ = pass.decision.triggers;
  Seen before = seen;
  if (!resolved.ladder.observe_only && !paused && policy.problems.empty() &&
      resolved.WholePolicyUnavailable().empty()) {
    Result<Plan> plan = MakePlan(context(), seen, pass.decision, credentials);
    EXPECT_TRUE(plan.has_value());
    pass.plan = *plan;
    if (failure.empty()) Carry(pass.plan);
  }
  Outcome outcome{policy, resolved, before, pass.decision, pass.plan, failure, needs_person, paused, now};
  outcome.scaling = DecideReplicas(policy, resolved, before, pass.decision, outcome.Acts(), scaling_, now);
  scaling_ = outcome.scaling.memory;
  pass.status = MakeStatus(outcome);
  pass.written = MustWrite(policy.status, pass.status, resolved, last_write_, now);
  if (!pass.written) return pass;
  last_write_ = now;
  pass.notes = MakeNotes(policy.status, pass.status);
  policy.status = pass.status;
  return pass;
}

Scene::Pass Scene::Settle() {
  for (int i = 0; i < 30; ++i) {
    Pass pass = MakePass();
    if (pass.plan.actions.empty() && pass.plan.waiting_for.empty() && policy.status.target_tier.empty()) return pass;
    StartPods();
    now += std::chrono::seconds(1);
  }
  ADD_FAILURE() << "does not settle; waits for " << MakePass().plan.waiting_for;
  return {};
}

InstanceSeen& Scene::Instance(const std::string& name) {
  auto found = std::find_if(seen.instances.begin(), seen.instances.end(),
                            [&](const InstanceSeen& each) { return each.name == name; });
  if (found == seen.instances.end()) throw std::runtime_error("no instance " + name);
  return *found;
}

PoolerPodSeen& Scene::PoolerPod(const std::string& endpoint) {
  auto found = std::find_if(seen.poolers.begin(), seen.poolers.end(),
                            [&](const PoolerPodSeen& each) { return each.endpoint == endpoint; });
  if (found == seen.poolers.end()) throw std::runtime_error("no pooler pod of " + endpoint);
  return *found;
}

crds::Condition Scene::ConditionOf(const std::string& type) const {
  const crds::Condition* condition = crds::FindCondition(policy.status.conditions, type);
  return condition == nullptr ? crds::Condition{} : *condition;
}

void Read(Scene& scene, const std::string& trigger, core::Reading reading) {
  for (auto& [key, value] : scene.seen.readings) {
    if (key.second == trigger) value = reading;
  }
}

std::string InWords(const Action& action) {
  struct Words {
    std::string operator()(const ApplyObject& a) const {
      return "apply " + std::string(a.resource.kind) + " " + a.object["metadata"]["name"].get<std::string>();
    }
    std::string operator()(const DeleteObject& a) const {
      return "delete " + std::string(a.resource.kind) + " " + a.name;
    }
    std::string operator()(const GrowVolume& a) const { return "grow " + a.claim + " to " + a.size; }
    std::string operator()(const Bootstrap&) const { return "bootstrap"; }
    std::string operator()(const HoldClients& a) const { return "hold clients of " + a.poolers.front().pod; }
    std::string operator()(const LetClientsGoOn& a) const { return "let clients go on of " + a.poolers.front().pod; }
    std::string operator()(const DemotePrimary& a) const { return "demote " + a.promotion.from; }
    std::string operator()(const PromoteInstance& a) const { return "promote " + a.instance; }
    std::string operator()(const EnsureSlot& a) const { return "slot " + a.slot; }
    std::string operator()(const DropSlot& a) const { return "drop " + a.slot; }
    std::string operator()(const SyncPodVolumes& a) const { return "sync " + a.pod; }
    std::string operator()(const ReloadPostgres& a) const { return "reload " + a.instance; }
    std::string operator()(const ReloadPooler& a) const { return "reload " + a.pod; }
    std::string operator()(const ReloadPgCat& a) const { return "reload " + a.pod; }
    std::string operator()(const BanReplica& a) const { return "ban " + a.host + " at " + a.pod; }
    std::string operator()(const UnbanReplica& a) const { return "unban " + a.host + " at " + a.pod; }
    std::string operator()(const MarkDraining& a) const {
      return (a.draining ? "drain " : "do not drain ") + a.deployment;
    }
    std::string operator()(const ShutDownPooler& a) const { return "shut down " + a.pod; }
    std::string operator()(const SetMaterializedViews& a) const { return "views " + std::to_string(a.views.size()); }
    std::string operator()(const RecordTier& a) const { return "record " + a.tier; }
  };
  return std::visit(Words{}, action);
}

std::vector<std::string> InWords(const Plan& plan) {
  std::vector<std::string> words;
  words.reserve(plan.actions.size());
  for (const Action& action : plan.actions) words.push_back(InWords(action));
  return words;
}

}  // namespace pgtier::controllers::scale_tier
