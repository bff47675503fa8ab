// What to do next, as a list of actions. Pure: from the policy, what was seen and the decision.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "controllers/shadow_table/manifests.h"
#include "controllers/shadow_table/resolve.h"
#include "controllers/shadow_table/seen.h"
#include "core/decide.h"

namespace pgtier::controllers::shadow_table {

// Each action is idempotent: done twice it does no more than once.

// Puts the finalizer onto the policy, or takes it away.
struct SetFinalizer {
  bool present;
};
// Server-side apply.
struct ApplyObject {
  kube::Resource resource;
  nlohmann::json object;
};
struct DeleteObject {
  kube::Resource resource;
  std::string name;
  std::string uid;  // Only this very object.
};
// shadow::Install: histories, triggers, roles.
struct Install {};
// shadow::Uninstall.
struct Uninstall {};
// shadow::Retain: triggers stay at work, and another policy may take the tables over.
struct Retain {};
// The password of a worker's role.
struct SetWorkerPassword {
  shadow::Tier tier;
};
// shadow::SwapBodies.
struct Swap {
  shadow::Tier to;
};
// shadow::Deliver: rows in notifications, or in the queue.
struct SetDelivery {
  bool payload;
};
// shadow::Drained: notes in the database that it is.
struct AskDrained {};

// shadow::PrepareCdc: publication, replica identities, slot.
struct PrepareCdc {};
// shadow::Barrier: into tier cdc or out of it.
struct CrossBarrier {
  shadow::Tier to;
};
// shadow::SettleCdc: what a log that is gone did not give is written down as a gap.
struct SettleCdc {};
// shadow::DropCdc.
struct DropCdc {};

// shadow::MakeAuditEvents.
struct MakeAuditEvents {};

// shadow::EnsureAhead.
struct KeepPartitionsAhead {
  shadow::PartitionSpec spec;
};
// shadow::DropExpired, some of them.
struct DropExpiredPartitions {
  shadow::PartitionSpec spec;
  Duration retain;
};
// shadow::ForgetPartitioning.
struct ForgetPartitionBound {
  shadow::PartitionSpec spec;
};

using Action = std::variant<SetFinalizer, Install, Uninstall, Retain, SetWorkerPassword, ApplyObject, DeleteObject,
                            Swap, SetDelivery, AskDrained, PrepareCdc, CrossBarrier, SettleCdc, DropCdc,
                            MakeAuditEvents, KeepPartitionsAhead, DropExpiredPartitions, ForgetPartitionBound>;

struct Plan {
  std::vector<Action> actions;
  // What is still missing until the tier runs as specified, for people; empty: nothing, it has been read back.
  std::string waiting_for;
  // What a person must decide or mend before this goes on: "UnloggedTable: …"; empty: nothing.
  std::string refused;
};

// What every plan needs.
struct PlanContext {
  const crds::ShadowTablePolicy& policy;
  const Resolved& resolved;
  const std::string& image;  // Of the workers.
  int workers = 1;           // As many as the load asks for, in tier notify.
};

// `decision.to` is the tier to build or keep. No table is ever without what writes its history: a worker runs before
// rows are queued for it, and until the queue is empty.
Plan MakePlan(const PlanContext& context, const Seen& seen, const core::Decision& decision);

// Of a policy that is deleted: back to triggers, the queue drained, workers gone; then, with deletionPolicy Remove, the
// triggers too; then the finalizer.
Plan MakeDeletionPlan(const PlanContext& context, const Seen& seen);

// Of a policy that is not acted on (paused, observing, not readable): only what keeps a slot from filling the disk. A
// slot in danger is left through the barrier, and what a way out of cdc has left, the slot too, is brought to its end.
// `entering`: a change into cdc is under way, whose slot waits as long as it is out of danger.
Plan MakeGuardPlan(const PlanContext& context, const Seen& seen, bool entering);

// Whichever of these fits: a policy that is deleted goes, whatever else is wrong with it. `acts`: the policy is acted
// on otherwise.
Plan PlanFor(const PlanContext& context, const Seen& seen, const core::Decision& decision, bool acts);

// The database knows every table of the policy, and no other, and keeps their changes with this release's SQL.
bool IsInstalled(const shadow::State& state, const shadow::Spec& spec);

// Why the slot must be left before the server throws away WAL that no history has, with what was observed; empty: it
// may stay.
std::string SlotDanger(const shadow::SlotState& slot, const Resolved& resolved);

// "UnloggedTable: public.t is …; ALTER TABLE …" of the findings that block, one after the other; empty: none does.
std::string Blocking(const std::vector<shadow::Finding>& findings);

}  // namespace pgtier::controllers::shadow_table
