#include <algorithm>
#include <functional>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/passwords.h"
#include "controllers/scale_tier/planner.h"
#include "controllers/scale_tier/postgres_config.h"
#include "lib/kube/json.h"
#include "sql/scale_tier.h"

namespace pgtier::controllers::scale_tier {

using Json = nlohmann::json;

namespace {

// What keeps a pod from running, for people; empty when nothing is known.
std::string TroubleInWords(const InstanceSeen& instance) {
  if (instance.pod_ready) return "";
  // The StatefulSet controller does not replace a pod that never became ready.
  if (instance.template_is_older && !instance.trouble.empty()) {
    return instance.trouble + "; its pod was made before the policy was changed: kubectl delete pod " +
           PodName(instance.name);
  }
  return instance.trouble;
}

}  // namespace

void Planner::AddSecretsAndConfig() {
  // The authority first: what is signed by it can be renewed by the next pass, and not the other way round.
  plan_.certificates_request = credentials_.tls.request;
  AddPasswords();
  Apply(kube::kSecrets, RenderAuthoritySecret(context_, credentials_.tls));
  Apply(kube::kSecrets, RenderPostgresTlsSecret(context_, credentials_.tls.postgres));
  Apply(kube::kSecrets, RenderPoolerTlsSecret(context_, credentials_.tls.pooler));
  Apply(kube::kSecrets, RenderAppSecret(context_, credentials_));
  Apply(kube::kSecrets, RenderInternalSecret(context_, credentials_));
  // While a promotion runs it is for that to say.
  PrimaryWord told = ToldPrimary();
  bool keep = seen_.promotion.Runs() && !told.instance.empty();
  Apply(kube::kConfigMaps, PostgresConfigAs(keep ? told.instance : PrimaryName(), keep ? told.term : Term()));
}

// The image of the primary is pinned: a new release of pgtier restarts no database by itself. Status knows it
// where the StatefulSet was deleted.
std::string Planner::PinnedImage() const {
  const std::string& wanted = context_.policy.spec.managed->image;
  if (!wanted.empty()) return wanted;
  const Json* first = seen_.Object(kube::kStatefulSets, PrimaryName());
  if (first != nullptr) {
    const Json& containers = kube::At(*first, {"spec", "template", "spec", "containers"});
    if (containers.is_array() && !containers.empty()) return kube::StringAt(containers[0], {"image"});
  }
  const std::string& known = context_.policy.status.image;
  return known.empty() ? context_.images.postgres : known;
}

void Planner::AddInstance(int ordinal) {
  Apply(kube::kServices, RenderInstanceService(context_, ordinal));
  Json set = RenderInstance(context_, ordinal, plan_.image);
  KeepBoot(set, ordinal);
  if (FitVolume(set, InstanceName(policy(), ordinal))) Apply(kube::kStatefulSets, std::move(set));
}

std::string Planner::Stranger() const {
  const PrimarySeen& primary = seen_.primary;
  const std::string& known = context_.policy.status.system_identifier;
  std::string name = PrimaryName();
  bool other = !known.empty() && !primary.system_identifier.empty() && primary.system_identifier != known;
  // Replicas are only ever made of a primary that has the database.
  bool emptied = primary.lacks_database && seen_.instances.size() > 1;
  if (!other && !emptied) return "";
  return name + " is not the server that it was (system identifier " + primary.system_identifier +
         (known.empty() ? "" : ", before " + known) +
         "): its volume was lost or exchanged. pgtier leaves everything as " +
         "it is. Bring the volume back, or take the data from a replica, before you go on";
}

void Planner::AddPrimary() {
  plan_.image = PinnedImage();
  if (seen_.promotion_from_status) {
    // The Service may have more to say by now than the cache has seen: then this is refused.
    MovePrimaryService(seen_.primary_ordinal, Term(), plan_.promotion);
  } else {
    Apply(kube::kServices, PrimaryServiceAs(seen_.primary_ordinal, Term(), plan_.promotion));
  }
  Apply(kube::kPodDisruptionBudgets, RenderInstanceBudget(context_));
  AddInstance(seen_.primary_ordinal);
  if (seen_.primary.is_standby) {
    std::string name = PrimaryName();
    Refuse(
        "PrimaryIsStandby: Service " + PrimaryService(policy()) + " selects " + name +
        ", which is a standby, so nobody takes writes. kubectl pgtier promote " + policy() + " " + name +
        " gives it its role back; another replica's name and --force go on with that one, and lose what it has not " +
        "received");
  }
  if (!seen_.primary.answered) {
    std::string name = PrimaryName();
    const InstanceSeen* instance = Instance(seen_.primary_ordinal);
    std::string trouble = instance == nullptr ? "" : TroubleInWords(*instance);
    if (!trouble.empty()) {
      Wait(name + " to start: " + trouble);
    } else {
      Wait(name + (instance != nullptr && instance->pod_ready ? " to answer: " + seen_.primary.error : " to start"));
    }
    return;
  }
  std::string wanted = BootstrapHash(*context_.policy.spec.managed, credentials_);
  if (seen_.primary.installed != wanted) {
    plan_.actions.emplace_back(Bootstrap{wanted});
    Wait("roles, database and extensions to be made");
  }
}

// What is to be said of passwords: of a request that is carried out, and of one that cannot be.
void Planner::AddPasswords() {
  const PasswordRotation& rotation = credentials_.rotation;
  if (rotation.number > 0 && rotation.Told()) {
    plan_.passwords.request = rotation.request;
    if (rotation.former) plan_.passwords.former_until = *rotation.told + PasswordGrace(*context_.policy.spec.managed);
  }
  if (!rotation.Told()) Wait("every server to know the new passwords");
  const auto& asked = context_.policy.meta.annotations.find(kRotatePasswordsAnnotation);
  std::string why = WhyNoRotation(context_.policy, context_.resolved);
  if (asked == context_.policy.meta.annotations.end() || asked->second == rotation.request || why.empty()) return;
  plan_.unavailable.push_back(std::string("annotation ") + kRotatePasswordsAnnotation + " (" + why + ")");
}

void Planner::AddMaterializedViews() {
  if (!seen_.primary.answered || seen_.primary.installed.empty()) return;
  std::map<std::string, Duration> running;
  for (const auto& [name, view] : seen_.primary.materialized_views) running[name] = view.every;
  if (running == tier_.materialized_views) return;
  plan_.actions.emplace_back(SetMaterializedViews{tier_.materialized_views});
  Wait("the database to be told of its materialized views");
}

void Planner::AddReplicas() {
  if (!seen_.primary.answered || seen_.primary.installed.empty()) return;
  // One base backup at a time: two take the primary's processor and disk twice. One whose pod has trouble holds up
  // nobody.
  bool cloning = false;
  for (int ordinal : Replicas()) {
    std::string name = InstanceName(policy(), ordinal);
    if (cloning && seen_.Object(kube::kStatefulSets, name) == nullptr) {
      Wait(name + ": the replica before it to be cloned");
      continue;
    }
    AddReplica(ordinal);
    const InstanceSeen* instance = Instance(ordinal);
    bool in_trouble = instance != nullptr && !instance->trouble.empty() && instance->trouble_lasts;
    cloning = cloning || instance == nullptr || (!instance->pod_ready && !instance->answered && !in_trouble);
  }
}

void Planner::AddReplica(int ordinal) {
  std::string name = InstanceName(policy(), ordinal);
  const InstanceSeen* instance = Instance(ordinal);
  // Before anything that takes its volume away.
  if (instance != nullptr && IsSecondWriter(*instance)) return;
  if (seen_.primary.lost_slots.contains(SlotName(name))) {
    if (instance != nullptr && instance->pod_ready && !instance->answered) return Wait(name + " to answer");
    return CloneAnew(name, "its WAL is gone from the primary");
  }
  if (instance != nullptr && instance->trouble.find("RewindFailed") != std::string::npos) {
    return CloneAnew(name, "what it holds cannot be joined to the primary");
  }
  const Json* claim = seen_.Object(kube::kPersistentVolumeClaims, VolumeClaimName(name));
  if (claim != nullptr && claim->at("metadata").contains("deletionTimestamp")) {
    return Wait("the volume of the former " + name + " to go");
  }
  if (instance != nullptr && IsCutOff(*instance)) return;
  // The slot first: it keeps the WAL that the base backup will need to be followed by.
  if (!seen_.primary.slots.contains(SlotName(name))) plan_.actions.emplace_back(EnsureSlot{SlotName(name)});
  AddInstance(ordinal);
  if (instance != nullptr) {
    // Left from when it was the primary, or was to be: they would keep its WAL until the volume is full.
    for (const std::string& slot : instance->idle_slots) plan_.actions.emplace_back(DropSlot{slot, instance->pod_ip});
  }
  std::string trouble = instance == nullptr ? "" : TroubleInWords(*instance);
  // One that is not ready and answers is out of reads: it is no base backup, and no trouble of its pod.
  if (instance == nullptr || (!instance->pod_ready && (!instance->answered || !trouble.empty()))) {
    Wait(name + ": base backup of the primary" + (trouble.empty() ? "" : " (" + trouble + ")"));
  } else if (instance->replay_paused && !MayTakeReads(*instance, seen_.primary, tier_.max_lag, true)) {
    Wait(PausedInWords(*instance, context_.policy.meta.namespace_));
  } else if (!instance->streaming) {
    Wait(WhyItDoesNotStream(*instance));
  } else if (!MayTakeReads(*instance, seen_.primary, tier_.max_lag, IsRouted(context_.policy.status, name))) {
    bool entering = decision_.from != decision_.to;
    Wait(name + ": " + (entering ? "to catch up with the primary" : LagInWords(*instance, tier_.max_lag)));
  } else if (tier_.UsesReplicas() && name != restarting_) {
    plan_.routed.push_back(name);
  }
}

// What it alone has is thrown away by nobody but a person.
bool Planner::IsSecondWriter(const InstanceSeen& instance) {
  if (!instance.answered || !instance.takes_writes) return false;
  const std::string& name = instance.name;
  Refuse("ReplicaTakesWrites: " + name + " takes writes, and is not whom Service " + PrimaryService(policy()) +
         " selects. kubectl delete pod " + PodName(name) + " -n " + context_.policy.meta.namespace_ +
         " makes it a replica again and throws away what it alone has; kubectl pgtier promote " + policy() + " " +
         name + " --force goes on with it, and throws away what " + PrimaryName() + " alone has");
  Wait(name + " to be a replica");
  return true;
}

// A standby that was away while the primary changed: the new one has a slot for it from then on, and may have thrown
// away before what this one needs. PostgreSQL says so in both logs only, for as long as it goes on. Where replay has
// come to its end it stands: the text below changes while it moves, and the patience begins anew. A query may hold
// replay of what it has itself, and while it is paused nothing is known: nobody asks for more.
bool Planner::IsCutOff(const InstanceSeen& instance) {
  std::optional<Duration> patience = ReplayPatience(context_.policy.spec.managed->parameters);
  const std::optional<postgres::Lsn>& oldest = seen_.primary.oldest_wal;
  bool answers = instance.answered && !instance.takes_writes && !instance.replay_paused;
  if (!answers || instance.streaming || !instance.newest.has_value() || !oldest.has_value()) return false;
  if (instance.newest->value == 0 || *instance.newest >= *oldest) return false;
  // Not where the primary's begins: that moves with every checkpoint.
  std::string why = instance.name + ": to stream from the primary, which does not have the WAL after " +
                    instance.newest->ToString() + " any more";
  plan_.lasting.insert(why);
  if (patience.has_value() && waited_.Lasted(why) >= *patience) {
    CloneAnew(instance.name, "WAL that it needs is gone from the primary");
  } else {
    Wait(why);
  }
  return true;
}

// One that holds what its primary does not asks for ever, and only both logs say so. At its start it finds out by
// itself (images/postgres/pgtier-postgres).
std::string Planner::WhyItDoesNotStream(const InstanceSeen& instance) {
  constexpr Duration kStands = std::chrono::minutes(1);
  std::string text = instance.name + ": to stream from the primary";
  if (!instance.answered || !instance.newest.has_value()) return text;
  std::string stands = instance.name + " stands at " + instance.newest->ToString();
  plan_.lasting.insert(stands);
  if (waited_.Lasted(stands) < kStands) return text;
  return text + ". It has stood at " + instance.newest->ToString() +
         " for a minute; its log says why. Where it holds what the primary does not, kubectl delete pod " +
         PodName(instance.name) + " -n " + context_.policy.meta.namespace_ +
         " has it rewound at its start, and cloned anew where that cannot be";
}

// The primary has thrown away WAL that the standby still needs (max_slot_wal_keep_size): it can never stream again, and
// what it holds is a copy. The slot goes once nothing uses it, then all begins as for a new replica.
void Planner::CloneAnew(const std::string& name, const std::string& why) {
  RemoveInstance(name);
  auto slot = seen_.primary.slots.find(SlotName(name));
  if (slot != seen_.primary.slots.end() && !slot->second) plan_.actions.emplace_back(DropSlot{SlotName(name)});
  Wait(name + ": " + why + "; it is cloned anew");
}

// The StatefulSet last: by it an instance is known. A pass that ends between these leaves nothing forgotten; the volume
// waits for its pod to go (pvc-protection).
void Planner::RemoveInstance(const std::string& name) {
  RemoveIfThere(kube::kServices, name);
  RemoveIfThere(kube::kPersistentVolumeClaims, VolumeClaimName(name));
  RemoveIfThere(kube::kStatefulSets, name);
}

// Only once nothing routes to them, as read back from the poolers, and only in a tier that is known to want fewer: a
// status that was lost must not remove what the database says is in use.
void Planner::RemoveSurplusReplicas() {
  if (seen_.primary.tier != decision_.from && seen_.primary.tier != decision_.to) return;
  std::vector<int> wanted_ordinals = Replicas();
  wanted_ordinals.push_back(seen_.primary_ordinal);
  for (const InstanceSeen& instance : seen_.instances) {
    if (std::find(wanted_ordinals.begin(), wanted_ordinals.end(), instance.ordinal) != wanted_ordinals.end()) continue;
    if (IsSecondWriter(instance) || !plan_.waiting_for.empty()) return;
    // Who does not say how many clients it has may have any.
    bool busy = instance.clients > 0 || (instance.pod_ready && !instance.answered);
    std::string drain = instance.name + ": its clients to finish";
    bool drained_long_enough = waited_.what == drain && waited_.how_long >= tier_.drain_timeout;
    if (busy && !drained_long_enough) return Wait(drain);
    RemoveInstance(instance.name);
    Wait(instance.name + " to stop");
  }
  for (const auto& [slot, active] : seen_.primary.slots) {
    bool wanted = false;
    for (int ordinal : Replicas()) {
      wanted = wanted || slot == SlotName(InstanceName(policy(), ordinal));
    }
    if (wanted || !plan_.waiting_for.empty()) continue;
    if (!active) plan_.actions.emplace_back(DropSlot{slot});
    Wait("slot " + slot + " to be dropped");
  }
}

void Planner::AddReloads() {
  std::string wanted = RenderPostgresFiles(context_.policy, context_.resolved, Terms()).hash;
  for (const InstanceSeen& instance : seen_.instances) {
    if (!instance.answered) continue;
    // What stands in the file and is refused would keep the server from its next start.
    if (!instance.config_error.empty()) {
      Refuse("spec.postgres.managed.parameters: " + instance.name + " refuses " + instance.config_error);
    }
    bool certified = !instance.encrypted || instance.certificate == credentials_.tls.postgres.fingerprint;
    if (instance.config == wanted && certified) continue;
    plan_.actions.emplace_back(SyncPodVolumes{PodName(instance.name)});
    plan_.actions.emplace_back(ReloadPostgres{instance.name, instance.pod_ip});
    Wait(instance.name + " to take its " + (instance.config == wanted ? "certificate" : "configuration"));
  }
}

}  // namespace pgtier::controllers::scale_tier
