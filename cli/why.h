// `kubectl pgtier why`: where a policy stands, each trigger of each tier, and what is missing until it fires. Pure:
// from the object as the API server has it, and the time.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/table.h"
#include "crds/scale_tier_policy.h"
#include "crds/shadow_table_policy.h"
#include "lib/base/clock.h"

namespace pgtier::cli {

struct TriggerReport {
  std::string name, source;
  std::string state;      // Calm | Breached | Unknown | Firing | Off | On (of a demand)
  std::string value;      // The last reading in words; empty: there was none.
  std::string threshold;  // "> 80%"; empty for a demand.
  Duration window{0};     // `for`
  std::optional<WallTime> breached_since, observed_at;
  std::optional<Duration> so_far;  // Of the window, when it is open.
  std::string missing;             // What is missing until it fires; empty: nothing.
  std::string unknown_reason;
};

struct TierReport {
  std::string name;
  std::string standing;  // Current | Entered | Entering | Next | Later
  std::string match;     // any | all
  std::optional<WallTime> entered_at;
  std::string message;  // Why it was, or is being, entered.
  std::vector<TriggerReport> triggers;
};

// What may keep a tier that is due from being entered.
struct GateReport {
  std::string name;  // cooldown | maintenance-window | approval | available | pause | pin | mode
  bool open = true;
  std::string message;
};

struct ConditionReport {
  std::string type, status, reason, message;
};

// Of a ShadowTablePolicy: where its rows are.
struct ShadowReport {
  std::string queue, lag, workers;  // As status has them; in tier cdc `lag` is the WAL that the slot keeps.
  int64_t queue_alert = 0;
  int64_t epoch = 0;
  std::string database;  // "kyoyu-primary.data.svc:5432/kyoyu"
  crds::AuditEventsStatus audit_events;
  crds::ShadowSlotStatus slot;
  std::vector<crds::ShadowTableStatus> tables;
};

struct WhyReport {
  std::string name, namespace_;
  std::string tier, next_tier, target_tier;
  std::optional<WallTime> tier_since;
  bool status_is_old = false;  // The operator has not seen the present generation yet.
  std::vector<std::string> problems;
  std::vector<ConditionReport> conditions;  // Ready, and those that a person would want to know of.
  std::vector<TierReport> tiers;
  std::vector<GateReport> gates;  // Of the next tier.
  std::optional<ShadowReport> shadow;
};

WhyReport Explain(const crds::ScaleTierPolicy& policy, WallTime now);
WhyReport Explain(const crds::ShadowTablePolicy& policy, WallTime now);

// The shape in docs/cli.md.
nlohmann::json ToJson(const WhyReport& report);
std::string Render(const WhyReport& report, const Style& style, WallTime now);

}  // namespace pgtier::cli
