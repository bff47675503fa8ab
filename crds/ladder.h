// What every policy with a ladder of tiers has, as C++ types: triggers, tiers, the spec's and the status' common
// fields. The YAML of each resource is the schema; absent optional fields stay absent here.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/decide.h"
#include "lib/base/clock.h"

namespace pgtier::crds {

inline constexpr char kGroup[] = "pgtier.dev";
inline constexpr char kVersion[] = "v1alpha1";

// The part of metav1.ObjectMeta that controllers read.
struct Meta {
  std::string namespace_;
  std::string name;
  std::string uid;
  std::string resource_version;
  int64_t generation = 0;
  bool deleting = false;
  std::vector<std::string> finalizers;
  std::map<std::string, std::string> annotations;  // Only those of pgtier.dev.
};

enum class Source { kPrometheus, kPooler, kSql, kHttp, kStatus, kDemand };

struct SqlSource {
  std::string query;  // One of these two.
  std::string rows_of;
  std::string count;  // Estimated | Exact, or empty.
};

struct HttpSource {
  std::string url, json_path, timestamp_path;
  std::optional<double> scale;
  std::optional<Duration> max_age;
  std::string token_secret, ca_secret;
};

struct TriggerSpec {
  core::Trigger rule;  // Threshold, unit, window and tolerances; gap is zero where the default is to be derived.
  Source source = Source::kDemand;
  std::string query;          // Prometheus: PromQL.
  std::string pooler_metric;  // Pooler: Utilisation | ClientsWaiting | MaxWait.
  SqlSource sql;
  HttpSource http;
  std::string status_field;  // Status: ReplicasNeeded.
};

// A tier as every ladder has it; each resource adds what runs in it.
struct TierRule {
  std::string name;
  std::string approval;  // Automatic | Required, or empty.
  core::Match match = core::Match::kAny;
  std::vector<TriggerSpec> triggers;
};

// What every ladder's spec has beside its tiers.
struct LadderSpec {
  bool observe_only = false;
  std::optional<Duration> metrics_interval;
  std::string prometheus_url;
  std::string prometheus_token_secret;
  std::string prometheus_ca_secret;
  std::optional<Duration> cooldown;
  std::vector<std::string> maintenance_windows;
  std::string down = "Never";
  std::string pin;
  std::vector<std::string> demands;
  std::string approved_plan;
  std::string deletion_policy = "Retain";
};

struct Condition {
  std::string type;
  std::string status;  // "True" | "False" | "Unknown"
  std::string reason;
  std::string message;
  int64_t observed_generation = 0;
  std::optional<WallTime> last_transition;
};

// One trigger as status shows it.
struct Observation {
  std::string name;
  std::string observed, threshold, window, source;  // In words.
  std::string leave;                                // When it is over, in words; empty: it does not say.
  core::TriggerMemory memory;
};

struct TierStatus {
  std::string name;
  std::optional<WallTime> entered_at;
  std::string reason, message;         // Why it was, or is being, entered.
  std::optional<Observation> trigger;  // What made the ladder enter it.
  std::vector<Observation> observations;
};

struct PlanStep {
  std::string name;
  bool reversible = true;
};

// A setting that differs between two tiers.
struct SettingChange {
  std::string field;  // Under a tier's own names: "pooler.defaultPoolSize".
  std::string from, to;
};

// What the next tier change would do, or the one under way does.
struct PlanStatus {
  std::string hash;  // Absent in statuses of a release before approvals.
  std::string from, to;
  std::string approved_by;  // Channel and time; empty: nobody has.
  std::vector<PlanStep> steps;
  std::vector<SettingChange> changes;
};

struct Transition {
  std::string from, to;
  std::optional<WallTime> at;
  std::string reason;
};

// What every ladder's status has.
struct LadderStatus {
  int64_t observed_generation = 0;
  std::string tier;
  std::optional<WallTime> tier_since;
  std::string next_tier;
  std::string target_tier;
  std::vector<TierStatus> tiers;
  PlanStatus plan;  // An empty hash: there is none.
  std::vector<Transition> history;
  std::vector<Condition> conditions;
};

// The condition of that type, or nullptr.
const Condition* FindCondition(const std::vector<Condition>& conditions, const std::string& type);

}  // namespace pgtier::crds
