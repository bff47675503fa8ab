// What to do next, as a list of actions. Pure: from the policy, what was seen and the decision.
#pragma once

#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "controllers/ladder/pass_memory.h"
#include "controllers/scale_tier/manifests.h"
#include "core/decide.h"

namespace pgtier::controllers::scale_tier {

// Each action is idempotent: done twice it does no more than once.

// Server-side apply.
struct ApplyObject {
  kube::Resource resource;
  nlohmann::json object;
};
struct DeleteObject {
  kube::Resource resource;
  std::string name;
  std::string uid;               // Only this very object.
  std::string propagation = {};  // As kube::DeleteOptions.
};
// Roles, database, extensions and pgtier's schema on the primary.
struct Bootstrap {
  std::string hash;  // Recorded as installed at its end.
};
struct EnsureSlot {
  std::string slot;
};
struct DropSlot {
  std::string slot;
  std::string ip = {};  // Of the standby that holds it; empty: the primary does.
};
// Annotates a pod, so that the kubelet brings its mounted configuration up to date at once and not within a minute.
struct SyncPodVolumes {
  std::string pod;
};
// Makes an instance read its configuration.
struct ReloadPostgres {
  std::string instance;
  std::string ip;
};
// Makes a pooler pod read its configuration; its server connections follow as each is released.
struct ReloadPooler {
  std::string pod;
  std::string ip;
  poolers::PgBouncerSettings settings;  // What it must say that it runs.
  std::string certificate;              // Fingerprint of the one that it must present; empty: none.
};
// The same of PgCat: its pools are made anew, and transactions finish on the old ones.
struct ReloadPgCat {
  std::string pod;
  std::string ip;
  poolers::PgCatSettings settings;
};
// PgCat: new transactions leave the host at once, before the configuration without it has reached the pod.
struct BanReplica {
  std::string pod;
  std::string ip;
  std::string host;
};
struct UnbanReplica {
  std::string pod;
  std::string ip;
  std::string host;
};
// Notes on a pooler's Deployment since when its clients are waited for, or that they are not any more.
struct MarkDraining {
  std::string deployment;
  bool draining;
};
// Tells a pooler whose Deployment is deleted to close the clients that are in no transaction, and to end.
struct ShutDownPooler {
  std::string pod;
  std::string ip;
  bool pgcat;
};
// Tells the database which materialized views to refresh, and how often.
struct SetMaterializedViews {
  std::map<std::string, Duration> views;
};
// Moves the epoch in the database; fails with kAborted when another leader did.
struct RecordTier {
  std::string tier;
  int64_t epoch;  // The one that was seen.
};

// Makes the primary come up as a standby from its next start on, then notes on the Service where it writes now.
struct DemotePrimary {
  std::string ip;
  Promotion promotion;
  nlohmann::json service;  // Rendered, but for the fence.
  std::string resource_version;
};
// Ends an instance's recovery, and moves the epoch in the database.
struct PromoteInstance {
  std::string instance;
  std::string ip;
  std::string old;          // Whose pod must be gone; empty: nobody's.
  std::string beside = {};  // The address of a server that must say, just before, that it is a standby; empty: none.
  bool proof = false;       // Only if it holds the end of a clean shutdown that is later than `fence`.
  postgres::Lsn fence;
  std::vector<std::string> slots;  // Made before: who follows may ask for WAL at once.
};

// Asks for a larger volume.
struct GrowVolume {
  std::string claim;
  std::string size;  // A quantity, as the policy has it.
};

struct PoolerConsole {
  std::string pod, ip, database;
};
// Holds the clients of these poolers while the primary changes: they wait instead of failing. Transactions under way
// have a moment to end.
struct HoldClients {
  std::vector<PoolerConsole> poolers;
};
// Lets them go on, as soon as a primary answers at `address`, which is that of Service <policy>-primary, or when that
// takes too long to be waited for.
struct LetClientsGoOn {
  std::vector<PoolerConsole> poolers;
  std::string address;
};

using Action =
    std::variant<HoldClients, LetClientsGoOn, DemotePrimary, PromoteInstance, ApplyObject, DeleteObject, GrowVolume,
                 Bootstrap, EnsureSlot, DropSlot, SyncPodVolumes, ReloadPostgres, ReloadPooler, ReloadPgCat, BanReplica,
                 UnbanReplica, MarkDraining, ShutDownPooler, SetMaterializedViews, RecordTier>;

// What is to be said of volumes whose size was changed.
struct VolumeNews {
  std::string growing;  // Which grows, and how far it is.
  std::string cannot;   // Which does not, and why.
};
struct Plan {
  std::vector<Action> actions;
  // What is still missing until the tier runs as specified, for people; empty: nothing, it has been read back.
  std::string waiting_for;
  // What this pass found that later ones act on if it lasts (Waited::lasting), whatever they wait for.
  std::set<std::string> lasting;
  // Replicas that take reads as far as this pass sees and wants it, by instance name.
  std::vector<std::string> routed;
  // What the primary runs on; pinned in status.
  std::string image;
  Promotion promotion;  // After this plan.
  // The rotation of certificates that was asked for last and is under way or done.
  std::string certificates_request;
  // The rotation of passwords of which applications have been told.
  crds::Rotation passwords;
  VolumeNews volumes;
  // What a person must decide or mend before this goes on; empty: nothing.
  std::string refused;
  // Fields whose change this release does not carry out, beside those that Resolve names.
  std::vector<std::string> unavailable;
  // Clients of a former engine that this plan closes, for their time to finish is over.
  int64_t closed_clients = 0;
};

// `decision.to` is the tier to build or keep. Its parts come in an order that never takes reads away from a working
// server before their next one works: instances before routing on the way up, routing before instances down.
// Errors: kInvalidArgument: the policy holds a value that cannot be rendered.
Result<Plan> MakePlan(const RenderContext& context, const Seen& seen, const core::Decision& decision,
                      const Credentials& credentials, const Waited& waited = {});

// While it is not known in which tier the database is: only what its server needs to start and say so.
// Promotions are part of that: one that runs goes on, and what a person asks for is heeded.
Plan MakeRecoveryPlan(const RenderContext& context, const Seen& seen, const Credentials& credentials,
                      const Waited& waited = {});

// The ordinals of a tier's replicas: the lowest from 1 on that are not the primary's.
std::vector<int> ReplicaOrdinals(int primary_ordinal, int replicas);

// That a standby's replay is paused, and how it goes on: "kyoyu-2: its replay is paused. …". `space`: its namespace.
std::string PausedInWords(const InstanceSeen& instance, const std::string& space);

// Whether a standby may take reads: it streams, and is no further behind than `max_lag`; one that takes none yet
// (`routed` false) than half of it.
bool MayTakeReads(const InstanceSeen& instance, const PrimarySeen& primary, Duration max_lag, bool routed = true);

}  // namespace pgtier::controllers::scale_tier
