// A small world of servers that only obeys what a plan says, for tests of promotions from beginning to end.
#pragma once

#include <gmock/gmock.h>

#include <set>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {

class World {
 public:
  World() {
    scene.policy.spec.pin = "two";
    scene.resolved.ladder.pin = "two";
    scene.Settle();
    scene.Settle();
    for (const InstanceSeen& each : scene.seen.instances) {
      Server& server = servers_[each.name];
      server.writable = server.running = true;
      if (each.name == "kyoyu-1") continue;
      server.writable = false;
      server.signal = true;
    }
    Look();
  }

  void Ask(const std::string& request) {
    scene.policy.meta.annotations[kPromoteAnnotation] = request;
    Look();
  }

  // One pass of which only the first `actions` are carried out; then pods do what is wanted of them.
  Plan Pass(size_t actions = SIZE_MAX) {
    Look();
    Waited waited{waited_, how_long_};
    core::Decision decision;
    decision.from = decision.to = scene.seen.primary.tier;
    bool recovers = status_is_lost && !scene.seen.primary.answered;
    Result<Plan> planned = recovers ? MakeRecoveryPlan(scene.context(), scene.seen, scene.credentials, waited)
                                    : MakePlan(scene.context(), scene.seen, decision, scene.credentials, waited);
    EXPECT_TRUE(planned.has_value());
    Plan plan = *planned;
    std::string failure;
    for (size_t i = 0; i < plan.actions.size() && i < actions && failure.empty(); ++i) Do(plan.actions[i], failure);
    const std::string& waits = failure.empty() ? plan.waiting_for : failure;
    how_long_ = waits == waited_ ? how_long_ + std::chrono::seconds(5) : Duration::zero();
    waited_ = waits;
    RunPods();
    long writable = std::count_if(servers_.begin(), servers_.end(),
                                  [](const auto& each) { return each.second.running && each.second.writable; });
    EXPECT_LE(writable, 1) << "two primaries";
    Look();
    return plan;
  }

  // Passes until the promotion has ended.
  void Finish() {
    for (int i = 0; i < 60; ++i) {
      Pass();
      if (!scene.seen.promotion.Runs() && scene.seen.promotion.phase != PromotionPhase::kNone) return;
    }
    ADD_FAILURE() << "the promotion does not end; waiting for " << waited_;
  }

  [[nodiscard]] std::string Writable() const {
    for (const auto& [name, server] : servers_) {
      if (server.running && server.writable) return name;
    }
    return "";
  }
  // Whether it would come up as a standby from its next start on.
  [[nodiscard]] bool IsToBeStandby(const std::string& instance) const { return servers_.at(instance).signal; }
  Promotion& promotion() { return scene.seen.promotion; }
  // Passes until the promotion is on its way back.
  void Fail() {
    receives_everything = false;
    for (int i = 0; i < 40 && promotion().phase != PromotionPhase::kReturning; ++i) Pass();
    ASSERT_EQ(promotion().phase, PromotionPhase::kReturning);
  }
  // A command of before that was slow, or a person's own.
  void PromoteByHand(const std::string& instance) {
    servers_[instance].writable = true;
    servers_[instance].signal = false;
    Look();
  }
  nlohmann::json& Service() { return scene.seen.objects[{std::string(kube::kServices.plural), "kyoyu-primary"}]; }
  nlohmann::json& Set(const std::string& instance) {
    return scene.seen.objects[{std::string(kube::kStatefulSets.plural), instance}];
  }

  Scene scene;
  bool receives_everything = true;  // Whether the heir gets the end of a clean shutdown.
  bool primary_is_dead = false;
  bool status_is_lost = false;               // What the tier is, only the database knows.
  std::set<std::string> silent;              // These run, and answer nobody.
  std::set<std::string> dead;                // These do not start; what else is asked of their pods is done.
  std::set<std::string> slow;                // These are told to take writes, and do not yet.
  std::map<std::string, uint64_t> received;  // Where in the log each is.

 private:
  struct Server {
    bool running = false;
    bool writable = false;
    bool signal = false;  // standby.signal: at its next start it is a standby.
  };

  void Do(const Action& action, std::string& failure) {
    if (const auto* demote = std::get_if<DemotePrimary>(&action)) {
      if (primary_is_dead) return void(failure = "no answer");
      servers_[demote->promotion.from].signal = true;
      Promotion promotion = demote->promotion;
      promotion.fence.value = 1000;
      Service()["metadata"]["annotations"][kPromotionAnnotation] = EncodePromotion(promotion);
    } else if (const auto* promote = std::get_if<PromoteInstance>(&action)) {
      bool beside = !promote->old.empty() && servers_[promote->old].running;
      if (!promote->beside.empty()) {
        const Server& other = servers_["kyoyu-" + promote->beside.substr(promote->beside.size() - 1)];
        if (other.writable) return void(failure = "the heir takes writes");
      }
      EXPECT_FALSE(beside) << "promoted beside a running primary";
      Server& server = servers_[promote->instance];
      if (!server.writable && promote->proof && !receives_everything) {
        return void(failure = NotProven(promote->instance, promote->old));
      }
      EXPECT_TRUE(server.running);
      if (slow.contains(promote->instance)) return void(failure = "told to end recovery, and has not yet");
      server.writable = true;
      server.signal = false;
    } else {
      if (const auto* drop = std::get_if<DropSlot>(&action)) {
        if (!scene.seen.primary.slots.contains(drop->slot)) return;
      }
      Plan one;
      one.actions = {action};
      scene.Carry(one);
    }
  }

  // What the StatefulSet controller and kubelets do.
  void RunPods() {
    for (auto& [name, server] : servers_) {
      auto found = scene.seen.objects.find({std::string(kube::kStatefulSets.plural), name});
      if (found == scene.seen.objects.end()) {
        // Made anew around a pod that runs on; without its volume it is to be cloned.
        bool has_volume = scene.seen.Object(kube::kPersistentVolumeClaims, VolumeClaimName(name)) != nullptr;
        if (!has_volume) server = Server{false, false, true};
        continue;
      }
      nlohmann::json& set = found->second;
      bool wanted = kube::IntAt(set, {"spec", "replicas"}, 1) != 0;
      set["status"]["replicas"] = wanted ? 1 : 0;
      if (!wanted) server.running = false;
      if (dead.contains(name)) server.running = false;
      if (wanted && !server.running && !dead.contains(name) && !(name == "kyoyu-1" && primary_is_dead)) {
        server.running = true;
        // What was a primary's, and is not by what instances are told, is rewound (images/postgres/pgtier-postgres).
        const nlohmann::json& told = scene.seen.objects[{std::string(kube::kConfigMaps.plural), "kyoyu-postgres"}];
        if (DecodePrimary(told["data"]["primary"]).instance != name) server.signal = true;
        server.writable = !server.signal;
      }
    }
    if (primary_is_dead) servers_["kyoyu-1"].running = false;
  }

  // What Observe would read.
  void Look() {
    Seen& seen = scene.seen;
    RecallPromotion(scene.policy, seen);
    std::string selected = kube::StringAt(Service(), {"spec", "selector", kInstanceLabel});
    seen.primary_ordinal = selected.back() - '0';
    seen.positions.clear();
    for (InstanceSeen& each : seen.instances) {
      const Server& server = servers_[each.name];
      each.pod_ready = each.answered = server.running;
      each.pod_ip = server.running ? "10.0.0." + std::to_string(each.ordinal) : "";
      bool standby = server.running && !server.writable;
      each.streaming = standby && servers_[selected].writable && servers_[selected].running;
      each.replayed = seen.primary.wal;
      if (seen.primary.slots.contains(SlotName(each.name))) seen.primary.slots[SlotName(each.name)] = each.streaming;
      each.takes_writes = server.running && server.writable;
      if (silent.contains(each.name)) each.answered = false;
      if (!server.running || silent.contains(each.name)) continue;
      postgres::WalPosition position;
      position.in_recovery = standby;
      position.system_identifier = "7";
      position.timeline = 1;
      position.received = {received[each.name]};
      seen.positions[each.name] = position;
    }
    seen.primary.answered = servers_[selected].running && servers_[selected].writable;
    seen.primary.is_standby = servers_[selected].running && !servers_[selected].writable;
  }

  std::map<std::string, Server> servers_;
  std::string waited_;
  Duration how_long_{0};
};

inline bool AnyoneIsHeld(const World& world) {
  for (const PoolerPodSeen& pod : world.scene.seen.poolers) {
    for (const poolers::DatabaseStats& row : pod.databases) {
      if (row.paused) return true;
    }
  }
  return false;
}

}  // namespace pgtier::controllers::scale_tier
