#include "controllers/scale_tier/act.h"

#include <algorithm>
#include <functional>
#include <type_traits>

#include "controllers/ladder/objects.h"
#include "controllers/scale_tier/bootstrap.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "lib/base/log.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"
#include "lib/poolers/pgbouncer_admin.h"
#include "lib/poolers/pgcat_admin.h"
#include "lib/postgres/catalogue.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

// How long one pass waits for the kubelet to bring a pod's files up to date; the next pass goes on where it ended.
constexpr Duration kSyncPatience = std::chrono::seconds(4);
constexpr Duration kSyncPoll = std::chrono::milliseconds(200);
// For as long as a new configuration may take to reach a pod whose node is slow; it ends every ban.
constexpr std::chrono::seconds kBan{300};
// For the transactions under way of clients that are to be held; all poolers together.
constexpr Duration kHoldPatience = std::chrono::seconds(2);
// What a console needs to take the command itself.
constexpr Duration kConsolePatience = std::chrono::milliseconds(500);
// Nodes follow a Service within a second or two.
constexpr Duration kServicePatience = std::chrono::seconds(5);
constexpr Duration kServicePoll = std::chrono::milliseconds(50);

// Carries out one action; what all of them need is gathered once.
class Step {
 public:
  Step(kube::Client& client, const crds::ScaleTierPolicy& policy, const Seen& seen, const Credentials& credentials,
       const HostCheck& check, Deadline deadline, const std::stop_token& stop)
      : client_(client),
        policy_(policy),
        seen_(seen),
        credentials_(credentials),
        check_(check),
        deadline_(deadline),
        stop_(stop) {}

  Status operator()(const ApplyObject& action) {
    bool known = seen_.Object(action.resource, kube::KeyOf(action.object).name) != nullptr;
    return ApplyOwned(client_, action.resource, action.object, kPolicyLabel, policy_.meta.name, known, deadline_,
                      stop_);
  }

  Status operator()(const DeleteObject& action) {
    kube::DeleteOptions options;
    options.uid = action.uid;
    options.propagation = action.propagation;
    return DeleteOwned(client_, action.resource, {policy_.meta.namespace_, action.name}, options, deadline_, stop_);
  }

  Status operator()(const GrowVolume& action) {
    Json patch{{"spec", {{"resources", {{"requests", {{"storage", action.size}}}}}}}};
    Result<Json> patched = client_.MergePatch(kube::kPersistentVolumeClaims, {policy_.meta.namespace_, action.claim},
                                              patch, deadline_, stop_);
    if (!patched.has_value()) return patched.error().WithContext("grow " + action.claim);
    log::Info("asked for a larger volume", {{"claim", action.claim}, {"size", action.size}});
    return {};
  }

  Status operator()(const Bootstrap& action) {
    if (policy_.spec.external.has_value()) {
      log::Info("making schema pgtier in the external database");
      return InstallOnExternal(*policy_.spec.external, *credentials_.external, check_, action.hash, deadline_, stop_);
    }
    log::Info("making roles, database and extensions");
    return InstallOnPrimary(Primary(), *policy_.spec.managed, credentials_, action.hash, deadline_, stop_);
  }

  Status operator()(const EnsureSlot& action) {
    PGTIER_ASSIGN_OR_RETURN(postgres::Connection primary, OpenPrimary());
    PGTIER_ASSIGN_OR_RETURN(bool made, postgres::EnsurePhysicalSlot(primary, action.slot, deadline_));
    if (made) log::Info("made replication slot", {{"slot", action.slot}});
    return {};
  }

  Status operator()(const DemotePrimary& action) {
    PGTIER_ASSIGN_OR_RETURN(postgres::Lsn fence, Demote(InstanceAt(action.ip), credentials_, deadline_, stop_));
    Promotion promotion = action.promotion;
    promotion.fence = fence;
    Json service = action.service;
    service["metadata"]["annotations"][kPromotionAnnotation] = EncodePromotion(promotion);
    Stamp(service);
    service["metadata"]["resourceVersion"] = action.resource_version;
    Result<Json> applied = client_.Apply(kube::kServices, service, true, deadline_, stop_);
    if (!applied.has_value()) return applied.error();
    log::Info("the old primary is fenced", {{"instance", promotion.from}, {"wal", fence.ToString()}});
    return {};
  }

  Status operator()(const PromoteInstance& action) {
    if (!action.old.empty()) {
      // Asked of the server itself and not of a cache: two that take writes are worse than none.
      kube::ListOptions options;
      options.label_selector = std::string(kInstanceLabel) + "=" + action.old;
      PGTIER_ASSIGN_OR_RETURN(Json pods, client_.List(kube::kPods, policy_.meta.namespace_, options, deadline_, stop_));
      if (!pods["items"].empty()) return MakeError(Code::kUnavailable, action.old + " has a pod still");
    }
    if (!action.beside.empty()) {
      PGTIER_ASSIGN_OR_RETURN(postgres::Connection other,
                              postgres::Connection::Open(ConnectTo(InstanceAt(action.beside), credentials_.AsMonitor(),
                                                                   policy_.spec.managed->database),
                                                         deadline_, stop_));
      PGTIER_ASSIGN_OR_RETURN(bool in_recovery, postgres::IsInRecovery(other, deadline_));
      if (!in_recovery) return MakeError(Code::kUnavailable, "the heir of " + action.instance + " takes writes");
    }
    PGTIER_RETURN_IF_ERROR(
        PromoteServer(action, InstanceAt(action.ip), policy_.spec.managed->database, credentials_, deadline_, stop_));
    log::Info("promoted", {{"instance", action.instance}, {"in place of", action.old}});
    return {};
  }

  // Not being held is what clients lose by, and no reason to break off: a pooler that cannot be told is only named.
  Status operator()(const HoldClients& action) {
    Deadline patience = deadline_.AtMost(kHoldPatience);
    for (const PoolerConsole& pooler : action.poolers) {
      Deadline own = deadline_.AtMost(std::max(patience.Remaining(), kConsolePatience));
      Result<bool> held = false;
      Status told = AtConsole(pooler, [&](poolers::PgBouncerAdmin& admin) -> Status {
        held = admin.Hold(pooler.database, own);
        return held.has_value() ? Status() : Status(held.error());
      });
      if (told.has_value()) {
        log::Info("holding clients", {{"pod", pooler.pod}, {"all", *held ? "yes" : "but for transactions under way"}});
      } else {
        log::Warn("clients are not held", {{"pod", pooler.pod}, {"error", told.error().message}});
      }
    }
    return {};
  }

  Status operator()(const LetClientsGoOn& action) {
    AwaitPrimaryAt(action.address);
    Status outcome;
    for (const PoolerConsole& pooler : action.poolers) {
      Status told =
          AtConsole(pooler, [&](poolers::PgBouncerAdmin& admin) { return admin.Resume(pooler.database, deadline_); });
      if (told.has_value()) log::Info("clients go on", {{"pod", pooler.pod}});
      if (outcome.has_value()) outcome = std::move(told);
    }
    return outcome;
  }

  Status operator()(const DropSlot& action) {
    PGTIER_ASSIGN_OR_RETURN(
        postgres::Connection server,
        OpenToAct(action.ip.empty() ? Primary() : InstanceAt(action.ip), credentials_, deadline_, stop_));
    PGTIER_ASSIGN_OR_RETURN(bool dropped, postgres::DropSlot(server, action.slot, deadline_));
    if (dropped) log::Info("dropped replication slot", {{"slot", action.slot}});
    return {};
  }

  Status operator()(const SyncPodVolumes& action) {
    // The value changes each time: the kubelet may have looked before the new configuration had reached it.
    Json patch{{"metadata", {{"annotations", {{kConfigAnnotation, FormatMicroTime(SystemClock().Now())}}}}}};
    Result<Json> patched =
        client_.MergePatch(kube::kPods, {policy_.meta.namespace_, action.pod}, patch, deadline_, stop_);
    return patched.has_value() ? Status() : Status(patched.error());
  }

  Status operator()(const ReloadPostgres& action) {
    PGTIER_ASSIGN_OR_RETURN(postgres::Connection server, OpenSuperuser(action.ip));
    PGTIER_ASSIGN_OR_RETURN(postgres::Rows rows, server.Query("SELECT pg_reload_conf()", deadline_));
    std::ignore = rows;  // It returns true or fails; what was loaded, the next pass reads.
    log::Info("reloaded", {{"instance", action.instance}});
    return {};
  }

  // A RELOAD that changes hosts replaces the server connections by itself, each as its transaction ends. RECONNECT on
  // top of it would break logins under way (pgbouncer#1536).
  Status operator()(const ReloadPooler& action) { return Reload<poolers::PgBouncerAdmin>(action); }

  Status operator()(const ReloadPgCat& action) { return Reload<poolers::PgCatAdmin>(action); }

  Status operator()(const BanReplica& action) {
    PGTIER_ASSIGN_OR_RETURN(
        poolers::PgCatAdmin admin,
        poolers::PgCatAdmin::Open(ConnectToConsole(PoolerAt(action.ip), credentials_), deadline_, stop_));
    PGTIER_RETURN_IF_ERROR(admin.Ban(action.host, kBan, deadline_));
    log::Info("banned", {{"pod", action.pod}, {"host", action.host}});
    return {};
  }

  Status operator()(const UnbanReplica& action) {
    PGTIER_ASSIGN_OR_RETURN(
        poolers::PgCatAdmin admin,
        poolers::PgCatAdmin::Open(ConnectToConsole(PoolerAt(action.ip), credentials_), deadline_, stop_));
    PGTIER_RETURN_IF_ERROR(admin.Unban(action.host, deadline_));
    log::Info("not banned any more", {{"pod", action.pod}, {"host", action.host}});
    return {};
  }

  Status operator()(const MarkDraining& action) {
    Json since = action.draining ? Json(FormatTime(SystemClock().Now())) : Json();
    Json patch{{"metadata", {{"annotations", {{kDrainingAnnotation, since}}}}}};
    Result<Json> patched =
        client_.MergePatch(kube::kDeployments, {policy_.meta.namespace_, action.deployment}, patch, deadline_, stop_);
    if (!patched.has_value()) return patched.error();
    log::Info(action.draining ? "waiting for its clients to finish" : "in use again", {{"pooler", action.deployment}});
    return {};
  }

  Status operator()(const ShutDownPooler& action) {
    postgres::ConnectOptions console = ConnectToConsole(PoolerAt(action.ip), credentials_);
    log::Info("closing clients of a former pooler", {{"pod", action.pod}});
    // One that cannot be told ends all the same, by its pod's end.
    if (action.pgcat) {
      Result<poolers::PgCatAdmin> admin = poolers::PgCatAdmin::Open(console, deadline_, stop_);
      return admin.has_value() ? admin->ShutDown(deadline_) : Status();
    }
    Result<poolers::PgBouncerAdmin> admin = poolers::PgBouncerAdmin::Open(console, deadline_, stop_);
    return admin.has_value() ? admin->ShutDown(deadline_) : Status();
  }

  Status operator()(const SetMaterializedViews& action) {
    return SetViewsOnPrimary(Primary(), *policy_.spec.managed, credentials_, action.views, deadline_, stop_);
  }

  Status operator()(const RecordTier& action) {
    if (policy_.spec.external.has_value()) {
      return RecordTierOnExternal(*policy_.spec.external, *credentials_.external, check_, action.tier, action.epoch,
                                  deadline_, stop_);
    }
    return RecordTierOnPrimary(Primary(), *policy_.spec.managed, credentials_, action.tier, action.epoch, deadline_,
                               stop_);
  }

 private:
  Status AtConsole(const PoolerConsole& pooler, const std::function<Status(poolers::PgBouncerAdmin&)>& tell) {
    PGTIER_ASSIGN_OR_RETURN(poolers::PgBouncerAdmin admin,
                            poolers::PgBouncerAdmin::Open(ConnectToConsole(PoolerAt(pooler.ip), credentials_),
                                                          deadline_.AtMost(kHoldPatience), stop_));
    return tell(admin);
  }

  // A pooler that is let go on connects at once, and refuses its clients if nobody is there.
  void AwaitPrimaryAt(const std::string& address) {
    if (address.empty()) return;
    bool encrypted = std::all_of(seen_.instances.begin(), seen_.instances.end(),
                                 [](const InstanceSeen& instance) { return instance.encrypted; });
    Peer peer{address, encrypted, credentials_.tls.Trust()};
    for (Deadline patience = deadline_.AtMost(kServicePatience); !patience.Expired();) {
      Result<postgres::Connection> connection = postgres::Connection::Open(
          ConnectTo(peer, credentials_.AsMonitor(), policy_.spec.managed->database), patience, stop_);
      Result<bool> in_recovery =
          connection.has_value() ? postgres::IsInRecovery(*connection, patience) : Result<bool>(true);
      if (in_recovery.has_value() && !*in_recovery) return;
      if (!SleepFor(kServicePoll, stop_)) return;
    }
    log::Warn("no primary answers at its Service yet", {{"address", address}});
  }

  // Until the pooler says that it runs what it was told to, or for as long as the kubelet may need to bring the file.
  template <typename Admin, typename Told>
  Status Reload(const Told& action) {
    Deadline patience = deadline_.AtMost(kSyncPatience);
    while (true) {
      // Anew each time: what certificate is presented shows only at a handshake.
      PGTIER_ASSIGN_OR_RETURN(Admin admin,
                              Admin::Open(ConnectToConsole(PoolerAt(action.ip), credentials_), deadline_, stop_));
      bool certified = true;
      if constexpr (std::is_same_v<Told, ReloadPooler>) {
        certified = action.certificate.empty() || admin.ServerCertificate() == action.certificate;
      }
      PGTIER_RETURN_IF_ERROR(admin.Reload(deadline_));
      PGTIER_ASSIGN_OR_RETURN(auto config, admin.ShowConfig(deadline_));
      PGTIER_ASSIGN_OR_RETURN(auto databases, admin.ShowDatabases(deadline_));
      PGTIER_ASSIGN_OR_RETURN(auto differences, poolers::CompareWithRunning(action.settings, config, databases));
      if (differences.empty() && certified) break;
      if (patience.Expired() || !SleepFor(kSyncPoll, stop_)) return {};  // The next pass tries again.
    }
    log::Info("pooler took its configuration", {{"pod", action.pod}});
    return {};
  }

  Peer Primary() const {
    const InstanceSeen* primary = seen_.PrimaryInstance();
    return primary == nullptr ? Peer{} : PeerOf(*primary, credentials_);
  }
  Peer InstanceAt(const std::string& ip) const {
    for (const InstanceSeen& instance : seen_.instances) {
      if (instance.pod_ip == ip) return PeerOf(instance, credentials_);
    }
    return Peer{ip, true, credentials_.tls.Trust()};
  }
  Peer PoolerAt(const std::string& ip) const {
    for (const PoolerPodSeen& pod : seen_.poolers) {
      if (pod.ip == ip) return PeerOf(pod, credentials_);
    }
    return Peer{ip, true, credentials_.tls.Trust()};
  }
  Result<postgres::Connection> OpenSuperuser(const std::string& ip) const {
    return postgres::Connection::Open(ConnectTo(InstanceAt(ip), credentials_.AsSuperuser(), "postgres"), deadline_,
                                      stop_);
  }
  Result<postgres::Connection> OpenPrimary() const { return OpenToAct(Primary(), credentials_, deadline_, stop_); }

  kube::Client& client_;
  const crds::ScaleTierPolicy& policy_;
  const Seen& seen_;
  const Credentials& credentials_;
  const HostCheck& check_;
  Deadline deadline_;
  const std::stop_token& stop_;
};

// What takes reads away from a replica that may have none. It goes on although something else failed.
bool IsRouting(const Action& action) {
  if (const auto* apply = std::get_if<ApplyObject>(&action)) return apply->resource.plural == kube::kSecrets.plural;
  return std::holds_alternative<SyncPodVolumes>(action) || std::holds_alternative<ReloadPooler>(action) ||
         std::holds_alternative<ReloadPgCat>(action) || std::holds_alternative<BanReplica>(action) ||
         std::holds_alternative<UnbanReplica>(action);
}

}  // namespace

Status Actor::Act(const Plan& plan, const crds::ScaleTierPolicy& policy, const Seen& seen,
                  const Credentials& credentials, Deadline deadline, const std::stop_token& stop) {
  Step step(*client_, policy, seen, credentials, check_, deadline, stop);
  Status outcome;
  for (const Action& action : plan.actions) {
    if (stop.stop_requested()) return MakeError(Code::kCancelled, "stopping");
    if (!outcome.has_value() && !IsRouting(action)) continue;
    Status done = std::visit(step, action);
    if (outcome.has_value()) outcome = std::move(done);
  }
  return outcome;
}

}  // namespace pgtier::controllers::scale_tier
