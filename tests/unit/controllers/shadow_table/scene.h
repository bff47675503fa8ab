// A policy and a small world around it, all values: what MakePlan asks for happens at once, pods start when told to.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "controllers/ladder/pass_memory.h"
#include "controllers/shadow_table/report.h"
#include "tests/fake/manual_clock.h"

namespace pgtier::controllers::shadow_table {

// The policy data/audit of two tables in the database of kyoyu, with tiers triggers and notify (entered by the demand
// by-hand, or when insert-p99 is above 0.05 for 10 m; left below 0.02), and `changes` merged over it (RFC 7386).
nlohmann::json TwoTables(const nlohmann::json& changes = nlohmann::json::object());

class Scene {
 public:
  explicit Scene(const nlohmann::json& object = TwoTables());

  void Edit(const nlohmann::json& object);
  // One pass like the reconciler's. Gives what it did, in words, in order: "install", "apply Secret audit-notify",
  // "swap to notify", …
  std::vector<std::string> Pass();
  // Passes, with pods started and queues moved between them, until one is complete.
  void Settle();
  // The worker's pods become ready.
  void StartPods();
  // What the worker does: the queue is empty.
  void MoveRows();
  [[nodiscard]] crds::Condition ConditionOf(const std::string& type) const;

  crds::ShadowTablePolicy policy;
  Resolved resolved;
  Seen seen;
  Plan plan;  // Of the last pass.
  bool written = false;
  std::vector<Note> notes;
  WallTime now;
  std::string failure;      // What the first failing action of the passes to come says; empty: none fails.
  bool old_bodies = false;  // Statements still run with the bodies from before the last swap.
  bool finalized = false;   // The finalizer went.

 private:
  std::string Do(const Action& action);
  void SetTables();

  struct Remembered {
    fake::ManualClock clock;
    PassMemory memory{&clock};
  };
  std::unique_ptr<Remembered> remembered_ = std::make_unique<Remembered>();
};

// At rest in tier notify.
Scene InNotify(const nlohmann::json& changes = nlohmann::json::object());

// The demand `name`, or a trigger's value, as a reading.
void Read(Scene& scene, const std::string& trigger, core::Reading reading);

}  // namespace pgtier::controllers::shadow_table
