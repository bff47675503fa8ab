#include "controllers/shadow_table/partitions.h"
#include "controllers/shadow_table/report.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers::shadow_table {
namespace {

// Rows wait longer in the queue than shadow tables may lag (100 to 500 ms) by more than a busy moment.
constexpr Duration kLateRows = std::chrono::seconds(10);

Saying SayReady(const Outcome& outcome, const crds::ShadowTablePolicyStatus& status) {
  const Seen& seen = outcome.seen;
  const LadderPass pass = outcome.Ladder();
  if (std::optional<Saying> unserved = SayUnserved(pass)) return *unserved;
  if (outcome.resolved.ladder.observe_only) return SayObserving(pass, status);
  if (!seen.state.has_value()) return {kFalse, seen.reason.empty() ? "DatabaseNotReady" : seen.reason, seen.error};
  if (!IsInstalled(*seen.state, outcome.resolved.spec)) {
    std::string why = outcome.failure.empty() ? "waiting for " + outcome.plan.waiting_for : outcome.failure;
    return {kFalse, ReasonIn(outcome.failure, "NotInstalled"), outcome.failure.empty() ? why : WithoutReason(why)};
  }
  if (seen.state->tier == shadow::Tier::kNotify && seen.worker.ready == 0) {
    std::string trouble = seen.worker.trouble.empty() ? "" : ": " + seen.worker.trouble;
    return {kFalse, "WorkerNotReady",
            "no worker runs" + trouble + "; " + std::to_string(seen.state->queue_depth) + " rows wait in the queue" +
                (seen.state->payload.under_way ? "" : ", none is lost")};
  }
  if (seen.state->tier == shadow::Tier::kCdc && seen.cdc.ready == 0) {
    std::string trouble = seen.cdc.trouble.empty() ? "" : ": " + seen.cdc.trouble;
    return {kFalse, "WorkerNotReady",
            "no worker reads the log" + trouble + "; slot " + outcome.resolved.spec.slot +
                " keeps what is not in the histories yet, nothing is lost"};
  }
  return {kTrue, Standing(pass, status), outcome.decision.message};
}

Saying SayStalled(const Outcome& outcome) {
  const LadderPass pass = outcome.Ladder();
  if (std::optional<Saying> refused = SayRefused(pass)) return *refused;
  if (outcome.seen.needs_person) return {kTrue, outcome.seen.reason, outcome.seen.error};
  return SayNeedsPerson(pass);
}

Saying SayDegraded(const Outcome& outcome) {
  if (!outcome.seen.state.has_value()) return {kFalse, "AsSpecified", ""};
  const shadow::State& state = *outcome.seen.state;
  const WorkerSeen& worker = outcome.seen.worker;
  if (state.dead_letters > 0) {
    return {kTrue, "DeadLetters",
            std::to_string(state.dead_letters) +
                " changes could not be written; see pgtier.shadow_dead_letters in the database"};
  }
  if (state.tier == shadow::Tier::kCdc) {
    std::string danger = SlotDanger(state.slot, outcome.resolved);
    if (!danger.empty()) return {kTrue, "SlotInDanger", danger + ": the policy goes back to triggers"};
  }
  if (state.checkpoint.has_value() && !state.checkpoint->ended) {
    std::string trouble = outcome.seen.cdc.trouble.empty() ? "" : ": " + outcome.seen.cdc.trouble;
    return {kTrue, "HistoryLags",
            "changes from before the way out of cdc are in the log alone; slot " + outcome.resolved.spec.slot +
                " keeps them for the worker" + trouble};
  }
  if (state.queue_depth > outcome.resolved.workers.queue_alert) {
    return {kTrue, "QueueAboveAlert",
            std::to_string(state.queue_depth) + " rows wait in the queue, more than queueAlert " +
                std::to_string(outcome.resolved.workers.queue_alert) + "; the oldest for " +
                FormatDuration(std::chrono::round<std::chrono::seconds>(state.oldest)) + ", " +
                std::to_string(worker.ready) + " of " + std::to_string(outcome.workers) + " workers run"};
  }
  if (std::string out = PartitionsRunOut(outcome); !out.empty()) return {kTrue, "PartitionsRunOut", out};
  if (state.queue_depth > 0 && state.oldest > kLateRows) {
    return {kTrue, "HistoryLags",
            "rows wait in the queue for " + FormatDuration(std::chrono::round<std::chrono::seconds>(state.oldest)) +
                "; " + std::to_string(worker.ready) + " of " + std::to_string(outcome.workers) + " workers run"};
  }
  if (outcome.seen.audit_events.has_value() && !outcome.seen.audit_events->finding.empty()) {
    return {kTrue, "AuditEventsNotFit", "auditEvents: " + outcome.seen.audit_events->finding};
  }
  return {kFalse, "AsSpecified", ""};
}

constexpr char kPayloadGaps[] = "PayloadGaps";
constexpr char kColumnsChanged[] = "ColumnsChanged";
constexpr char kLastChange[] = "; last seen: ";

// Without event triggers a change of a source's columns is carried over by the pass that sees it: what was written
// until then was written as the source was before, or not at all.
Saying SayDdl(const Outcome& outcome) {
  const crds::Condition* before = crds::FindCondition(outcome.policy.status.conditions, "DdlNotFollowed");
  if (!outcome.seen.state.has_value() || !outcome.seen.state->installed) {
    if (before != nullptr) return {before->status, before->reason, before->message};
    return {kFalse, "NotInstalled", ""};
  }
  const shadow::State& state = *outcome.seen.state;
  std::vector<std::string> changed;
  for (const shadow::Drift& drift : state.drifts) changed.push_back(drift.source + ": " + drift.what);
  if (!changed.empty()) {
    bool fixed = state.tier == shadow::Tier::kCdc;
    return {
        kTrue, kColumnsChanged,
        Join(changed) + (fixed ? "; in tier cdc tables can't be changed: go back to triggers (spec.pin: triggers)"
                               : "; the histories follow at this pass, and changes that were made until then lack it")};
  }
  if (state.follows_ddl) return {kFalse, "EventTriggers", ""};
  std::string last;
  if (before != nullptr && before->reason == kColumnsChanged) {
    last = kLastChange + before->message.substr(0, before->message.find("; the histories follow"));
  } else if (before != nullptr && before->message.find(kLastChange) != std::string::npos) {
    last = before->message.substr(before->message.find(kLastChange));
  }
  return {kTrue, "NoEventTriggers",
          outcome.seen.database.admin.user +
              " is no superuser: changes of the sources' columns are seen up to 15 s later, and rows written meanwhile "
              "may lack them, or be refused where a column is gone. Take a table out of the policy, change it, put it "
              "back" +
              last};
}

// What delivery Payload can lose, always while it may, and what it may have lost.
Saying SayLossless(const Outcome& outcome) {
  const shadow::PayloadState& payload = outcome.seen.state->payload;
  std::string gaps;
  if (payload.gaps > 0) {
    gaps = "rows may be missing of " + std::to_string(payload.gaps) +
           (payload.gaps == 1 ? " time: " : " times, the last: ") + payload.last_gap + " (table pgtier.shadow_gaps)";
  }
  if (!payload.under_way) return {kFalse, kPayloadGaps, gaps};
  std::string message =
      "delivery Payload: rows travel in notifications, which are lost when the worker dies, its connection or the "
      "server "
      "fails before they are written";
  if (!payload.listening) message += "; no worker listens, so rows go through the queue";
  return {kFalse, "PayloadDelivery", gaps.empty() ? message : message + "; " + gaps};
}

// A pause keeps nothing from being recorded, and no slot that fills the disk.
Saying SayPausedButGuarded(const Outcome& outcome) {
  Saying saying = SayPaused(outcome.Ladder());
  if (saying.status != kTrue) return saying;
  if (!outcome.plan.actions.empty() || !outcome.plan.waiting_for.empty()) {
    saying.message += "; tier cdc is left all the same, for a slot must not fill the disk";
    if (!outcome.plan.waiting_for.empty()) saying.message += ": waiting for " + outcome.plan.waiting_for;
  } else {
    saying.message += ": changes are kept as before, tiers and tables stay as they are";
  }
  return saying;
}

}  // namespace

std::vector<crds::Condition> MakeConditions(const Outcome& outcome, const crds::ShadowTablePolicyStatus& status) {
  const LadderPass pass = outcome.Ladder();
  const std::vector<crds::Condition>& before = outcome.policy.status.conditions;
  std::vector<std::pair<std::string, Saying>> sayings = {
      {"Ready", SayReady(outcome, status)},
      {"Reconciling", SayReconciling(pass, before)},
      {"Stalled", SayStalled(outcome)},
      {"Climbing", SayClimbing(pass, status)},
      {"ApprovalRequired", SayApproval(pass, status, "shadowtables")},
      {"MetricsAvailable", SayMetrics(pass, status)},
      {"Degraded", SayDegraded(outcome)},
      {"DdlNotFollowed", SayDdl(outcome)},
      {"Paused", SayPausedButGuarded(outcome)},
      {core::kNotAvailable, SayNotAvailable(outcome.resolved.Fields())}};
  if (outcome.seen.state.has_value()) {
    const shadow::PayloadState& payload = outcome.seen.state->payload;
    if (payload.under_way || payload.gaps > 0) sayings.emplace_back("Lossless", SayLossless(outcome));
  } else if (const crds::Condition* lossless = crds::FindCondition(before, "Lossless"); lossless != nullptr) {
    sayings.emplace_back("Lossless", Saying{lossless->status, lossless->reason, lossless->message});
  }
  if (outcome.resolved.partitioning.has_value()) {
    sayings.emplace_back("Partitioned", SayPartitioned(outcome));
    if (outcome.resolved.partitioning->compression.has_value()) {
      sayings.emplace_back("Compressed", SayCompressed(outcome));
    }
  } else if (std::optional<Saying> ends = SayPartitionsEnd(outcome); ends.has_value()) {
    sayings.emplace_back("Partitioned", *ends);
  }
  return DateConditions(std::move(sayings), pass, status, before);
}

}  // namespace pgtier::controllers::shadow_table
