// A policy and a small world around it, all values: what MakePlan asks for happens at once, pods start when told to.
// Nothing here runs a process; the actor and the observer have tests of their own.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "controllers/scale_tier/plan.h"
#include "controllers/scale_tier/report.h"

namespace pgtier::controllers::scale_tier {

// The policy data/kyoyu with tiers `one` and `two` (2 replicas; entered when pool-utilisation is above 80 % for 10 m,
// or by the demand by-hand), one pooler pod an endpoint, and `changes` merged over it (RFC 7386).
nlohmann::json TwoTiers(const nlohmann::json& changes = nlohmann::json::object());

// The same before an external Postgres, db.example with the standbys a.example and b.example.
nlohmann::json ExternalTiers(const nlohmann::json& changes = nlohmann::json::object());

inline constexpr char kPrimaryHost[] = "kyoyu-primary.data.svc";

class Scene {
 public:
  // What one pass came to.
  struct Pass {
    core::Decision decision;
    Plan plan;
    crds::ScaleTierPolicyStatus status;  // As derived, whether or not it was written.
    bool written = false;
    std::vector<Note> notes;  // Of a write.
  };

  explicit Scene(const nlohmann::json& object = TwoTiers());

  // Replaces the spec by another, as an edit does: a new generation.
  void Edit(const nlohmann::json& object);

  [[nodiscard]] RenderContext context() const { return {policy, resolved, images}; }
  // The plan for a decision that goes, or stays, from `from` to `to`.
  [[nodiscard]] Plan PlanFor(const std::string& from, const std::string& to) const;
  // Does what the plan says, in its order. Pods of new StatefulSets and Deployments do not start yet.
  void Carry(const Plan& plan);
  // All pods start and answer; standbys stream and have caught up.
  void StartPods();
  // One pass like the reconciler's: decide by `readings`, plan, carry out, report, write the status if it must be.
  // Nothing is planned while the policy observes or is paused.
  Pass MakePass();
  // Passes, with pods started between them, until one is complete; a test failure when that takes too long.
  Pass Settle();

  // The instance or pooler pod of that name. They exist.
  InstanceSeen& Instance(const std::string& name);
  PoolerPodSeen& PoolerPod(const std::string& endpoint);
  // The hosts that the pooler pod of that endpoint runs with, without those that are banned: "kyoyu-2.data.svc,…".
  [[nodiscard]] std::string RoutedTo(const std::string& endpoint) const;
  // The condition of `policy.status` of that type; an empty one when there is none.
  [[nodiscard]] crds::Condition ConditionOf(const std::string& type) const;

  crds::ScaleTierPolicy policy;
  Resolved resolved;
  Images images{"postgres:release", "pgbouncer:release"};
  Seen seen;
  Credentials credentials{"pw-superuser", "pw-replication", "pw-pooler", "pw-monitor", "pw-pooler-admin", "pw-app", {}};
  WallTime now;
  std::string failure;  // What the first failing action of the passes to come says; empty: none fails.
  bool needs_person = false;
  bool paused = false;

 private:
  void Do(const Action& action);
  void StartInstances();
  void StartPoolers();
  void SetPaused(const std::vector<PoolerConsole>& consoles, bool held);
  void SetBan(const std::string& pod, const std::string& host, bool banned);
  // What is mounted now is loaded.
  void TakeConfiguration(InstanceSeen& instance);
  [[nodiscard]] core::Memory Recall() const;

  std::map<core::TriggerKey, core::TriggerMemory> triggers_;
  std::optional<core::ScalingMemory> scaling_;
  std::optional<WallTime> last_write_;
  int uids_ = 0;
};

// The demand `name` in spec.demands, or a trigger's value, as a reading of every tier's trigger of that name.
void Read(Scene& scene, const std::string& trigger, core::Reading reading);

// A plan's actions in words, in order: "apply Secret kyoyu-app", "slot pgtier_kyoyu_2", "record two", …
std::vector<std::string> InWords(const Plan& plan);
std::string InWords(const Action& action);

}  // namespace pgtier::controllers::scale_tier
