#include "controllers/shadow_table/act.h"

#include <functional>
#include <optional>

#include "controllers/ladder/objects.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/resources.h"
#include "lib/base/log.h"
#include "lib/kube/json.h"
#include "lib/postgres/catalogue.h"
#include "lib/postgres/objects.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;

// One statement after the other may have to try again while writers hold it off.
constexpr int kDropsAPass = 16;  // partitions of a table
constexpr Duration kDatabasePatience = std::chrono::seconds(30);

// A lease is no fence, this is: one operator at a time acts for a policy in its database. FNV-1a of its name, for the
// same number in every build.
int64_t LockOf(const std::string& policy) {
  uint64_t hash = 14695981039346656037U;
  for (unsigned char c : "pgtier shadow " + policy) hash = (hash ^ c) * 1099511628211U;
  return static_cast<int64_t>(hash);
}

class Step {
 public:
  Step(kube::Client& client, const crds::ShadowTablePolicy& policy, const Resolved& resolved, const Seen& seen,
       std::string& version, Deadline deadline, const std::stop_token& stop)
      : client_(client),
        policy_(policy),
        resolved_(resolved),
        seen_(seen),
        version_(version),
        deadline_(deadline),
        stop_(stop) {}

  Status operator()(const SetFinalizer& action) {
    Json finalizers = Json::array();
    for (const std::string& each : policy_.meta.finalizers) {
      if (each != kFinalizer) finalizers.push_back(each);
    }
    if (action.present) finalizers.push_back(kFinalizer);
    // With the version: a finalizer that somebody else set meanwhile is not taken away.
    Json patch{{"metadata", {{"finalizers", finalizers}, {"resourceVersion", policy_.meta.resource_version}}}};
    Result<Json> patched =
        client_.MergePatch(kShadowTablePolicies, {policy_.meta.namespace_, policy_.meta.name}, patch, deadline_, stop_);
    if (!patched.has_value() && patched.error().code != Code::kNotFound) {
      return patched.error().WithContext("set the finalizer");
    }
    if (patched.has_value()) version_ = kube::StringAt(*patched, {"metadata", "resourceVersion"});
    return {};
  }

  Status operator()(const ApplyObject& action) {
    bool known = seen_.Object(action.resource, kube::KeyOf(action.object).name) != nullptr;
    return ApplyOwned(client_, action.resource, action.object, kShadowPolicyLabel, policy_.meta.name, known, deadline_,
                      stop_);
  }

  Status operator()(const DeleteObject& action) {
    kube::DeleteOptions options;
    options.uid = action.uid;
    return DeleteOwned(client_, action.resource, {policy_.meta.namespace_, action.name}, options, deadline_, stop_);
  }

  Status operator()(const Install&) {
    log::Info("making histories and triggers");
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::Install(admin, resolved_.spec, by); });
  }

  Status operator()(const Uninstall&) {
    log::Info("taking triggers away; histories stay");
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::Uninstall(admin, resolved_.spec, by); });
  }

  Status operator()(const Retain&) {
    log::Info("leaving the triggers at work");
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::Retain(admin, resolved_.spec, by); });
  }

  Status operator()(const SetWorkerPassword& action) {
    std::string role(action.tier == shadow::Tier::kCdc ? shadow::kCdcRole : shadow::kNotifyRole);
    return InDatabase([&](postgres::Connection& admin, Deadline by) {
      return postgres::SetPassword(admin, role, seen_.database.worker.password, by);
    });
  }

  Status operator()(const PrepareCdc&) {
    log::Info("making publication and slot");
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::PrepareCdc(admin, resolved_.spec, by); });
  }

  Status operator()(const CrossBarrier& action) {
    log::Info("crossing the barrier", {{"to", shadow::TierName(action.to)}});
    return InDatabase([&](postgres::Connection& admin, Deadline by) {
      return shadow::Barrier(admin, resolved_.spec, action.to, by);
    });
  }

  Status operator()(const SettleCdc&) {
    log::Warn("the log is gone: what it held is written down as a gap");
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::SettleCdc(admin, resolved_.spec, by); });
  }

  Status operator()(const DropCdc&) {
    log::Info("dropping slot and publication");
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::DropCdc(admin, resolved_.spec, by); });
  }

  Status operator()(const Swap& action) {
    log::Info("swapping the triggers' bodies", {{"to", shadow::TierName(action.to)}});
    return InDatabase([&](postgres::Connection& admin, Deadline by) {
      return shadow::SwapBodies(admin, resolved_.spec, action.to, by);
    });
  }

  Status operator()(const SetDelivery& action) {
    log::Info("changing the delivery", {{"to", action.payload ? "Payload" : "Outbox"}});
    return InDatabase([&](postgres::Connection& admin, Deadline by) {
      return shadow::Deliver(admin, resolved_.spec, action.payload, by);
    });
  }

  Status operator()(const MakeAuditEvents&) {
    log::Info("making the table of events", {{"table", resolved_.audit_events}});
    std::string reader = seen_.database.monitor.has_value() ? seen_.database.monitor->user : "";
    return InDatabase([&](postgres::Connection& admin, Deadline by) {
      return shadow::MakeAuditEvents(admin, resolved_.audit_events, resolved_.spec.tables.front().source, reader, by);
    });
  }

  Status operator()(const KeepPartitionsAhead& action) {
    return InDatabase([&](postgres::Connection& admin, Deadline by) -> Status {
      PGTIER_ASSIGN_OR_RETURN(int made, shadow::EnsureAhead(admin, action.spec, by));
      log::Info("made partitions ahead", {{"table", action.spec.table}, {"partitions", std::to_string(made)}});
      return {};
    });
  }

  Status operator()(const DropExpiredPartitions& action) {
    return InDatabase([&](postgres::Connection& admin, Deadline by) -> Status {
      PGTIER_ASSIGN_OR_RETURN(auto dropped, shadow::DropExpired(admin, action.spec, action.retain, kDropsAPass, by));
      for (const std::string& name : dropped)
        log::Info("dropped a partition that was kept for long enough", {{"partition", name}});
      return {};
    });
  }

  Status operator()(const ForgetPartitionBound& action) {
    log::Warn("taking a bound back that no migration has finished", {{"table", action.spec.table}});
    return InDatabase(
        [&](postgres::Connection& admin, Deadline by) { return shadow::ForgetPartitioning(admin, action.spec, by); });
  }

  Status operator()(const AskDrained&) {
    return InDatabase([&](postgres::Connection& admin, Deadline by) -> Status {
      PGTIER_ASSIGN_OR_RETURN(bool drained, shadow::Drained(admin, resolved_.spec, by));
      if (drained) log::Info("the queue is drained");
      return {};
    });
  }

 private:
  // On one connection a pass, with the lock of those who act.
  Status InDatabase(const std::function<Status(postgres::Connection&, Deadline)>& work) {
    Deadline by = deadline_.AtMost(kDatabasePatience);
    if (!admin_.has_value()) {
      PGTIER_ASSIGN_OR_RETURN(postgres::Connection connection,
                              postgres::Connection::Open(seen_.database.admin, by, stop_));
      PGTIER_ASSIGN_OR_RETURN(bool locked, postgres::TryAdvisoryLock(connection, LockOf(resolved_.spec.policy), by));
      if (!locked) return MakeError(Code::kAborted, "another pgtier acts on this policy's tables now");
      admin_.emplace(std::move(connection));
    }
    return work(*admin_, by);
  }

  kube::Client& client_;
  const crds::ShadowTablePolicy& policy_;
  const Resolved& resolved_;
  const Seen& seen_;
  std::string& version_;
  Deadline deadline_;
  const std::stop_token& stop_;
  std::optional<postgres::Connection> admin_;
};

}  // namespace

Status Actor::Act(const Plan& plan, const crds::ShadowTablePolicy& policy, const Resolved& resolved, const Seen& seen,
                  std::string& version, Deadline deadline, const std::stop_token& stop) {
  Step step(*client_, policy, resolved, seen, version, deadline, stop);
  for (const Action& action : plan.actions) {
    if (stop.stop_requested()) return MakeError(Code::kCancelled, "stopping");
    PGTIER_RETURN_IF_ERROR(std::visit(step, action));
  }
  return {};
}

}  // namespace pgtier::controllers::shadow_table
