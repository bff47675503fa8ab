#include <algorithm>

#include "controllers/ladder/approval.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/report.h"
#include "core/words.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::shadow_table {
namespace {

std::vector<crds::PlanStep> StepsOf(const std::string& policy, const std::string& from, const std::string& to,
                                    bool payload) {
  const std::string worker = NotifyWorker(policy);
  const std::string cdc = CdcWorker(policy);
  const crds::PlanStep start{"start the worker " + worker + " and wait until it is ready", true};
  const crds::PlanStep drain{"wait for statements with the old bodies, and drain the queue", true};
  const crds::PlanStep stop{"stop the worker " + worker, true};
  const crds::PlanStep swap{"swap the bodies of the trigger functions: rows go into the histories", true};
  const crds::PlanStep end{"let the worker " + cdc + " write what was committed before, stop it, drop its slot", true};
  std::vector<crds::PlanStep> steps;
  if (to == "notify") {
    steps.push_back(start);
    if (from == "cdc") {
      steps.push_back({"cross the barrier: triggers write into the queue", true});
      steps.push_back(end);
    } else {
      steps.push_back(
          {"swap the bodies of the trigger functions: rows go into the queue, the worker moves them", true});
    }
    if (payload) steps.push_back({"let triggers send rows in notifications, which may be lost", true});
  } else if (to == "triggers") {
    if (from == "cdc") {
      steps.push_back({"cross the barrier: triggers write into the histories", true});
      steps.push_back(end);
    } else {
      steps.insert(steps.end(), {swap, drain, stop});
    }
  } else if (to == "cdc") {
    steps.push_back({"make publication, replica identities FULL and slot", true});
    steps.push_back({"start the worker " + cdc + " and wait until it reads the log", true});
    steps.push_back(
        {"cross the barrier: writers are held for less than a second, then the log alone has the changes", true});
    if (from == "notify") steps.insert(steps.end(), {drain, stop});
  }
  return steps;
}

Change DescribeChange(const crds::ShadowTablePolicy& policy, const Resolved& resolved, const std::string& from,
                      const std::string& to, std::optional<WallTime> since) {
  Change change{from, to, "", StepsOf(policy.meta.name, from, to, resolved.workers.payload), {{"tier", from, to}}};
  // What is hashed is text with a line for each part, so that no two plans run together.
  std::string text = "pgtier shadow plan 1\n" + resolved.spec.policy + "\n" + from + " " + to + " " +
                     (since.has_value() ? FormatTime(*since) : "") + "\n";
  if (from == "notify" || to == "notify") {
    const Workers& workers = resolved.workers;
    std::string count = std::to_string(workers.min) + " to " + std::to_string(workers.max);
    change.settings.push_back({"workers", from == "notify" ? count : "", to == "notify" ? count : ""});
    text += "workers=" + count + "\n";
    if (workers.payload) {
      change.settings.push_back({"delivery", from == "notify" ? "Payload" : "", to == "notify" ? "Payload" : ""});
      text += "delivery=Payload\n";
    }
  }
  for (const shadow::Table& table : resolved.spec.tables) text += "table=" + table.source + "\n";
  for (const crds::PlanStep& step : change.steps) text += step.name + "\n";
  change.hash = HashOfPlan(text);
  return change;
}

// What the preflight of the first tier has found of a table.
std::string FindingsOf(const Seen& seen, const std::string& table) {
  std::string text;
  auto preflight = seen.preflights.find(std::string(shadow::TierName(shadow::Tier::kTriggers)));
  if (preflight == seen.preflights.end() || !preflight->second.has_value()) return text;
  for (const shadow::Finding& finding : *preflight->second) {
    if (finding.object == table) text += (text.empty() ? "" : "; ") + finding.code + ": " + finding.message;
  }
  return text;
}

void FillTables(const Outcome& outcome, crds::ShadowTablePolicyStatus& status) {
  if (!outcome.seen.state.has_value()) return;
  status.tables.clear();
  const shadow::State& state = *outcome.seen.state;
  const std::vector<shadow::Table>& wanted = outcome.resolved.spec.tables;
  size_t installed = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    crds::ShadowTableStatus table{wanted[i].source, wanted[i].history, false, ""};
    if (i < state.tables.size()) {
      const shadow::TableState& seen = state.tables[i];
      table.shadow = seen.history.empty() ? table.shadow : seen.history;
      table.installed = seen.installed;
    }
    if (!table.installed) table.finding = FindingsOf(outcome.seen, table.name);
    if (table.installed) ++installed;
    status.tables.push_back(std::move(table));
  }
  status.summary.tables = std::to_string(installed) + "/" + std::to_string(wanted.size());
}

// In steps that do not rewrite the object at every pass.
std::string LagInWords(Duration lag) {
  constexpr Duration kStep = std::chrono::milliseconds(100);
  return lag < kStep ? "<100ms" : FormatDuration(std::chrono::round<std::chrono::milliseconds>(lag) / kStep * kStep);
}

void FillNumbers(const Outcome& outcome, crds::ShadowTablePolicyStatus& status) {
  const Seen& seen = outcome.seen;
  if (!seen.state.has_value()) return;
  const shadow::State& state = *seen.state;
  status.epoch = state.epoch;
  status.summary.queue = std::to_string(state.queue_depth);
  if (state.tier == shadow::Tier::kCdc) {
    // In steps: an idle server writes WAL too.
    int64_t mebibytes = state.slot.retained_bytes >> 20;
    status.summary.lag = mebibytes < 1 ? "<1MiB" : std::to_string(mebibytes) + "MiB";
    status.summary.workers = std::to_string(seen.cdc.ready) + "/1";
  } else {
    status.summary.lag =
        state.tier == shadow::Tier::kTriggers && state.queue_depth == 0 ? "0s" : LagInWords(state.oldest);
    bool works = seen.worker.exists || state.tier == shadow::Tier::kNotify;
    status.summary.workers =
        works ? std::to_string(seen.worker.ready) + "/" + std::to_string(outcome.workers) : std::string();
  }
  status.slot = {};
  if (state.slot.exists) status.slot = {outcome.resolved.spec.slot, state.slot.wal_status, state.slot.active};
}

void FillAuditEvents(const Outcome& outcome, crds::ShadowTablePolicyStatus& status) {
  if (std::string place = PlaceOf(outcome.seen.database); !place.empty()) status.database = place;
  if (outcome.resolved.audit_events.empty()) status.audit_events = {};
  if (!outcome.seen.audit_events.has_value()) return;
  const shadow::AuditEventsState& seen = *outcome.seen.audit_events;
  status.audit_events = {seen.name, seen.exists, core::FormatValue(static_cast<double>(seen.rows), core::Unit::kCount),
                         seen.finding};
}

// The plan of the change under way, else of the one that is due, else of the next rung.
void FillPlan(const Outcome& outcome, crds::ShadowTablePolicyStatus& status) {
  std::string to = status.next_tier;
  if (outcome.decision.from == status.tier && !outcome.decision.due.empty()) to = outcome.decision.due;
  if (!status.target_tier.empty()) to = status.target_tier;
  status.plan = {};
  if (status.tier.empty() || to.empty() || to == status.tier) return;
  Change change = DescribeChange(outcome.policy, outcome.resolved, status.tier, to, status.tier_since);
  status.plan = PlanStatusOf(outcome.policy.meta, outcome.policy.spec, outcome.policy.status.plan, change, outcome.now);
}

constexpr char kRetreated[] = "SlotInDanger";

// What a pass saw that made it go back to triggers by itself; empty: it did not.
std::string RetreatOf(const Outcome& outcome) {
  const Seen& seen = outcome.seen;
  if (outcome.policy.meta.deleting || !seen.state.has_value() || seen.state->tier != shadow::Tier::kCdc) return "";
  auto crosses = [](const Action& action) { return std::holds_alternative<CrossBarrier>(action); };
  bool crossed = std::any_of(outcome.plan.actions.begin(), outcome.plan.actions.end(), crosses);
  return crossed && outcome.failure.empty() ? SlotDanger(seen.state->slot, outcome.resolved) : "";
}

// No tier change that triggers asked for, and yet one: of its own kind in the history, from which the cooldown counts.
void NoteRetreat(const Outcome& outcome, crds::ShadowTablePolicyStatus& status) {
  const crds::ShadowTablePolicyStatus& before = outcome.policy.status;
  const std::string to(shadow::TierName(shadow::Tier::kTriggers));
  const std::string cdc(shadow::TierName(shadow::Tier::kCdc));
  std::string why = RetreatOf(outcome);
  // Crossed in a pass that could not write it down.
  bool found = !outcome.policy.meta.deleting && outcome.seen.state.has_value() && outcome.seen.state->installed &&
               before.tier == cdc && before.target_tier.empty() && outcome.seen.state->tier == shadow::Tier::kTriggers;
  if (why.empty() && !found) return;
  if (why.empty()) {
    const crds::Condition* degraded = crds::FindCondition(before.conditions, "Degraded");
    bool said = degraded != nullptr && degraded->reason == kRetreated;
    why = said ? degraded->message : "as the database has it recorded";
  }
  status.history.insert(status.history.begin(), {before.target_tier == cdc ? cdc : before.tier, to, outcome.now,
                                                 std::string(kRetreated) + ": " + why});
  if (status.history.size() > kHistoryLength) status.history.resize(kHistoryLength);
  status.tier = to;
  status.tier_since = outcome.now;
  status.target_tier.clear();
  for (crds::TierStatus& tier : status.tiers) {
    if (tier.name != to) continue;
    tier.entered_at = outcome.now;
    tier.reason = kRetreated;
    tier.message = why;
    tier.trigger.reset();
  }
}

}  // namespace

void RestAfterRetreat(const crds::ShadowTablePolicyStatus& status, WallTime now, Resolved& resolved) {
  // Not the last change alone: a pin may have brought it to notify meanwhile.
  auto last = std::find_if(status.history.begin(), status.history.end(), [](const crds::Transition& change) {
    return change.at.has_value() && change.reason.starts_with(kRetreated);
  });
  if (last == status.history.end()) return;
  WallTime end = *last->at + std::chrono::duration_cast<WallTime::duration>(resolved.ladder.cooldown);
  std::optional<size_t> cdc = core::FindTier(resolved.ladder, std::string(shadow::TierName(shadow::Tier::kCdc)));
  if (now >= end || !cdc.has_value()) return;
  core::Gate& gate = resolved.ladder.tiers[*cdc].blocked;
  if (!gate.reason.empty()) return;
  gate = {"Cooldown", "it was left because " + last->reason.substr(std::string(kRetreated).size() + 2) +
                          "; the cooldown ends at " + FormatTime(end)};
}

std::string RunningTier(const crds::ShadowTablePolicyStatus& status, const Resolved& resolved, const Seen& seen) {
  if (!seen.state.has_value() || !seen.state->installed) return status.tier;
  std::string recorded(shadow::TierName(seen.state->tier));
  bool known = core::FindTier(resolved.ladder, recorded).has_value();
  return known && recorded != status.target_tier ? recorded : status.tier;
}

void KeepHeldSlot(const Seen& seen, Resolved& resolved) {
  if (!seen.held_slot.empty()) resolved.spec.slot = seen.held_slot;
}

void FillPreflights(const Seen& seen, Resolved& resolved) {
  for (const auto& [name, findings] : seen.preflights) {
    std::optional<size_t> index = core::FindTier(resolved.ladder, name);
    // The first tier is not entered but installed: its plan says what stands in the way.
    if (!index.has_value() || *index == 0) continue;
    core::Tier& tier = resolved.ladder.tiers[*index];
    if (!tier.blocked.reason.empty()) continue;
    if (!findings.has_value()) {
      tier.blocked = {"PreflightUnknown",
                      "the database could not be asked what stands in the way: " + findings.error().message};
      continue;
    }
    std::string blocking = Blocking(*findings);
    if (!blocking.empty()) tier.blocked = {"PreflightFailed", blocking};
  }
}

void FillApprovals(const crds::ShadowTablePolicy& policy, const std::string& tier, Resolved& resolved) {
  auto hash = [&](size_t from, size_t to) {
    const std::vector<core::Tier>& tiers = resolved.ladder.tiers;
    return DescribeChange(policy, resolved, tiers[from].name, tiers[to].name, policy.status.tier_since).hash;
  };
  controllers::FillApprovals(policy.meta, policy.spec, policy.status, tier, hash, resolved.ladder);
}

crds::ShadowTablePolicyStatus MakeStatus(const Outcome& outcome) {
  crds::ShadowTablePolicyStatus status = outcome.policy.status;
  status.observed_generation = outcome.policy.meta.generation;
  LadderPass pass = outcome.Ladder();
  AdvanceLadder(pass, status);
  NoteRetreat(outcome, status);
  status.summary.closest = FillNext(pass, status);
  FillTables(outcome, status);
  FillNumbers(outcome, status);
  FillAuditEvents(outcome, status);
  FillPlan(outcome, status);
  status.conditions = MakeConditions(outcome, status);
  return status;
}

bool MustWrite(const crds::ShadowTablePolicyStatus& before, const crds::ShadowTablePolicyStatus& after,
               const Resolved& resolved, std::optional<WallTime> last_write, WallTime now) {
  Changes changes = CompareLadders(before, after, resolved.ladder, now);
  if (changes.decisive || before.epoch != after.epoch || before.tables != after.tables || before.slot != after.slot ||
      before.database != after.database || before.audit_events.exists != after.audit_events.exists ||
      before.audit_events.finding != after.audit_events.finding || before.summary.tables != after.summary.tables ||
      before.summary.workers != after.summary.workers) {
    return true;
  }
  bool numbers = changes.numbers || !(before.summary == after.summary) || before.audit_events != after.audit_events;
  return numbers && NumbersAreDue(last_write, resolved.interval, now);
}

}  // namespace pgtier::controllers::shadow_table
