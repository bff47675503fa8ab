// A promotion, as actions: each pass plans what is missing from what it sees; only the phase is remembered, on the
// Service. The old primary never runs as a primary again before the Service selects it: its data directory says standby
// before it is stopped, and the new one is promoted only when the old one's pod is gone.
#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/planner.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {

using Json = nlohmann::json;

namespace {

// Further behind, the clean shutdown would take long: the walsender waits until the standby has everything.
constexpr uint64_t kNearBytes = 64 * 1024 * 1024;

std::string RequestOf(const crds::ScaleTierPolicy& policy) {
  auto found = policy.meta.annotations.find(kPromoteAnnotation);
  return found == policy.meta.annotations.end() ? "" : found->second;
}

postgres::Lsn Newest(const postgres::WalPosition& position) { return std::max(position.received, position.replayed); }

}  // namespace

const postgres::WalPosition* Planner::Position(const std::string& instance) const {
  auto found = seen_.positions.find(instance);
  return found == seen_.positions.end() ? nullptr : &found->second;
}

// Who has received more than `to`, or empty. Of standbys that do not answer nothing is known.
std::string Planner::Newer(const std::string& from, const std::string& to) const {
  const postgres::WalPosition* own = Position(to);
  for (const auto& [name, position] : seen_.positions) {
    if (name == from || name == to || own == nullptr) continue;
    if (Newest(position) > Newest(*own)) return name;
  }
  return "";
}

Promotion Planner::BeginPromotion(const std::string& annotation) const {
  Promotion begun;
  begun.request = annotation;
  begun.from = PrimaryName();
  begun.phase = PromotionPhase::kRefused;
  auto refuse = [&](std::string why) {
    begun.message = std::move(why);
    return begun;
  };
  Result<PromotionRequest> request = ParsePromotionRequest(annotation);
  if (!request.has_value()) return refuse(request.error().message);
  begun.to = request->target;
  begun.force = request->force;
  if (begun.to == begun.from && seen_.primary.is_standby) return BeginReturn(std::move(begun));
  if (begun.to == begun.from) {
    begun.phase = PromotionPhase::kDone;
    return refuse(begun.to + " is the primary already");
  }
  auto target = std::find_if(seen_.instances.begin(), seen_.instances.end(),
                             [&](const InstanceSeen& each) { return each.name == begun.to; });
  if (target == seen_.instances.end()) {
    std::string replicas;
    for (const InstanceSeen& each : seen_.instances) {
      if (each.name != begun.from) replicas += (replicas.empty() ? "" : ", ") + each.name;
    }
    return refuse("there is no replica " + begun.to + (replicas.empty() ? "" : "; there are: " + replicas));
  }
  if (decision_.from != decision_.to) return refuse("the tier changes just now; promote when that has ended");
  const postgres::WalPosition* to = Position(begun.to);
  const postgres::WalPosition* from = Position(begun.from);
  if (to == nullptr) return refuse(begun.to + " does not answer");
  // With loss: one that became a primary without being asked to may stay it.
  if (!to->in_recovery && !begun.force) return refuse(begun.to + " is no standby");
  const std::string& known = context_.policy.status.system_identifier;
  if (!known.empty() && to->system_identifier != known) return refuse(begun.to + " is of another database");
  if (std::string newer = Newer(begun.from, begun.to); !newer.empty() && begun.force) {
    return refuse(newer + " has received more than " + begun.to + ": promote that one");
  }
  bool works = seen_.primary.answered && from != nullptr && !from->in_recovery;
  if (!works && !begun.force) {
    return refuse(begun.from +
                  " does not answer, so that it cannot be shut down in order; bring it back, or accept the loss "
                  "of what " +
                  begun.to + " has not received: kubectl pgtier promote " + policy() + " " + begun.to + " --force");
  }
  if (works && !begun.force) {
    if (from->system_identifier != to->system_identifier) return refuse(begun.to + " is of another database");
    if (from->timeline != to->timeline) return refuse(begun.to + " follows another timeline than " + begun.from);
    if (!target->streaming) return refuse(begun.to + " does not stream from " + begun.from);
    if (target->replay_paused) return refuse(PausedInWords(*target, context_.policy.meta.namespace_));
    uint64_t behind = postgres::BytesBehind(to->replayed, seen_.primary.wal);
    if (behind > kNearBytes) {
      return refuse(begun.to + " is " + std::to_string(behind) + " bytes behind; promote when it has caught up");
    }
  }
  begun.phase = PromotionPhase::kFencing;
  return begun;
}

// The phase moves only from the very Service that was seen: a cache that is behind must not begin anything twice.
Json Planner::PrimaryServiceAs(int ordinal, int64_t term, const Promotion& promotion) const {
  Json service = RenderPrimaryService(context_, ordinal);
  Json& annotations = service["metadata"]["annotations"];
  if (term > 0) annotations[kTermAnnotation] = std::to_string(term);
  if (std::string text = EncodePromotion(promotion); !text.empty()) annotations[kPromotionAnnotation] = text;
  if (annotations.is_null()) service["metadata"].erase("annotations");
  return service;
}

void Planner::MovePrimaryService(int ordinal, int64_t term, const Promotion& promotion) {
  plan_.promotion = promotion;
  Json service = PrimaryServiceAs(ordinal, term, promotion);
  Stamp(service);
  if (const Json* live = seen_.Object(kube::kServices, PrimaryService(policy()))) {
    service["metadata"]["resourceVersion"] = kube::StringAt(*live, {"metadata", "resourceVersion"});
  }
  plan_.actions.emplace_back(ApplyObject{kube::kServices, std::move(service)});
}

Json Planner::PostgresConfigAs(const std::string& primary, int64_t term) const {
  Json config = RenderPostgresConfigMap(context_, Terms());
  config["data"]["primary"] = EncodePrimary({term, primary});
  return config;
}

PrimaryWord Planner::ToldPrimary() const {
  const Json* config = seen_.Object(kube::kConfigMaps, PostgresConfig(policy()));
  return config == nullptr ? PrimaryWord{} : DecodePrimary(kube::StringAt(*config, {"data", "primary"}));
}

int64_t Planner::Term() const {
  PrimaryWord told = ToldPrimary();
  bool another = !told.instance.empty() && told.instance != PrimaryName() && told.term == seen_.term;
  return another && !seen_.promotion.Runs() ? seen_.term + 1 : seen_.term;
}

bool Planner::AddPromotion() {
  plan_.promotion = seen_.promotion;
  std::string annotation = RequestOf(context_.policy);
  if (!plan_.promotion.Runs()) {
    // By status too: whoever restores a Service of before must not have an old request carried out again.
    bool handled = annotation == plan_.promotion.request || annotation == context_.policy.status.promotion.request;
    if (annotation.empty() || handled) return false;
    Promotion begun = BeginPromotion(annotation);
    MovePrimaryService(seen_.primary_ordinal, seen_.term, begun);
    // Nothing else is looked at in this pass, so nothing may pass for complete.
    Wait(begun.Runs() ? begun.from + " to be fenced" : "the promotion's refusal to be noted");
    return true;
  }
  plan_.image = PinnedImage();
  if (HeedRequest(annotation)) return true;
  if (plan_.promotion.phase == PromotionPhase::kReturning) {
    ReturnPrimary();
  } else if (FencePrimary()) {
    PromoteHeir();
  }
  return true;
}

// Whether the old primary is gone, for good: the StatefulSet controller has seen that none is wanted, counts none, and
// the kubelet has let the pod go, which it does when the containers have ended.
bool Planner::IsGone(const std::string& instance) const {
  const Json* set = seen_.Object(kube::kStatefulSets, instance);
  if (set == nullptr || seen_.Object(kube::kPods, PodName(instance)) != nullptr) return false;
  return kube::IntAt(*set, {"spec", "replicas"}, 1) == 0 && kube::IntAt(*set, {"status", "replicas"}) == 0 &&
         kube::IntAt(*set, {"status", "observedGeneration"}) >= kube::IntAt(*set, {"metadata", "generation"});
}

// PgBouncer holds its clients; PgCat has nothing of the kind that is bounded.
void Planner::HoldClientsOfPrimary() {
  HoldClients hold;
  for (const PoolerPodSeen& pod : seen_.poolers) {
    if (!pod.answered || IsPgCat(pod.endpoint)) continue;
    for (const poolers::DatabaseStats& row : pod.databases) {
      if (row.host == Primary().host && !row.paused) hold.poolers.push_back({pod.pod, pod.ip, row.name});
    }
  }
  if (!hold.poolers.empty()) plan_.actions.emplace_back(std::move(hold));
}

void Planner::LetHeldClientsGoOn() {
  LetClientsGoOn go_on;
  for (const PoolerPodSeen& pod : seen_.poolers) {
    if (!pod.answered || IsPgCat(pod.endpoint)) continue;
    for (const poolers::DatabaseStats& row : pod.databases) {
      if (row.paused) go_on.poolers.push_back({pod.pod, pod.ip, row.name});
    }
  }
  if (go_on.poolers.empty()) return;
  const Json* service = seen_.Object(kube::kServices, PrimaryService(policy()));
  if (service != nullptr) go_on.address = kube::StringAt(*service, {"spec", "clusterIP"});
  plan_.actions.emplace_back(std::move(go_on));
}

bool Planner::FencePrimary() {
  const Promotion& promotion = plan_.promotion;
  if (BothTakeWrites()) return false;
  const Json* set = seen_.Object(kube::kStatefulSets, promotion.from);
  // Without a set its pod may run all the same: one that is made anew for a larger volume leaves it alone.
  bool wanted = set == nullptr || kube::IntAt(*set, {"spec", "replicas"}, 1) != 0;
  const postgres::WalPosition* from = Position(promotion.from);
  if (wanted && promotion.fence.value == 0 && from != nullptr && !from->in_recovery) {
    DemotePrimary action;
    action.ip = seen_.PrimaryInstance()->pod_ip;
    action.promotion = promotion;
    action.service = PrimaryServiceAs(seen_.primary_ordinal, seen_.term, promotion);
    if (const Json* live = seen_.Object(kube::kServices, PrimaryService(policy()))) {
      action.resource_version = kube::StringAt(*live, {"metadata", "resourceVersion"});
    }
    plan_.actions.emplace_back(std::move(action));
    Wait(promotion.from + " to be fenced");
    return false;
  }
  // One that came up as a standby while its heir takes writes has nothing to be asked.
  bool is_over = from != nullptr && TakesWrites(promotion.to);
  if (wanted && promotion.fence.value == 0 && !promotion.force && !is_over) {
    if (from != nullptr) {
      // It was fenced, and restarted before that was noted: where it stopped writing is not known any more.
      Promotion returning = promotion;
      returning.phase = PromotionPhase::kReturning;
      returning.message = promotion.from + " restarted while it was being fenced";
      MovePrimaryService(seen_.primary_ordinal, seen_.term, returning);
    }
    Wait(promotion.from + " to answer, to be fenced");
    return false;
  }
  if (wanted) {
    HoldClientsOfPrimary();
    StopInstance(seen_.primary_ordinal);
  }
  if (!wanted && IsGone(promotion.from)) return true;
  Wait(promotion.from + " to stop");
  return false;
}

void Planner::PromoteHeir() {
  Promotion promotion = plan_.promotion;
  auto heir = std::find_if(seen_.instances.begin(), seen_.instances.end(),
                           [&](const InstanceSeen& each) { return each.name == promotion.to; });
  const postgres::WalPosition* to = Position(promotion.to);
  if (heir == seen_.instances.end() || to == nullptr) {
    const Json* set = seen_.Object(kube::kStatefulSets, promotion.to);
    bool stopped = set != nullptr && kube::IntAt(*set, {"spec", "replicas"}, 1) == 0;
    return Wait(promotion.to + " to answer, to be promoted" +
                (stopped ? " (it is stopped: kubectl scale statefulset " + promotion.to + " -n " +
                               context_.policy.meta.namespace_ + " --replicas=1)"
                         : "") +
                "; kubectl pgtier promote " + policy() + " " + promotion.from + " gives " + promotion.from +
                " its role back");
  }
  if (std::string other = OtherWriter(promotion, Silent::kMayBe); !other.empty()) {
    return Wait(promotion.to + " to be promoted: " + other);
  }
  Duration patience = ProofPatience(context_.policy.spec.managed->parameters);
  bool unproven = waited_.what == NotProven(promotion.to, promotion.from) && waited_.how_long >= patience;
  if (to->in_recovery && unproven && !promotion.force) {
    promotion.phase = PromotionPhase::kReturning;
    promotion.message = NotProven(promotion.to, promotion.from);
    MovePrimaryService(seen_.primary_ordinal, seen_.term, promotion);
    return Wait(promotion.from + " to return");
  }
  PromoteInstance action;
  action.instance = promotion.to;
  action.ip = heir->pod_ip;
  action.old = promotion.from;
  action.fence = promotion.fence;
  action.proof = !(promotion.force && (promotion.fence.value == 0 || unproven));
  if (std::string newer = Newer(promotion.from, promotion.to); to->in_recovery && !action.proof && !newer.empty()) {
    return Wait(promotion.to + " to have the WAL that " + newer + " has received beyond it; kubectl pgtier promote " +
                policy() + " " + newer + " --force goes on with " + newer);
  }
  for (const InstanceSeen& each : seen_.instances) {
    if (each.name != promotion.to) action.slots.push_back(SlotName(each.name));
  }
  promotion.phase = PromotionPhase::kDone;
  std::string noted = promotion.message.empty() ? "" : "; " + promotion.message;
  promotion.message = promotion.to + " is the primary in place of " + promotion.from + noted;
  if (!action.proof) promotion.message += "; what it had not received is lost";
  plan_.actions.emplace_back(std::move(action));
  // First the file by which instances know the primary when they start, then what applications are led by. An operator
  // that ended between the two has given the term already.
  PrimaryWord told = ToldPrimary();
  int64_t term = told.instance == promotion.to && told.term == seen_.term ? seen_.term : seen_.term + 1;
  Apply(kube::kConfigMaps, PostgresConfigAs(promotion.to, term));
  plan_.actions.emplace_back(SyncPodVolumes{PodName(promotion.to)});
  MovePrimaryService(heir->ordinal, term, promotion);
  LetHeldClientsGoOn();
  Wait(promotion.to + " to be promoted");
}

// How an instance fills an empty volume, and the oldest word on who the primary is that it may believe at its start.
// Settled when it is made, and when it comes back from having been fenced; at other times a change of the template
// would only ask for a restart.
void Planner::KeepBoot(Json& set, int ordinal) const {
  const Json* live = seen_.Object(kube::kStatefulSets, set["metadata"]["name"]);
  const Json::json_pointer variables("/spec/template/spec/containers/0/env");
  bool is_primary = ordinal == seen_.primary_ordinal;
  // Of a primary's set that is made anew for a larger volume, its pod says it.
  bool by_pod = live == nullptr && is_primary;
  const Json* pod = by_pod ? seen_.Object(kube::kPods, PodName(set["metadata"]["name"])) : nullptr;
  const Json::json_pointer of_pod("/spec/containers/0/env");
  auto value_of = [&](const char* name) -> std::string {
    const Json* holder = pod != nullptr ? pod : live;
    const Json::json_pointer& where = pod != nullptr ? of_pod : variables;
    if (holder == nullptr || !holder->contains(where)) return "";
    for (const Json& each : holder->at(where)) {
      if (kube::StringAt(each, {"name"}) == name) return kube::StringAt(each, {"value"});
    }
    return "";
  };
  bool returns = live != nullptr && kube::IntAt(*live, {"spec", "replicas"}, 1) == 0 && !is_primary;
  std::string bootstrap = value_of("PGTIER_BOOTSTRAP");
  std::string term = value_of("PGTIER_TERM");
  if (bootstrap.empty()) bootstrap = ordinal == 1 && is_primary ? "initdb" : "basebackup";
  if (returns || (live == nullptr && !is_primary)) {
    bootstrap = "basebackup";
    term = Term() > 0 ? std::to_string(Term()) : "";
  }
  for (Json& each : set[variables]) {
    if (each["name"] == "PGTIER_BOOTSTRAP") each["value"] = bootstrap;
  }
  if (!term.empty()) set[variables].push_back({{"name", "PGTIER_TERM"}, {"value", term}});
}

}  // namespace pgtier::controllers::scale_tier
